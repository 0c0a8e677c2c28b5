"""What a session's scanouts show, from the daemon's messages. No sockets here, and no drawing.

A frame is taken (read, uploaded) and then given back; only then the daemon sends the next, with all damage since.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from frontend.geometry import clip_all, signed
from frontend.images import MappedImage, read_cursor
from frontend.pixels import BYTE_ORDER, CURSOR_SIDE, CursorPicture, Picture
from protocol.errors import PeerError
from protocol.viewer import (
    MAX_RECTS,
    CursorImage,
    CursorPos,
    Frame,
    FrameDone,
    Image,
    ImageGone,
    Message,
    Scanout,
    Welcome,
)
from protocol.virtio_gpu import Rect

MAX_SCANOUTS = 16
MAX_SIDE = 1 << 16
"""Widest and highest mode that is believed."""
MAX_IMAGES = 4096
"""Images mapped at a time; each is an address range of at most a gibibyte."""
MAX_DAMAGE = 4 * MAX_RECTS
"""Rectangles that a frame not yet taken collects before its whole picture counts as damaged."""


@dataclass(frozen=True, slots=True)
class Counters:
    """What happened on a scanout since the connection was made."""

    frames: int = 0
    """Frames taken."""
    skipped: int = 0
    """Frames that the daemon left out because newer ones came before this viewer was ready."""


class Screen:
    """One scanout."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.enabled = False
        """Whether anything is scanned out."""
        self.size = (0, 0)
        """Width and height of the mode in pixels."""
        self.generation = 0
        """Of the newest mode change or clear."""
        self.cursor: CursorPicture | None = None
        """The visible cursor, or none."""
        self.cursor_at = (0, 0)
        """Upper left corner of the cursor's picture on the scanout; may be negative.

        Guests send the plane's position, not the hot spot's: Linux sends crtc_x and crtc_y, and Spice and OpenGL
        displays of QEMU draw the picture's corner there. The hot spot is at cursor_at + (hot_x, hot_y).
        """
        self.counters = Counters()
        self.pending: Frame | None = None
        """The frame to be taken."""
        self.seen: tuple[int, int] | None = None
        """Generation and format of the last frame taken; None: the next one is to be read whole."""

    def cursor_rect(self) -> Rect | None:
        """The visible cursor's place on the scanout; None without one."""
        if not self.enabled or self.cursor is None:
            return None
        return Rect(*self.cursor_at, CURSOR_SIDE, CURSOR_SIDE)


