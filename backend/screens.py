"""What the scanouts show: the sinks' view of the core's published frames, images and cursors.

One ``Screens`` stands between the core and every sink of a session. After each burst of commands the session calls
``publish``; each sink then learns which scanouts and cursors changed and adds the damage to its own regions. Sinks read
frames and hold images through here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from backend._core import ffi, lib
from backend.region import MAX_RECTS, Region

_RETIRED_BATCH = 64


@dataclass(frozen=True, slots=True)
class Frame:
    """A published frame of one scanout (``vg_frame``)."""

    generation: int
    """Changes with mode, geometry and clear."""
    sequence: int
    """Changes with every frame."""
    flush_ns: int
    """CLOCK_MONOTONIC of the flush that published it."""
    resource_id: int
    """0: nothing is shown, and everything below is 0."""
    width: int
    height: int
    x: int
    """Left edge of the scanout inside the image."""
    y: int
    format: int
    """``virtio_gpu_formats``."""
    image: int
    """Id of the image that holds the pixels."""


@dataclass(frozen=True, slots=True)
class Image:
    """A sealed memfd with a whole resource's pixels (``vg_image_info``)."""

    id: int
    fd: int
    """Owned by the core."""
    width: int
    height: int
    stride: int
    format: int
    size: int


@dataclass(frozen=True, slots=True)
class Cursor:
    """The cursor of one scanout (``vg_cursor``)."""

    generation: int
    x: int
    y: int
    hot_x: int
    hot_y: int
    resource_id: int
    visible: bool
    pixels: bytes
    """64 x 64 a8r8g8b8, bytes B G R A."""


class Sink(Protocol):
    """Somebody who shows scanouts. All calls come from the event loop and must return at once."""

    def scanout_changed(self, scanout: int, damage: Region) -> None:
        """The scanout has a new frame (``damage`` relative to it, valid during the call) or a new generation."""

    def cursor_changed(self, scanout: int) -> None:
        """Position, picture or visibility changed."""

    def images_retired(self, images: list[int]) -> None:
        """These images no longer exist."""

    def relieve(self) -> None:
        """The guest's frames wait for images that sinks hold: give back what has been held for long."""


class Screens:
    """The scanouts of one device.

    Args:
        core: the ``vg_device``.
    """

    def __init__(self, core: Any) -> None:
        self.core = core
        self._frame = ffi.new("vg_frame *")
        self._image = ffi.new("vg_image_info *")
        self._cursor = ffi.new("vg_cursor *")
        self._damage = Region()
        self._retired = ffi.new("uint64_t[]", _RETIRED_BATCH)
        self.sinks: list[Sink] = []

    def publish(self) -> None:
        """Tells every sink what changed since the last call."""
        dirty = lib.vg_take_dirty(self.core)
        if dirty:
            for scanout in _bits(dirty & 0xFFFF):
                self._take_damage(scanout)
                for sink in tuple(self.sinks):
                    sink.scanout_changed(scanout, self._damage)
            for scanout in _bits(dirty >> 16):
                for sink in tuple(self.sinks):
                    sink.cursor_changed(scanout)
        self._tell_retired()

    def frame(self, scanout: int) -> Frame:
        """What the scanout shows now."""
        lib.vg_scanout_frame(self.core, scanout, self._frame)
        f = self._frame
        return Frame(
            f.generation, f.sequence, f.flush_ns, f.resource_id, f.width, f.height, f.x, f.y, f.format, f.image
        )

    def cursor(self, scanout: int) -> Cursor:
        """The cursor of the scanout now."""
        lib.vg_cursor_describe(self.core, scanout, self._cursor)
        c = self._cursor
        return Cursor(
            c.generation, c.x, c.y, c.hot_x, c.hot_y, c.resource_id, bool(c.visible), bytes(ffi.buffer(c.pixels))
        )

    def image(self, image: int) -> Image:
        """Describes an image that is shown or held.

        Raises:
            KeyError: there is no such image.
        """
        if lib.vg_image_describe(self.core, image, self._image) < 0:
            raise KeyError(image)
        i = self._image
        return Image(i.id, i.fd, i.width, i.height, i.stride, i.format, i.size)

    def hold(self, image: int) -> None:
        """Keeps an image as it is until ``release`` (counted).

        Raises:
            KeyError: there is no such image.
        """
        if lib.vg_image_hold(self.core, image) < 0:
            raise KeyError(image)

    def hold_shown(self, scanout: int) -> Frame:
        """What the scanout shows now, its image held until ``release``.

        With a render thread, what ``frame`` told a moment ago may be neither shown nor held any more.
        """
        while True:
            frame = self.frame(scanout)
            if not frame.resource_id or lib.vg_image_hold(self.core, frame.image) == 0:
                return frame

    def release(self, image: int) -> None:
        """Ends a hold; ``publish`` afterwards, since a waiting frame may have come out."""
        lib.vg_image_release(self.core, image)

    @property
    def starved(self) -> bool:
        """Whether a flush waits because sinks hold every image of its resource."""
        return bool(lib.vg_images_starved(self.core))

    def _take_damage(self, scanout: int) -> None:
        region = self._damage.core
        region.count = max(lib.vg_scanout_take_damage(self.core, scanout, region.rects, MAX_RECTS), 0)

    def _tell_retired(self) -> None:
        while count := lib.vg_take_retired_images(self.core, self._retired, _RETIRED_BATCH):
            images = list(self._retired[0:count])
            for sink in tuple(self.sinks):
                sink.images_retired(images)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low
