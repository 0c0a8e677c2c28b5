"""The renderer: opening, capability sets, contexts, streams, fences, reset. On whatever EGL has here (llvmpipe)."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterator

import pytest

from tests.backend.virglkit import (
    B8G8R8A8,
    BUFFER,
    R8_UNORM,
    SIDE,
    VERTEX_BUFFER,
    Y_0_TOP,
    RemoteRenderer,
    clear_stream,
    command,
    draw_stream,
    rectangle,
)

RED, BLUE = (1.0, 0.0, 0.0, 1.0), (0.0, 0.0, 1.0, 1.0)
RED_BYTES, BLUE_BYTES = b"\0\0\xff\xff", b"\xff\0\0\xff"  # B G R A
WHOLE = (0, 0, SIDE, SIDE)
NOP = command(0)


@pytest.fixture(scope="module")
def process() -> Iterator[RemoteRenderer]:
    running = RemoteRenderer()
    yield running
    assert running.end() == 0


@pytest.fixture
def renderer(process: RemoteRenderer) -> Iterator[RemoteRenderer]:
    """Freshly opened."""
    assert process.open() == (0, "")
    process.forget()
    yield process
    process.close()


@pytest.fixture
def drawing(renderer: RemoteRenderer) -> RemoteRenderer:
    """With context 1 and picture 1 in it."""
    assert renderer.ctx_create(1) == 0
    assert renderer.create(1) == 0
    renderer.ctx_attach(1, 1)
    return renderer


# ---- opening


def test_only_one_is_open_in_a_process(renderer: RemoteRenderer) -> None:
    rc, why = renderer.open()
    assert rc == -errno.EBUSY
    assert "open already" in why


@pytest.mark.parametrize(
    ("node", "code", "words"),
    [
        ("/nonexistent/renderD128", errno.ENOENT, "No such file"),
        ("/dev/null", errno.ENOTTY, "not a DRM device"),
        ("/etc/passwd", errno.ENOTTY, "not a DRM device"),
    ],
)
def test_a_render_node_that_is_none(process: RemoteRenderer, node: str, code: int, words: str) -> None:
    rc, why = process.open(node)
    assert rc == -code
    assert node in why
    assert words in why


def test_it_opens_again_and_again(process: RemoteRenderer) -> None:
    for _ in range(3):
        assert process.open() == (0, "")
        assert process.ctx_create(1) == 0
        process.close()


# ---- capability sets


@pytest.mark.parametrize("number", [1, 2])
def test_capability_sets(renderer: RemoteRenderer, number: int) -> None:
    rc, version, size = renderer.capset(number)
    assert (rc, version) == (0, number)
    rc, data = renderer.fill_capset(number, version)
    assert (rc, len(data)) == (0, size)
    assert struct.unpack_from("<I", data)[0] == version  # max_version
    assert any(data[4:])


@pytest.mark.parametrize("number", [0, 3, 4, 9, 2**32 - 1])
def test_other_capability_sets_are_not_there(renderer: RemoteRenderer, number: int) -> None:
    assert renderer.capset(number)[0] == -errno.ENOENT


def test_a_version_of_the_future_is_refused_and_filled_with_zeros(renderer: RemoteRenderer) -> None:
    rc, data = renderer.fill_capset(2, 2**32 - 1)
    assert rc == -errno.EINVAL
    assert not any(data)


# ---- contexts and streams


@pytest.mark.parametrize("init", [0, 1, 2])
def test_a_context_of_each_kind(renderer: RemoteRenderer, init: int) -> None:
    assert renderer.ctx_create(7, init) == 0
    assert renderer.submit(7, NOP) == 0
    renderer.ctx_destroy(7)
    assert renderer.submit(7, NOP) == -errno.EINVAL


@pytest.mark.parametrize("init", [3, 4, 6, 0x100, 2**32 - 1])
def test_a_context_of_no_kind_that_is_here(renderer: RemoteRenderer, init: int) -> None:
    assert renderer.ctx_create(7, init) == -errno.EINVAL


@pytest.mark.parametrize("name", [b"", b"x" * 64, b"\xff" * 4096, b"%s%n"])
def test_names_of_contexts_are_only_text(renderer: RemoteRenderer, name: bytes) -> None:
    assert renderer.ctx_create(1, 0, name) == 0
    assert renderer.submit(1, NOP) == 0


def test_a_clear_shows_its_colour(drawing: RemoteRenderer) -> None:
    assert drawing.submit(1, clear_stream(1, RED)) == 0
    assert drawing.read_rect(1, *WHOLE) == (0, RED_BYTES * SIDE * SIDE)


def test_what_a_stream_draws_is_in_the_next_read(drawing: RemoteRenderer) -> None:
    assert drawing.submit(1, clear_stream(1, RED)) == 0
    for value in range(1, 100):
        shade = value / 255
        assert drawing.submit(1, command(7, 4, shade, shade, shade, 1.0, 0, 0, 0)) == 0
        assert drawing.read_rect(1, 63, 63, 1, 1) == (0, bytes([value] * 3) + b"\xff")


def test_reading_leaves_the_drawing_alone(drawing: RemoteRenderer) -> None:
    """Two contexts take turns, with a read after each."""
    assert drawing.create(2, target=BUFFER, format=R8_UNORM, bind=VERTEX_BUFFER, width=64, height=1) == 0
    assert drawing.create(3) == 0
    assert drawing.ctx_create(2) == 0
    for ctx, picture in ((1, 1), (2, 3)):
        drawing.ctx_attach(ctx, 2)
        drawing.ctx_attach(ctx, picture)
        assert drawing.submit(ctx, clear_stream(picture, BLUE) + draw_stream(2, -1.0, -1.0, -0.5, 1.0)) == 0
    for column in range(4):
        right = (column + 1) / 2 - 1
        for ctx, picture in ((1, 1), (2, 3)):
            assert drawing.submit(ctx, rectangle(2, -1.0, -1.0, right, 1.0)) == 0
            width = 16 * (column + 1)
            row = RED_BYTES * width + BLUE_BYTES * (SIDE - width)
            assert drawing.read_rect(picture, *WHOLE) == (0, row * SIDE)


@pytest.mark.parametrize("flags", [0, Y_0_TOP])
def test_what_is_drawn_is_the_right_side_up(renderer: RemoteRenderer, flags: int) -> None:
    """A red rectangle from the first pixel on, in a blue picture: with Y_0_TOP the picture's last row is on top."""
    assert renderer.ctx_create(1) == 0
    assert renderer.create(1, flags=flags) == 0
    assert renderer.create(2, target=BUFFER, format=R8_UNORM, bind=VERTEX_BUFFER, width=64, height=1) == 0
    renderer.ctx_attach(1, 1)
    renderer.ctx_attach(1, 2)
    assert renderer.submit(1, clear_stream(1, BLUE) + draw_stream(2, -1.0, -1.0, 0.0, -0.5)) == 0
    red, blue = (RED_BYTES * 32 + BLUE_BYTES * 32) * 16, BLUE_BYTES * SIDE * 48
    assert renderer.read_rect(1, *WHOLE) == (0, blue + red if flags == Y_0_TOP else red + blue)
    edge = 46 if flags == Y_0_TOP else 14
    rows = [BLUE_BYTES * 4, RED_BYTES * 2 + BLUE_BYTES * 2]
    rows = [row for row in (rows if flags == Y_0_TOP else rows[::-1]) for _ in range(2)]
    assert renderer.read_rect(1, 30, edge, 4, 4) == (0, b"".join(rows))


