"""What the renderer refuses of a stream before virglrenderer sees it: boxes and levels whose sums overflow."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest

from tests.backend.virglkit import B8G8R8A8, SIDE, RemoteRenderer, clear_stream, command

GOOD = (0, 0, 0, 4, 4, 1)
FAR = 0x7FFFFFFF
RED = (1.0, 0.0, 0.0, 1.0)


@pytest.fixture(scope="module")
def renderer() -> Iterator[RemoteRenderer]:
    """With context 1 and the pictures 1 and 2 in it."""
    running = RemoteRenderer()
    assert running.open() == (0, "")
    assert running.ctx_create(1) == 0
    for picture in (1, 2):
        assert running.create(picture) == 0
        running.ctx_attach(1, picture)
    yield running
    running.close()
    assert running.end() == 0


def inline_write(box: tuple[int, ...], level: int = 0) -> bytes:
    return command(9, 1, level, 0, SIDE * 4, 0, *box, *[0] * (SIDE * 4))


def blit(to: tuple[int, ...], of: tuple[int, ...], level: int = 0) -> bytes:
    return command(16, 0xF, 0, 0, 1, level, B8G8R8A8, *to, 2, level, B8G8R8A8, *of)


def copy(to: tuple[int, ...], of: tuple[int, ...], level: int = 0) -> bytes:
    return command(17, 1, level, *to[:3], 2, level, *of)


def clear_texture(box: tuple[int, ...], level: int = 0) -> bytes:
    return command(47, 1, level, *box, 0, 0, 0, 0)


def transfer(box: tuple[int, ...], level: int = 0) -> bytes:
    return command(43, 1, level, 0, 0, 0, *box, 0, 1)


def staged(box: tuple[int, ...], level: int = 0) -> bytes:
    return command(45, 1, level, 0, 0, 0, *box, 2, 0, 0)


SINGLE = (inline_write, clear_texture, transfer, staged)


@pytest.mark.parametrize("value", [FAR, 0x40000001, 0x80000000, 0x80000001, 0xBFFFFFFF])
@pytest.mark.parametrize("at", range(6))
def test_boxes_whose_sums_overflow_are_refused(renderer: RemoteRenderer, at: int, value: int) -> None:
    """OpenGL's checks let a copy at 0x7fffffff pass, and memory beside the texture is read."""
    far = (*GOOD[:at], value, *GOOD[at + 1 :])
    streams = [copy(GOOD, far), blit(far, GOOD), blit(GOOD, far), *(write(far) for write in SINGLE)]
    if at < 3:
        streams.append(copy(far, GOOD))
    for stream in streams:
        assert renderer.submit(1, stream) == -errno.EINVAL
        assert renderer.submit(1, command(0) * 9 + stream + command(0)) == -errno.EINVAL


@pytest.mark.parametrize("level", [32, FAR, 0x80000000, 0xFFFFFFFF])
def test_levels_that_no_texture_has_are_refused(renderer: RemoteRenderer, level: int) -> None:
    for stream in (copy(GOOD, GOOD, level), blit(GOOD, GOOD, level), *(write(GOOD, level) for write in SINGLE)):
        assert renderer.submit(1, stream) == -errno.EINVAL


@pytest.mark.parametrize("format", [314, 0xFFFF, 0x5DCFFC66, 0xFFFFFFFF])
def test_formats_that_are_none_are_refused(renderer: RemoteRenderer, format: int) -> None:
    """virglrenderer takes them as the index of a table."""
    image = (B8G8R8A8, 1, 0, 0, 1)
    assert renderer.submit(1, command(35, 1, 0, *image)) == 0
    assert renderer.submit(1, command(35, 1, 0, *image, format, 1, 0, 0, 2)) == -errno.EINVAL
    assert renderer.submit(1, command(35, 1, 0, format, 1, 0, 0, 1)) == -errno.EINVAL


def test_a_stream_makes_no_textures(renderer: RemoteRenderer) -> None:
    """The budget would not see them."""
    assert renderer.submit(1, command(48, 2, B8G8R8A8, 10, 4096, 4096, 1, 1, 0, 0, 0, 1)) == -errno.EINVAL


def create(*ids: int) -> bytes:
    return b"".join(command(29, id) for id in ids)


def destroy(*ids: int) -> bytes:
    return b"".join(command(30, id) for id in ids)


def test_sub_contexts_are_bounded(renderer: RemoteRenderer) -> None:
    """256 beside those that contexts begin with; they end with their context, a stream or the renderer."""
    assert renderer.ctx_create(2) == 0
    assert renderer.ctx_create(3) == 0
    assert renderer.submit(2, create(0, *range(1, 200), 7, 8)) == 0
    assert renderer.submit(3, create(*range(1, 58))) == 0
    for ctx in (1, 2, 3):
        assert renderer.submit(ctx, create(1000)) == -errno.ENOMEM
    assert renderer.submit(2, create(7) + destroy(7) + create(7) + destroy(8, 9, 9)) == 0
    assert renderer.submit(3, create(1, 2, 100, 101)) == 0
    assert renderer.submit(3, create(102)) == -errno.ENOMEM
    assert renderer.submit(2, command(0xFF) + destroy(*range(10, 20))) == -errno.EINVAL
    assert renderer.submit(3, create(102)) == -errno.ENOMEM
    renderer.ctx_destroy(2)
    assert renderer.submit(3, create(*range(102, 240))) == 0
    renderer.ctx_destroy(3)


def test_nothing_of_a_stream_that_is_refused_is_executed(renderer: RemoteRenderer) -> None:
    assert renderer.submit(1, clear_stream(1, (0.0, 0.0, 0.0, 1.0))) == 0
    assert renderer.submit(1, command(7, 4, *RED, 0, 0, 0) + copy((FAR, 0, 0), GOOD)) == -errno.EINVAL
    assert renderer.read_rect(1, 0, 0, 1, 1) == (0, b"\0\0\0\xff")


def test_what_is_right_is_let_through(renderer: RemoteRenderer) -> None:
    """Blits may turn a picture over, numbers of other commands are none of ours, and a stream may end early."""
    back = (4, 4, 0, 0xFFFFFFFC, 0xFFFFFFFC, 1)
    for stream in (copy(GOOD, GOOD), blit(GOOD, back), blit(back, GOOD), clear_texture(GOOD), inline_write(GOOD)):
        assert renderer.submit(1, stream) == 0
    assert renderer.submit(1, command(24, 0xFFFFFFFF) + command(14, *[0xFFFFFFFF] * 4)) == 0
    assert renderer.submit(1, copy(GOOD, GOOD) + command(17)[:2] + b"\x0d\0" + b"\xff\xff\xff\x7f" * 5) == 0
