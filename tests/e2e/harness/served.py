"""One guest on our daemon, and what its two displays show."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from .daemon import Daemon
from .guest import Guest
from .moving import covered, held_still, wait_moving, wait_same_on_both
from .picture import Picture, difference
from .waiting import wait_until
from .watcher import Watcher


@dataclass
class Served:
    """The guest is booted; the daemon serves it."""

    guest: Guest
    daemon: Daemon

    def check_shows(self, expected: Picture) -> None:
        """QEMU's display and the viewer protocol come to show exactly this."""
        with Watcher(self.daemon.display) as watcher:
            watcher.wait_picture(expected)
        shown = wait_same_on_both(self.guest, self.daemon)
        assert not difference(shown, expected)

    def check_moves(self, name: str, least: float) -> Picture:
        """A picture of the program of this name: it covers a share of the screen, at least least, and moves."""
        first = wait_moving(self.guest, least)
        with held_still(self.guest, name):
            picture = wait_same_on_both(self.guest, self.daemon)
        assert picture.shape == first.shape
        assert covered(picture) > least
        with Watcher(self.daemon.display) as watcher:
            watcher.wait(lambda w: w.picture() is not None and difference(w.picture(), picture), "a later picture")
        return picture

    def check_no_error(self) -> None:
        """The daemon runs and has logged no error so far."""
        assert not re.findall(r"^\S+ (?:error|critical) .*", self.daemon.log(), re.MULTILINE)
        assert self.daemon.process.poll() is None

    def check_ends_well(self) -> None:
        """The session ends with its VMM, without an error."""
        self.guest.close()
        ended = r"session-1: .*(end|clos|gone)"
        wait_until(lambda: re.search(ended, self.daemon.log()), 10, "the session's end in the log")
        self.check_no_error()

    def record(self, command: str, part: Callable[[Picture], bool]) -> list[Picture]:
        """The frames that a viewer gets of a command in the guest, until the first that is no longer part of it."""
        frames: list[Picture] = []

        def ended(watcher: Watcher) -> bool:
            picture = watcher.picture()
            if picture is None or not part(picture):
                return bool(frames)
            if not frames or picture is not frames[-1]:
                frames.append(picture)
            return False

        with Watcher(self.daemon.display) as watcher, self.guest.program("recorded", command):
            watcher.wait(ended, f"{command} to its end", 60)
        return frames