@pytest.mark.parametrize(
    "stream",
    [
        command(250),
        struct.pack("<I", 7 | 0xFFFF << 16),
        command(7, 4),
        command(5, 1, 0, 4242),
        command(5, 2**32 - 1, 0),
        command(1, 1, 4242, B8G8R8A8, 0, 0, kind=8),
        command(2, 99, kind=1),
    ],
)
def test_a_bad_stream_is_an_error_of_its_context_alone(drawing: RemoteRenderer, stream: bytes) -> None:
    assert drawing.ctx_create(2) == 0
    drawing.submit(2, stream)
    drawing.submit(2, NOP)
    assert drawing.submit(1, clear_stream(1, RED)) == 0
    assert drawing.read_rect(1, 0, 0, 1, 1) == (0, RED_BYTES)


def test_what_virglrenderer_complains_of_comes_as_lines(drawing: RemoteRenderer) -> None:
    assert drawing.submit(1, command(1, 1, 4242, B8G8R8A8, 0, 0, kind=8)) == -errno.EINVAL
    heard = drawing.heard()  # nothing of the opening, which was well
    assert all(line and "\n" not in line for line in heard)
    assert any("4242" in line or "Illegal" in line for line in heard)


def test_an_empty_stream(drawing: RemoteRenderer) -> None:
    assert drawing.submit(1, b"") == 0