class Screens:
    """All scanouts of a session, and the images that frames name."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        """send: gives a message to the daemon."""
        self._send = send
        self._images: dict[int, MappedImage] = {}
        self._handlers: dict[type[Message], Callable[[Any, list[int]], None]] = {
            Welcome: self._on_welcome,
            Image: self._on_image,
            ImageGone: self._on_image_gone,
            Scanout: self._on_scanout,
            Frame: self._on_frame,
            CursorImage: self._on_cursor_image,
            CursorPos: self._on_cursor_pos,
        }
        self.session = ""
        """The session's name; empty until the daemon said it."""
        self.screens: list[Screen] = []
        """The session's scanouts; empty until the daemon said how many."""
        self.changed: set[int] = set()
        """Scanouts with news since the owner last cleared it."""

    def reset(self) -> None:
        """Forgets everything: the connection is gone."""
        self.changed.update(screen.index for screen in self.screens)
        self.screens = []
        self.session = ""
        self._images.clear()

    def handle(self, message: Message, fds: list[int]) -> None:
        """Applies a message; the caller closes its descriptors. PeerError: it makes no sense."""
        handler = self._handlers.get(type(message))
        if handler is None:
            raise PeerError(f"unexpected {type(message).__name__}")
        if bool(self.screens) == isinstance(message, Welcome):
            raise PeerError(f"{type(message).__name__} {'twice' if self.screens else 'before Welcome'}")
        handler(message, fds)

    def take(self, index: int) -> Picture | None:
        """The newest frame of a scanout with the damage since the last one taken, or None when there is no new one.

        Its pixels may be read until `give_back`. PeerError: the frame lies outside its image.
        """
        frame = self.screens[index].pending if index < len(self.screens) else None
        if frame is None:
            return None
        screen = self.screens[index]
        pixels = self._images[frame.image].view(frame.x, frame.y, *screen.size)
        known = screen.seen == (frame.generation, frame.format)
        damage = frame.damage if known else (Rect(0, 0, *screen.size),)
        return Picture(pixels, frame.format, damage, frame.sequence, frame.flush_ns)

    def give_back(self, index: int, picture: Picture) -> None:
        """Tells the daemon that a picture taken is no longer read."""
        screen = self.screens[index]
        screen.counters = replace(screen.counters, frames=screen.counters.frames + 1)
        screen.seen = (screen.generation, picture.format)
        screen.pending = None
        self._send(FrameDone(index, picture.sequence))

    def drop(self, index: int) -> None:
        """Gives a scanout's new frame back unseen."""
        screen = self.screens[index]
        frame, screen.pending = screen.pending, None
        if frame is not None:
            screen.seen = None
            self._send(FrameDone(index, frame.sequence))

    def _screen(self, index: int) -> Screen:
        if index >= len(self.screens):
            raise PeerError(f"scanout {index} of {len(self.screens)}")
        return self.screens[index]

    def _on_welcome(self, message: Welcome, fds: list[int]) -> None:  # noqa: ARG002
        if not 1 <= message.num_scanouts <= MAX_SCANOUTS:
            raise PeerError(f"{message.num_scanouts} scanouts")
        self.session = message.session
        self.screens = [Screen(index) for index in range(message.num_scanouts)]
        self.changed.update(range(message.num_scanouts))

    def _on_image(self, message: Image, fds: list[int]) -> None:
        if message.image in self._images or len(self._images) >= MAX_IMAGES:
            raise PeerError(f"image {message.image} twice, or more than {MAX_IMAGES}")
        self._images[message.image] = MappedImage(message, fds[0])

    def _on_image_gone(self, message: ImageGone, fds: list[int]) -> None:  # noqa: ARG002
        if self._images.pop(message.image, None) is None:
            raise PeerError(f"image {message.image}, which is unknown, is gone")
        for screen in self.screens:
            if screen.pending is not None and screen.pending.image == message.image:
                self.drop(screen.index)

    def _on_scanout(self, message: Scanout, fds: list[int]) -> None:  # noqa: ARG002
        screen = self._screen(message.scanout)
        size = (message.width, message.height)
        if message.enabled and not all(0 < side <= MAX_SIDE for side in size):
            raise PeerError(f"mode of {size[0]}x{size[1]}")
        self.drop(screen.index)
        screen.enabled, screen.generation = bool(message.enabled), message.generation
        screen.size = size if message.enabled else (0, 0)
        self.changed.add(screen.index)

    def _on_frame(self, message: Frame, fds: list[int]) -> None:  # noqa: ARG002
        screen = self._screen(message.scanout)
        screen.counters = replace(screen.counters, skipped=screen.counters.skipped + message.skipped)
        if not screen.enabled or message.generation < screen.generation:
            self._send(FrameDone(screen.index, message.sequence))
            return
        self._check_frame(message, screen)
        earlier = screen.pending.damage if screen.pending is not None else ()
        damage = (*earlier, *clip_all(message.damage, screen.size))
        if len(damage) > MAX_DAMAGE:
            damage = (Rect(0, 0, *screen.size),)
        screen.pending = replace(message, damage=damage)
        self.changed.add(screen.index)

    def _check_frame(self, message: Frame, screen: Screen) -> None:
        if message.generation > screen.generation:
            raise PeerError(f"frame of generation {message.generation} before its mode")
        image = self._images.get(message.image)
        if image is None or message.format != image.format or message.format not in BYTE_ORDER:
            raise PeerError(f"frame of image {message.image}, which is unknown or of another format")
        image.view(message.x, message.y, *screen.size)

    def _on_cursor_image(self, message: CursorImage, fds: list[int]) -> None:
        screen = self._screen(message.scanout)
        screen.cursor = CursorPicture(read_cursor(fds[0]), message.hot_x, message.hot_y) if message.visible else None
        self.changed.add(screen.index)

    def _on_cursor_pos(self, message: CursorPos, fds: list[int]) -> None:  # noqa: ARG002
        screen = self._screen(message.scanout)
        screen.cursor_at = (signed(message.x), signed(message.y))
        if screen.cursor is not None:
            self.changed.add(screen.index)
