"""Memory that can't be what the daemon says is refused before it is read."""

import fcntl
import os

import numpy as np
import pytest

from frontend.images import MAX_IMAGE_BYTES, MappedImage, read_cursor
from protocol.errors import PeerError
from protocol.viewer import Image
from tests.frontend.fakedaemon import SharedImage, memfd


def test_a_view_is_the_shared_memory_itself() -> None:
    shared = SharedImage(1, 20, 10, pad=3)
    image = MappedImage(shared.message(), shared.fd)
    view = image.view(5, 2, 10, 4)
    shared.pixels[3, 6] = (1, 2, 3, 4)
    assert view.shape == (4, 10, 4)
    assert view[1, 1].tolist() == [1, 2, 3, 4]
    assert not view.flags.writeable
    assert np.shares_memory(view, image.view(0, 0, 20, 10))


def test_a_view_outside_the_image() -> None:
    shared = SharedImage(1, 20, 10)
    image = MappedImage(shared.message(), shared.fd)
    for part in [(1, 0, 20, 10), (0, 1, 20, 10), (2**32 - 1, 0, 1, 1), (0, 0, 0, 11)]:
        with pytest.raises(PeerError, match="not inside"):
            image.view(*part)


@pytest.mark.parametrize(
    "message",
    [
        Image(1, 4096, 8, 8, 32, 77),
        Image(1, 4096, 0, 8, 32, 1),
        Image(1, 4096, 8, 0, 32, 1),
        Image(1, 4096, 8, 8, 31, 1),
        Image(1, 255, 8, 8, 32, 1),
        Image(1, 4097, 8, 8, 32, 1),
        Image(1, MAX_IMAGE_BYTES + 1, 8, 8, 32, 1),
        Image(1, 2**64 - 1, 2**30, 2**32 - 1, 2**32 - 1, 1),
    ],
)
def test_impossible_images(message: Image) -> None:
    fd = memfd(bytes(4096))
    with pytest.raises(PeerError):
        MappedImage(message, fd)
    os.close(fd)


def test_memory_that_could_shrink() -> None:
    fd = memfd(bytes(4096), fcntl.F_SEAL_GROW)
    with pytest.raises(PeerError, match="shrinking"):
        MappedImage(Image(1, 4096, 8, 8, 32, 1), fd)
    os.close(fd)


def test_a_descriptor_that_is_no_memory() -> None:
    reader, writer = os.pipe()
    with pytest.raises(PeerError, match="not a sealed memfd"):
        MappedImage(Image(1, 4096, 8, 8, 32, 1), reader)
    with pytest.raises(PeerError, match="not a sealed memfd"):
        read_cursor(reader)
    os.close(reader)
    os.close(writer)


def test_a_cursor_of_too_few_bytes() -> None:
    fd = memfd(bytes(16383))
    with pytest.raises(PeerError, match="16383"):
        read_cursor(fd)
    os.close(fd)