def test_random_streams_take_nothing_down(drawing: RemoteRenderer) -> None:
    import random

    source = random.Random(4)
    for _ in range(100):
        ctx = 2
        drawing.ctx_create(ctx)
        drawing.ctx_attach(ctx, 1)
        words = [source.choice((0, 1, 2, 4, 8, 64, source.getrandbits(32))) for _ in range(source.randrange(12))]
        drawing.submit(ctx, command(source.randrange(64), *words, kind=source.randrange(12)))
        drawing.ctx_destroy(ctx)
    assert drawing.submit(1, clear_stream(1, RED)) == 0
    assert drawing.read_rect(1, 0, 0, 1, 1) == (0, RED_BYTES)


# ---- fences


def test_a_fence_of_an_empty_stream_retires(drawing: RemoteRenderer) -> None:
    assert drawing.submit(1, NOP) == 0
    assert drawing.fence(1, 0, 1) == 0
    assert drawing.poll_until(1) == [(1, 0, 1)]


def test_fences_retire_in_order_with_their_context_and_ring(drawing: RemoteRenderer) -> None:
    assert drawing.ctx_create(2) == 0
    wanted = []
    for seq in range(1, 200):
        ctx = seq % 3
        ring = seq % 5 if ctx else 0
        if ctx == 1:
            assert drawing.submit(1, clear_stream(1, RED) if seq == 1 else command(7, 4, *RED, 0, 0, 0)) == 0
        assert drawing.fence(ctx, ring, seq) == 0
        wanted.append((ctx, ring, seq))
    assert sorted(drawing.poll_until(len(wanted))) == sorted(wanted)
    for ctx in range(3):
        seqs = [fence[2] for fence in drawing.poll_until(0) if fence[0] == ctx]
        assert seqs == sorted(seqs)


@pytest.mark.parametrize("seq", [2**32 - 1, 2**32, 2**32 + 1, 2**63 + 5])
@pytest.mark.parametrize("ctx", [0, 1])
def test_fences_are_64_bits_wide(drawing: RemoteRenderer, ctx: int, seq: int) -> None:
    for number in (seq, seq + 1):
        assert drawing.submit(1, NOP) == 0
        assert drawing.fence(ctx, 0, number) == 0
    assert drawing.poll_until(2) == [(ctx, 0, seq), (ctx, 0, seq + 1)]


def test_fences_behind_one_that_waits_wait_too(drawing: RemoteRenderer) -> None:
    """Work that is not done at once, then fences that would be done at once by themselves."""
    assert drawing.create(3, width=4096, height=4096) == 0
    drawing.ctx_attach(1, 3)
    assert drawing.submit(1, clear_stream(3, RED) + command(7, 4, *BLUE, 0, 0, 0) * 20) == 0
    wanted = [(ctx, 0, seq) for seq, ctx in enumerate((1, 0, 1, 0, 0, 1), 1)]
    for ctx, ring, seq in wanted:
        assert drawing.fence(ctx, ring, seq) == 0
    assert drawing.poll_until(len(wanted)) == wanted


def test_a_fence_behind_nothing_is_done_at_once(drawing: RemoteRenderer) -> None:
    assert drawing.submit(1, clear_stream(1, RED)) == 0
    assert drawing.fence(1, 0, 1) == 0
    drawing.poll_until(1)
    for seq in range(2, 10):
        assert drawing.submit(1, b"") == 0
        assert drawing.fence(1, seq % 3, seq) == 0
        assert drawing.told()[-1] == (1, seq % 3, seq)


