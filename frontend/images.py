"""Shared memory from the daemon, checked so that reading it can't fail: a mapping cut short would be SIGBUS."""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np

from frontend.pixels import BYTE_ORDER, CURSOR_BYTES, Pixels, cursor_rgba
from protocol.errors import PeerError
from protocol.viewer import Image

MAX_IMAGE_BYTES = 1 << 30
"""Largest image that is mapped. A daemon's --max-hostmem is far below it."""


class MappedImage:
    """An image's pixels, mapped read-only. The mapping ends when the object and all views of it are gone."""

    def __init__(self, message: Image, fd: int) -> None:
        """Maps the memory; the caller closes fd. PeerError: the memory can't be what the message says."""
        _check_shape(message)
        _check_memory(fd, message.size)
        self.format = message.format
        """A virtio-gpu `Format`."""
        try:
            memory = mmap.mmap(fd, message.stride * message.height, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)
        except OSError as error:
            raise PeerError(f"image {message.image} can't be mapped: {error.strerror}") from error
        rows = np.frombuffer(memory, np.uint8).reshape(message.height, message.stride)
        self._pixels = rows[:, : message.width * 4].reshape(message.height, message.width, 4)

    def view(self, x: int, y: int, width: int, height: int) -> Pixels:
        """The pixels of a rectangle, not copied: (height, width, 4). PeerError: it is not inside the image."""
        rows, columns = self._pixels.shape[:2]
        if x + width > columns or y + height > rows:
            raise PeerError(f"{width}x{height} at {x},{y} is not inside an image of {columns}x{rows}")
        return self._pixels[y : y + height, x : x + width]


def read_cursor(fd: int) -> Pixels:
    """A cursor's pixels, copied, as `cursor_rgba` makes them; the caller closes fd. PeerError: no cursor's memory."""
    _check_memory(fd, CURSOR_BYTES)
    data = os.pread(fd, CURSOR_BYTES, 0)
    if len(data) != CURSOR_BYTES:
        raise PeerError(f"cursor of {len(data)} bytes")
    return cursor_rgba(data)


def _check_shape(message: Image) -> None:
    if message.format not in BYTE_ORDER:
        raise PeerError(f"image in unknown format {message.format}")
    if not message.width or not message.height or message.stride < message.width * 4:
        raise PeerError(f"image of {message.width}x{message.height}, stride {message.stride}")
    if not message.stride * message.height <= message.size <= MAX_IMAGE_BYTES:
        raise PeerError(f"image of {message.width}x{message.height} in {message.size} bytes")


def _check_memory(fd: int, size: int) -> None:
    """The memory must be as long as promised and must have no way to become shorter."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise PeerError("a descriptor is not a sealed memfd") from None
    if not seals & fcntl.F_SEAL_SHRINK:
        raise PeerError("a memfd is not sealed against shrinking")
    length = os.fstat(fd).st_size
    if length < size:
        raise PeerError(f"a memfd has {length} bytes where {size} belong")
