"""The real viewer as a process: windows per scanout, connections that end and come back, its ends."""

from __future__ import annotations

import signal
import sys

import pytest

from protocol.viewer import Error, ErrorCode, Welcome
from tests.frontend.fakedaemon import FakeDaemon, SharedImage
from tests.frontend.test_renderer import noise
from tests.frontend.xscreen import ViewerProcess, XScreen, wait_until


def test_it_comes_back_after_the_daemon(viewer: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    for round_number in range(2):
        daemon.welcome(session=f"round-{round_number}")
        image = SharedImage(1, 200, 150)
        picture = noise(image, round_number)
        daemon.show(image)
        xscreen.wait_for_pixels(picture)
        path = daemon.path
        daemon.close()
        xscreen.wait_for_window("vhost-gpu - waiting for the guest")
        daemon.__init__(path)  # type: ignore[misc]  # the fixture closes this one
    assert viewer.process.poll() is None


def test_two_scanouts_are_two_windows(viewer: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome(scanouts=2)
    images = [SharedImage(1, 200, 150), SharedImage(2, 120, 100)]
    pictures = [noise(image, image.number) for image in images]
    daemon.show(images[1], scanout=1)
    daemon.show(images[0], scanout=0)
    second = xscreen.wait_for_window("session-1 - 120x100 - screen 2")
    first = xscreen.wait_for_window("session-1 - 200x150$")
    xscreen.run("xdotool", "windowmove", second, "300", "200")
    xscreen.wait_for_pixels(pictures[1], 300, 200)
    xscreen.wait_for_pixels(pictures[0])
    close_window(xscreen, second)
    wait_until(lambda: not xscreen.windows("screen 2"), "one window less")
    daemon.expect_done(daemon.frame(images[1], scanout=1), scanout=1)
    assert viewer.process.poll() is None
    close_window(xscreen, first)
    assert viewer.wait() == 0


def close_window(xscreen: XScreen, window: str) -> None:
    """Asks as a window manager does (ICCCM 4.2.8.1)."""
    xscreen.run(sys.executable, "-c", _ASK_TO_CLOSE, window)


_ASK_TO_CLOSE = """
import ctypes, sys
x = ctypes.CDLL('libX11.so.6')
x.XOpenDisplay.restype = ctypes.c_void_p
display = ctypes.c_void_p(x.XOpenDisplay(None))
x.XInternAtom.restype = ctypes.c_ulong
class Event(ctypes.Structure):
    _fields_ = [('type', ctypes.c_int), ('serial', ctypes.c_ulong), ('send', ctypes.c_int),
                ('display', ctypes.c_void_p), ('window', ctypes.c_ulong), ('message', ctypes.c_ulong),
                ('format', ctypes.c_int), ('data', ctypes.c_ulong * 5), ('pad', ctypes.c_long * 24)]
protocols, delete = (x.XInternAtom(display, name, 0) for name in (b'WM_PROTOCOLS', b'WM_DELETE_WINDOW'))
window = ctypes.c_ulong(int(sys.argv[1]))
event = Event(33, 0, 1, display, window, protocols, 32, (ctypes.c_ulong * 5)(delete, 0, 0, 0, 0))
assert x.XSendEvent(display, window, 0, ctypes.c_long(0), ctypes.byref(event))
x.XSync(display, 0)
"""


def test_no_session_yet_is_waited_for(viewer: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.accept()
    daemon.send(Error(ErrorCode.NO_SESSION, "no session"))
    daemon.welcome()
    xscreen.wait_for_window("session-1 - waiting for the guest")
    assert viewer.process.poll() is None


def test_a_protocol_fault_is_survived(viewer: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    daemon.send_packet(b"nonsense")
    daemon.welcome(session="again")
    xscreen.wait_for_window("again - waiting for the guest")
    assert viewer.process.poll() is None


def test_another_version_ends_it_with_a_message(viewer: ViewerProcess, daemon: FakeDaemon) -> None:
    daemon.accept()
    daemon.send(Welcome(1, "session-1", version=7))
    assert viewer.wait() == 1
    assert viewer.process.stderr is not None
    assert "version 7" in viewer.process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it(viewer: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen, number: int) -> None:
    daemon.welcome()
    xscreen.wait_for_window("session-1 - waiting for the guest")
    viewer.process.send_signal(number)
    assert viewer.wait() == 0


@pytest.mark.parametrize("viewer", [["--scale", "1:1"], ["--scale", "1:1", "--stats"]], indirect=True)
def test_it_sleeps_when_nothing_happens(viewer: ViewerProcess, daemon: FakeDaemon, xscreen: XScreen) -> None:
    daemon.welcome()
    image = SharedImage(1, 200, 150)
    picture = noise(image)
    daemon.show(image)
    xscreen.wait_for_pixels(picture[140:], y=140)  # below the statistics

    def wakeups() -> str:
        with open(f"/proc/{viewer.process.pid}/status") as status:
            return next(line for line in status if line.startswith("voluntary_ctxt_switches"))

    before: list[str] = [""]

    def asleep() -> bool:
        earlier, before[0] = before[0], wakeups()
        for _ in range(10):  # the time that ten looks at the screen take
            xscreen.grab()
        return earlier == before[0] == wakeups()

    wait_until(asleep, "no wake-ups while nothing changes")