@pytest.mark.parametrize("draws", [0, 1, 200])
def test_a_query_has_its_result_when_the_fence_behind_it_is_done(drawing: RemoteRenderer, draws: int) -> None:
    assert drawing.create(2, target=BUFFER, format=R8_UNORM, bind=VERTEX_BUFFER, width=64, height=1) == 0
    assert drawing.create(3, target=BUFFER, format=R8_UNORM, bind=1 << 17, width=16, height=1) == 0
    assert drawing.attach(3, 16) == 0
    for id in (2, 3):
        drawing.ctx_attach(1, id)
    query = command(1, 20, 0, 0, 3, kind=9)
    draw = draw_stream(2, -1.0, -1.0, 1.0, 1.0)
    assert drawing.submit(1, clear_stream(1, BLUE) + query + draw) == 0
    for seq in range(1, 20):
        again = draw[-52:] * draws
        assert drawing.submit(1, command(19, 20) + again + command(20, 20) + command(21, 20, 0)) == 0
        assert drawing.fence(1, 0, seq) == 0
        drawing.poll_until(seq)
        assert drawing.transfer(3, False, (0, 0, 0, 16, 1, 1), ctx=1) == 0
        state, _, result = struct.unpack("<IIQ", drawing.backing(3))
        assert (state, result) == (1, SIDE * SIDE * draws)
    assert drawing.quiet_for(0.05)


def test_the_fences_of_a_context_that_goes_are_done(drawing: RemoteRenderer) -> None:
    assert drawing.submit(1, clear_stream(1, RED) * 50) == 0
    assert drawing.fence(1, 0, 1) == 0
    assert drawing.fence(1, 3, 2) == 0
    drawing.ctx_destroy(1)
    assert sorted(drawing.poll_until(2)) == [(1, 0, 1), (1, 3, 2)]


def test_contexts_come_and_go_while_they_draw(drawing: RemoteRenderer) -> None:
    """virglrenderer's thread looks at the context of a fence that is done, be it gone or not."""
    assert drawing.create(3, width=2048, height=2048) == 0
    for seq in range(1, 60, 2):
        assert drawing.ctx_create(2) == 0
        drawing.ctx_attach(2, 3)
        assert drawing.submit(2, clear_stream(3, RED) + command(7, 4, *BLUE, 0, 0, 0) * 5) == 0
        assert drawing.fence(2, 0, seq) == 0
        assert drawing.fence(0, 0, seq + 1) == 0
        drawing.ctx_destroy(2)
    assert len(drawing.poll_until(60)) == 60


def test_closing_while_it_draws(process: RemoteRenderer) -> None:
    for _ in range(10):
        assert process.open() == (0, "")
        assert process.ctx_create(1) == 0
        assert process.create(1, width=2048, height=2048) == 0
        process.ctx_attach(1, 1)
        assert process.submit(1, clear_stream(1, RED) + command(7, 4, *BLUE, 0, 0, 0) * 5) == 0
        assert process.fence(1, 0, 1) == 0
        assert process.fence(0, 0, 2) == 0
        process.close()


def test_nothing_ticks_when_nothing_is_pending(drawing: RemoteRenderer) -> None:
    assert drawing.submit(1, clear_stream(1, RED) * 20) == 0
    assert drawing.fence(1, 0, 1) == 0
    drawing.poll_until(1)
    assert drawing.quiet_for(0.2)


def test_a_thousand_in_flight(drawing: RemoteRenderer) -> None:
    for seq in range(1, 1001):
        assert drawing.submit(1, NOP) == 0
        assert drawing.fence(1, 0, seq) == 0
    assert drawing.poll_until(1000) == [(1, 0, seq) for seq in range(1, 1001)]


# ---- reset


def test_after_a_reset_everything_is_gone_and_works_again(drawing: RemoteRenderer) -> None:
    for _ in range(3):
        assert drawing.submit(1, clear_stream(1, RED)) == 0
        assert drawing.fence(1, 0, 1) == 0
        assert drawing.attach(1, SIDE * SIDE * 4) == 0
        drawing.reset()
        assert drawing.submit(1, NOP) == -errno.EINVAL
        assert drawing.read_rect(1, *WHOLE)[0] == -errno.EINVAL
        assert drawing.ctx_create(1) == 0
        assert drawing.create(1) == 0
        drawing.ctx_attach(1, 1)
        assert drawing.read_rect(1, *WHOLE) == (0, bytes(SIDE * SIDE * 4))
    assert drawing.submit(1, clear_stream(1, RED)) == 0
    assert drawing.read_rect(1, 0, 0, 1, 1) == (0, RED_BYTES)
