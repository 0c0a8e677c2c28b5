"""What the daemon's messages make of the screens, without a socket."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.screens import MAX_DAMAGE, Screens
from protocol.errors import PeerError
from protocol.viewer import (
    CursorImage,
    CursorPos,
    Error,
    Frame,
    FrameDone,
    Image,
    ImageGone,
    Message,
    Scanout,
    Welcome,
    decode_from_daemon,
)
from protocol.virtio_gpu import Rect
from tests.frontend.fakedaemon import SharedImage, memfd


class Kit:
    """Screens of a session with one image on its first scanout."""

    def __init__(self, welcome: bool = True) -> None:
        self.sent: list[Message] = []
        self.screens = Screens(self.sent.append)
        self.shared = SharedImage(7, 40, 30)
        if welcome:
            self.screens.handle(Welcome(2, "s"), [])
            self.screens.handle(self.shared.message(), [self.shared.fd])
            self.mode(1)

    def mode(self, generation: int, width: int = 40, height: int = 30, enabled: bool = True) -> None:
        self.screens.handle(Scanout(0, enabled, generation, width, height), [])

    def frame(self, sequence: int, *damage: Rect, generation: int = 1, **changes: int) -> None:
        numbers = {"scanout": 0, "format": self.shared.format, "image": 7, "x": 0, "y": 0, "skipped": 0, **changes}
        self.screens.handle(Frame(generation=generation, sequence=sequence, flush_ns=5, damage=damage, **numbers), [])

    def take(self) -> tuple[Rect, ...]:
        """Takes and gives back; returns the damage."""
        picture = self.screens.take(0)
        assert picture is not None
        self.screens.give_back(0, picture)
        return picture.damage


WHOLE = Rect(0, 0, 40, 30)
SMALL = Rect(1, 2, 3, 4)


def test_the_first_frame_of_a_mode_is_read_whole_and_later_ones_where_they_changed() -> None:
    kit = Kit()
    kit.frame(1, SMALL)
    assert kit.take() == (WHOLE,)
    assert kit.screens.take(0) is None
    kit.frame(2, SMALL)
    assert kit.take() == (SMALL,)
    kit.mode(2)
    kit.frame(3, SMALL, generation=2)
    assert kit.take() == (WHOLE,)
    assert kit.sent == [FrameDone(0, 1), FrameDone(0, 2), FrameDone(0, 3)]
    assert kit.screens.screens[0].counters.frames == 3


def test_a_picture_is_the_image_at_the_scanouts_place() -> None:
    kit = Kit()
    kit.mode(2, 10, 5)
    kit.frame(1, SMALL, generation=2, x=30, y=25)
    kit.shared.pixels[25, 30] = (9, 8, 7, 6)
    picture = kit.screens.take(0)
    assert picture is not None
    assert picture.size == (10, 5)
    assert picture.pixels[0, 0].tolist() == [9, 8, 7, 6]
    assert picture.flush_ns == 5


def test_damage_is_clipped_and_adds_up_until_it_is_too_much() -> None:
    kit = Kit()
    kit.frame(1)
    kit.take()
    kit.frame(2, SMALL, Rect(39, 29, 100, 2**32 - 1), Rect(40, 0, 1, 1))
    kit.frame(3, Rect(5, 5, 1, 1))
    assert kit.take() == (SMALL, Rect(39, 29, 1, 1), Rect(5, 5, 1, 1))
    for sequence in range(4, 5 + MAX_DAMAGE):
        kit.frame(sequence, SMALL)
    assert kit.take() == (WHOLE,)
    assert kit.sent[-1] == FrameDone(0, 4 + MAX_DAMAGE)


def test_an_old_generations_frame_is_given_back_unseen() -> None:
    kit = Kit()
    kit.mode(5)
    kit.frame(1, SMALL, generation=4)
    assert kit.screens.take(0) is None
    assert kit.sent == [FrameDone(0, 1)]


def test_a_mode_change_gives_the_waiting_frame_back() -> None:
    kit = Kit()
    kit.frame(1, SMALL)
    kit.mode(2, 0, 0, enabled=False)
    assert kit.screens.take(0) is None
    assert kit.sent == [FrameDone(0, 1)]
    assert kit.screens.screens[0].size == (0, 0)
    kit.frame(2, SMALL, generation=2)
    assert kit.sent[1:] == [FrameDone(0, 2)]


def test_a_dropped_frame_makes_the_next_one_whole() -> None:
    kit = Kit()
    kit.frame(1)
    kit.take()
    kit.frame(2, SMALL)
    kit.screens.drop(0)
    kit.frame(3, SMALL)
    assert kit.take() == (WHOLE,)
    kit.screens.drop(0)
    assert kit.sent == [FrameDone(0, 1), FrameDone(0, 2), FrameDone(0, 3)]


def test_an_image_that_goes_takes_its_waiting_frame_along() -> None:
    kit = Kit()
    kit.frame(1)
    kit.screens.handle(ImageGone(7), [])
    assert kit.screens.take(0) is None
    assert kit.sent == [FrameDone(0, 1)]
    with pytest.raises(PeerError):
        kit.frame(2)


def test_a_picture_outlives_its_image() -> None:
    kit = Kit()
    kit.frame(1)
    picture = kit.screens.take(0)
    kit.screens.reset()
    assert picture is not None
    assert not picture.pixels.any()


def test_skipped_frames_add_up() -> None:
    kit = Kit()
    kit.frame(1, skipped=3)
    kit.take()
    kit.frame(2, skipped=4)
    assert kit.screens.screens[0].counters.skipped == 7


def test_the_cursor() -> None:
    kit = Kit()
    screen = kit.screens.screens[0]
    kit.screens.changed.clear()
    kit.screens.handle(CursorPos(0, 2**32 - 3, 7), [])
    assert screen.cursor_rect() is None
    assert not kit.screens.changed
    fd = memfd(bytes(16384))
    kit.screens.handle(CursorImage(0, 4, 5, True, 1), [fd])
    assert screen.cursor is not None
    assert (screen.cursor.hot_x, screen.cursor.hot_y) == (4, 5)
    assert screen.cursor_rect() == Rect(-3, 7, 64, 64)
    assert kit.screens.changed == {0}
    kit.screens.handle(CursorImage(0, 0, 0, False, 2), [])
    assert screen.cursor_rect() is None


@pytest.mark.parametrize(
    "changes",
    [
        {"image": 8},
        {"format": 2**32 - 1},
        {"format": 1},
        {"x": 1},
        {"y": 2**32 - 1},
        {"scanout": 2},
        {"generation": 2},
    ],
)
def test_frames_that_make_no_sense(changes: dict[str, int]) -> None:
    kit = Kit()
    with pytest.raises(PeerError):
        kit.frame(1, SMALL, **changes)


@pytest.mark.parametrize(
    "message",
    [
        Welcome(1, "again"),
        ImageGone(8),
        Scanout(2, False, 1, 0, 0),
        Scanout(0, True, 2, 0, 5),
        Scanout(0, True, 2, 5, 2**20),
        CursorPos(9, 0, 0),
        CursorImage(2**32 - 1, 0, 0, False, 1),
        Error(1, "not for the screens"),
        Image(7, 4096, 8, 8, 32, 1),
    ],
)
def test_messages_that_make_no_sense(message: Message) -> None:
    kit = Kit()
    with pytest.raises(PeerError):
        kit.screens.handle(message, [kit.shared.fd])


@pytest.mark.parametrize("scanouts", [0, 17, 2**32 - 1])
def test_a_welcome_that_makes_no_sense(scanouts: int) -> None:
    with pytest.raises(PeerError):
        Kit(welcome=False).screens.handle(Welcome(scanouts, "s"), [])


def test_nothing_before_the_welcome() -> None:
    with pytest.raises(PeerError, match="before Welcome"):
        Kit(welcome=False).screens.handle(CursorPos(0, 0, 0), [])


NUMBERS = st.one_of(st.integers(0, 3), st.sampled_from([7, 30, 40, 41, 64, 2**16, 2**31, 2**32 - 1]))
RECTS = st.lists(st.builds(Rect, NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=4).map(tuple)
MESSAGES = st.one_of(
    st.builds(Scanout, NUMBERS, st.booleans(), NUMBERS, NUMBERS, NUMBERS),
    st.builds(Frame, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.just(7), NUMBERS, NUMBERS, NUMBERS, damage=RECTS),
    st.builds(CursorPos, NUMBERS, NUMBERS, NUMBERS),
    st.builds(ImageGone, st.integers(7, 8)),
    st.builds(Image, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
)


@given(st.lists(MESSAGES, max_size=12))
def test_any_messages_are_applied_or_refused(messages: list[Message]) -> None:
    kit = Kit()
    for message in messages:
        try:
            kit.screens.handle(message, [kit.shared.fd] * message.fds)
        except PeerError:
            continue
        for index in range(2):
            picture = kit.screens.take(index)
            if picture is not None:
                for rect in picture.damage:
                    part = picture.pixels[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]
                    assert part.shape == (rect.height, rect.width, 4)
                assert np.count_nonzero(picture.pixels) == 0
                kit.screens.give_back(index, picture)


@given(st.binary(max_size=200))
def test_any_packet_is_a_message_or_refused(packet: bytes) -> None:
    kit = Kit()
    try:
        kit.screens.handle(decode_from_daemon(packet, []), [])
    except PeerError:
        return
