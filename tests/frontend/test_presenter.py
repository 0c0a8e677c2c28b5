"""What the real viewer uploads and shows: damage and what moved, and nothing else."""

from __future__ import annotations

from tests.frontend.fakedaemon import FakeDaemon, SharedImage
from tests.frontend.test_renderer import noise
from tests.frontend.test_window import arrow
from tests.frontend.xscreen import ViewerProcess, XScreen

Place = tuple[int, int, int, int]
MARK = (600, 400, 1, 1)


def begin(daemon: FakeDaemon, xscreen: XScreen, recorded: ViewerProcess) -> SharedImage:
    """A picture over the whole screen, shown; what led there is told already."""
    daemon.welcome()
    image = SharedImage(1, 640, 480)
    picture = noise(image)
    daemon.show(image)
    xscreen.wait_for_pixels(picture)
    for column in range(100):
        mark = [column, 400, 1, 1]
        daemon.expect_done(daemon.frame(image, [(column, 400, 1, 1)]))
        while recorded.told_until("upload")[-1][1] != [mark]:
            pass
        if recorded.told_until("show")[-1][1] == [mark]:  # a window's own events have it painted whole at first
            break
    return image


def until_mark(daemon: FakeDaemon, recorded: ViewerProcess, image: SharedImage) -> list[object]:
    """What was done before a last frame's damage in the corner."""
    daemon.expect_done(daemon.frame(image, [MARK]))
    end = [["upload", [list(MARK)]], ["show", [list(MARK)]]]
    told: list[object] = []
    while told[-2:] != end:
        told += recorded.told_until("show")
    return told[:-2]


def test_only_damage_is_uploaded_and_shown(recorded: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    image = begin(daemon, xscreen, recorded)
    damage: list[Place] = [(10, 20, 30, 40), (0, 470, 640, 10)]  # too far apart to be joined
    daemon.expect_done(daemon.frame(image, damage))
    upload, show = recorded.told_until("show")
    assert upload == ["upload", [list(part) for part in damage]]
    assert sorted(show[1]) == sorted(upload[1])
    assert until_mark(daemon, recorded, image) == []


def test_nothing_is_drawn_for_news_that_change_nothing(
    recorded: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen
) -> None:
    image = begin(daemon, xscreen, recorded)
    daemon.move_cursor(5, 6)  # there is none
    daemon.hide_cursor()
    daemon.expect_done(daemon.frame(image, [(640, 0, 5, 5)]))  # outside the picture
    assert until_mark(daemon, recorded, image) == [["upload", []]]


def test_a_cursor_that_moves_uploads_nothing(recorded: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    image = begin(daemon, xscreen, recorded)
    daemon.cursor(arrow())
    assert recorded.told_until("show") == [["upload", [[0, 0, 64, 64]]], ["show", [[0, 0, 64, 64]]]]
    daemon.move_cursor(3, 0)
    assert recorded.told_until("show") == [["show", [[0, 0, 67, 64]]]]
    daemon.move_cursor(3, 0)  # it is there already
    assert until_mark(daemon, recorded, image) == []
