"""Resources of the renderer: what they cost, transfers and their bounds, orientation, zeros before any write."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backend.virglkit import (
    ARRAY_1D,
    ARRAY_2D,
    B8G8R8A8,
    BUFFER,
    CUBE_ARRAY,
    DEPTH_STENCIL,
    DXT1,
    R8_UNORM,
    R32G32B32A32_FLOAT,
    RENDER_TARGET,
    S8Z24,
    SAMPLER_VIEW,
    SIDE,
    TEXTURE_2D,
    TEXTURE_3D,
    TEXTURE_CUBE,
    TEXTURE_RECT,
    VERTEX_BUFFER,
    Y_0_TOP,
    RemoteRenderer,
    clear_stream,
    plain,
)

BOOKKEEPING = 4096
BOX = (0, 0, 0, SIDE, SIDE, 1)
SIZE = SIDE * SIDE * 4
U32 = 2**32 - 1
# virtio_gpu_formats: the same numbers as VIRGL_FORMAT_*.
FORMATS_2D = (1, 2, 3, 4, 67, 68, 121, 134)


@pytest.fixture(scope="module")
def process() -> Iterator[RemoteRenderer]:
    """An open renderer."""
    running = RemoteRenderer()
    assert running.open() == (0, "")
    yield running
    running.close()
    assert running.end() == 0


@pytest.fixture
def renderer(process: RemoteRenderer) -> Iterator[RemoteRenderer]:
    """Without resources."""
    yield process
    process.unref_all()


@pytest.fixture
def softpipe() -> Iterator[RemoteRenderer]:
    running = RemoteRenderer(GALLIUM_DRIVER="softpipe")
    assert running.open() == (0, "")
    yield running
    running.close()
    assert running.end() == 0


def pattern(size: int) -> bytes:
    """Bytes of which no two rows of a picture are equal."""
    return bytes((index * 7 + index // 251) % 256 for index in range(size))


# ---- what they cost


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({}, SIZE),
        ({"width": 1, "height": 1}, 64 * 4),
        ({"width": 1, "height": 1000, "format": R8_UNORM}, 64 * 1000),
        ({"width": 1920, "height": 1080}, 1920 * 1080 * 4),
        ({"last_level": 6}, 4 * (64 * 64 + 32 * 32) + 64 * 16 + 64 * 8 + 64 * 4 * 3),
        ({"format": DXT1}, 16 * 8 * 16),
        ({"target": TEXTURE_3D, "depth": 4}, SIZE * 4),
        ({"target": TEXTURE_3D, "depth": 4, "last_level": 1}, SIZE * 4 + SIZE // 4 * 2),
        ({"target": TEXTURE_CUBE, "array_size": 6}, SIZE * 6),
        ({"target": CUBE_ARRAY, "array_size": 12}, SIZE * 12),
        ({"target": ARRAY_2D, "array_size": 5}, SIZE * 5),
        ({"nr_samples": 4}, SIZE * 4),
        ({"target": BUFFER, "format": R8_UNORM, "width": 100, "height": 1}, 128),
        ({"target": BUFFER, "format": R32G32B32A32_FLOAT, "width": 100, "height": 1}, 128),
    ],
)
def test_bytes(renderer: RemoteRenderer, values: dict[str, int], wanted: int) -> None:
    assert renderer.bytes(**values) == wanted + BOOKKEEPING


BAD = [
    {"width": 0},
    {"height": 0},
    {"depth": 0},
    {"width": 16385},
    {"height": 2**31},
    {"width": U32, "height": U32},
    {"target": TEXTURE_3D, "width": 4096},
    {"target": TEXTURE_3D, "depth": U32},
    {"depth": 2},
    {"array_size": 2},
    {"target": ARRAY_2D, "array_size": U32},
    {"target": ARRAY_2D, "array_size": 0},
    {"target": ARRAY_1D, "height": 2},
    {"target": TEXTURE_CUBE, "array_size": 5},
    {"target": TEXTURE_CUBE, "array_size": 6, "width": 32},
    {"target": CUBE_ARRAY, "array_size": 7},
    {"target": TEXTURE_RECT, "last_level": 1},
    {"target": BUFFER, "width": U32, "height": 1},
    {"target": BUFFER, "height": 2},
    {"target": BUFFER, "height": 1, "last_level": 1},
    {"target": 9},
    {"target": U32},
    {"format": 0},
    {"format": 166},
    {"format": 313},
    {"format": U32},
    {"last_level": 7},
    {"last_level": 32},
    {"last_level": U32},
    {"nr_samples": 33},
    {"nr_samples": U32},
    {"nr_samples": 4, "last_level": 1},
    {"nr_samples": 4, "target": TEXTURE_3D},
]


@pytest.mark.parametrize("values", BAD, ids=str)
def test_what_can_not_exist_costs_nothing_and_is_refused(renderer: RemoteRenderer, values: dict[str, int]) -> None:
    assert renderer.bytes(**values) == 0
    assert renderer.create(1, **values) == -errno.EINVAL
    assert renderer.create(1) == 0


_NUMBERS = st.one_of(st.integers(0, 20), st.integers(0, U32), st.sampled_from((64, 2048, 16384, 2**31, U32)))


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({}, optional={name: _NUMBERS for name in plain(1) if name != "id"} | {
    "last_level": _NUMBERS, "nr_samples": _NUMBERS, "flags": _NUMBERS}))  # fmt: skip
def test_bytes_never_overflow(process: RemoteRenderer, values: dict[str, int]) -> None:
    size = process.bytes(**values)
    assert size == 0 or BOOKKEEPING < size < 2**60
    if size:
        shape = {**plain(1), **values}
        blocks = (shape["width"] // 12 + 1) * (shape["height"] // 12 + 1)
        assert size >= blocks * shape["depth"] * max(1, shape["array_size"]) // 2


def test_every_format_moves_as_many_bytes_as_virglrenderer_thinks(renderer: RemoteRenderer) -> None:
    """A backing that is just large enough for us: virglrenderer, which checks on its own, does not want more."""
    made = 0
    for format in range(1, 313):
        bind = DEPTH_STENCIL if format in range(16, 24) or format == 126 else SAMPLER_VIEW
        cost = renderer.bytes(format=format)
        if cost == 0 or renderer.create(format, format=format, bind=bind) != 0:
            continue
        made += 1
        assert renderer.attach(format, cost - BOOKKEEPING) == 0
        assert renderer.transfer(format, True, BOX) == 0, format
        renderer.unref(format)
    assert made > 100


# ---- transfers


def test_a_picture_makes_the_round_trip(renderer: RemoteRenderer) -> None:
    assert renderer.create(1) == 0
    assert renderer.attach(1, SIZE) == 0
    data = pattern(SIZE)
    renderer.set_backing(1, data)
    assert renderer.transfer(1, True, BOX) == 0
    renderer.set_backing(1, bytes(SIZE))
    assert renderer.transfer(1, False, BOX) == 0
    assert renderer.backing(1) == data


def test_backing_in_many_parts(renderer: RemoteRenderer) -> None:
    assert renderer.create(1) == 0
    sizes = [1, 3, 4092, 0, 4096, 100]
    assert renderer.attach(1, *sizes, SIZE - sum(sizes)) == 0
    data = pattern(SIZE)
    renderer.set_backing(1, data)
    assert renderer.transfer(1, True, BOX) == 0
    assert renderer.read_rect(1, 0, 0, SIDE, SIDE) == (0, data)
    renderer.set_backing(1, bytes(SIZE))
    assert renderer.transfer(1, False, BOX) == 0
    assert renderer.backing(1) == data


def test_a_part_of_a_picture_with_stride_and_offset(renderer: RemoteRenderer) -> None:
    assert renderer.create(1) == 0
    assert renderer.attach(1, SIZE) == 0
    data = pattern(SIZE)
    renderer.set_backing(1, data)
    assert renderer.transfer(1, True, (8, 16, 0, 4, 2, 1), stride=SIDE * 4, offset=(16 * SIDE + 8) * 4) == 0
    rows = [data[(row * SIDE + 8) * 4 :][:16] for row in (16, 17)]
    assert renderer.read_rect(1, 8, 16, 4, 2) == (0, b"".join(rows))
    assert renderer.read_rect(1, 0, 0, SIDE, 16) == (0, bytes(SIDE * 64))


def test_levels_and_layers(renderer: RemoteRenderer) -> None:
    assert renderer.create(1, target=ARRAY_2D, array_size=3, last_level=2, bind=SAMPLER_VIEW) == 0
    size = 16 * 16 * 4
    assert renderer.attach(1, 3 * size) == 0
    data = pattern(3 * size)
    renderer.set_backing(1, data)
    for layer in range(3):
        assert renderer.transfer(1, True, (0, 0, layer, 16, 16, 1), level=2, offset=layer * size) == 0
    renderer.set_backing(1, bytes(3 * size))
    assert renderer.transfer(1, False, (0, 0, 1, 16, 16, 1), level=2, offset=size) == 0
    assert renderer.backing(1) == bytes(size) + data[size : 2 * size] + bytes(size)


def test_buffers(renderer: RemoteRenderer) -> None:
    assert renderer.create(1, target=BUFFER, format=R8_UNORM, bind=VERTEX_BUFFER, width=10000, height=1) == 0
    assert renderer.attach(1, 10000) == 0
    data = pattern(10000)
    renderer.set_backing(1, data)
    assert renderer.transfer(1, True, (100, 0, 0, 5000, 1, 1), offset=100) == 0
    renderer.set_backing(1, bytes(10000))
    assert renderer.transfer(1, False, (0, 0, 0, 10000, 1, 1)) == 0
    assert renderer.backing(1) == bytes(100) + data[100:5100] + bytes(4900)


OUTSIDE = [
    {"box": (0, 0, 0, SIDE + 1, SIDE, 1)},
    {"box": (1, 0, 0, SIDE, SIDE, 1)},
    {"box": (0, 1, 0, SIDE, SIDE, 1)},
    {"box": (0, 0, 1, SIDE, SIDE, 1)},
    {"box": (0, 0, 0, SIDE, SIDE, 2)},
    {"box": (U32, 0, 0, 2, 1, 1)},
    {"box": (0, U32, 0, 1, 2, 1)},
    {"box": (0, 0, U32, 1, 1, 2)},
    {"box": (0, 0, 0, U32, U32, U32)},
    {"box": (0, 0, 0, 0, 1, 1)},
    {"box": (0, 0, 0, 1, 1, 0)},
    {"box": (2**31, 0, 0, 2**31, 1, 1)},
    {"level": 1},
    {"level": 32},
    {"level": U32},
    {"stride": 1},
    {"stride": SIDE * 4 - 1},
    {"stride": U32},
    {"stride": 2**31},
    {"layer_stride": 1},
    {"layer_stride": SIZE - 1},
    {"offset": 1},
    {"offset": SIZE},
    {"offset": 2**32},
    {"offset": 2**64 - 1},
]


@pytest.mark.parametrize("to_host", [True, False])
@pytest.mark.parametrize("wrong", OUTSIDE, ids=str)
def test_transfers_that_leave_the_picture_or_its_backing(
    renderer: RemoteRenderer, wrong: dict[str, object], to_host: bool
) -> None:
    assert renderer.create(1) == 0
    assert renderer.attach(1, SIZE, fill=7) == 0
    values = {"box": BOX, **wrong}
    assert renderer.transfer(1, to_host, values.pop("box"), **values) == -errno.EINVAL
    assert renderer.backing(1) == bytes([7]) * SIZE
    assert renderer.read_rect(1, 0, 0, SIDE, SIDE) == (0, bytes(SIZE))


_SMALL = st.one_of(st.integers(0, 70), st.sampled_from((256, 16384, 2**16, 2**31 - 1, 2**31, U32)))


@settings(max_examples=200, deadline=None)
@given(
    to_host=st.booleans(),
    box=st.tuples(*[_SMALL] * 6),
    level=st.integers(0, 8),
    stride=_SMALL,
    layer_stride=_SMALL,
    offset=_SMALL,
    target=st.sampled_from((TEXTURE_2D, TEXTURE_3D, ARRAY_2D, TEXTURE_CUBE, BUFFER)),
)
def test_transfers_of_any_shape_touch_the_backing_alone(process: RemoteRenderer, target: int, **values: object) -> None:
    shape = {"target": target, "bind": SAMPLER_VIEW}
    shape |= {TEXTURE_3D: {"depth": 8}, ARRAY_2D: {"array_size": 6}, TEXTURE_CUBE: {"array_size": 6}}.get(target, {})
    shape |= {"height": 1, "format": R8_UNORM, "bind": VERTEX_BUFFER} if target == BUFFER else {"last_level": 3}
    assert process.create(1, **shape) == 0
    assert process.attach(1, 100, 5000, 3) == 0
    process.transfer(1, values.pop("to_host"), values.pop("box"), **values)
    process.unref(1)


def test_without_backing_there_is_nothing_to_transfer(renderer: RemoteRenderer) -> None:
    assert renderer.create(1) == 0
    assert renderer.transfer(1, True, BOX) == -errno.EINVAL
    assert renderer.attach(1, SIZE) == 0
    assert renderer.attach(1, SIZE) == -errno.EINVAL
    assert renderer.transfer(1, True, BOX) == 0
    renderer.detach(1)
    renderer.detach(1)
    assert renderer.transfer(1, True, BOX) == -errno.EINVAL
    assert renderer.attach(1, SIZE) == 0


def test_a_transfer_of_a_context_needs_the_resource_in_it(renderer: RemoteRenderer) -> None:
    assert renderer.ctx_create(1) == 0
    assert renderer.create(1) == 0
    assert renderer.attach(1, SIZE) == 0
    assert renderer.transfer(1, True, BOX, ctx=2) == -errno.EINVAL
    renderer.ctx_attach(1, 1)
    assert renderer.transfer(1, True, BOX, ctx=1) == 0
    renderer.ctx_detach(1, 1)
    assert renderer.transfer(1, True, BOX, ctx=1) == -errno.EINVAL


# ---- pictures as they are scanned out


@pytest.mark.parametrize("flags", [0, Y_0_TOP])
@pytest.mark.parametrize("format", FORMATS_2D)
def test_formats_of_2d_keep_their_pixels_and_rows(renderer: RemoteRenderer, format: int, flags: int) -> None:
    """What write_rect writes, and what the guest transfers, is what read_rect reads: every byte, first row first."""
    assert renderer.create(1, format=format, flags=flags, bind=RENDER_TARGET) == 0
    data = pattern(SIZE)
    assert renderer.write_rect(1, 0, 0, SIDE, SIDE, data) == 0
    assert without_padding(renderer.read_rect(1, 0, 0, SIDE, SIDE)[1], format) == without_padding(data, format)
    part = renderer.read_rect(1, 3, 5, 7, 2)[1]
    rows = b"".join(data[(row * SIDE + 3) * 4 :][:28] for row in (5, 6))
    assert without_padding(part, format) == without_padding(rows, format)
    assert renderer.attach(1, SIZE) == 0
    renderer.set_backing(1, data[::-1])
    assert renderer.transfer(1, True, BOX) == 0
    assert without_padding(renderer.read_rect(1, 0, 0, SIDE, SIDE)[1], format) == without_padding(data[::-1], format)


@pytest.mark.parametrize("flags", [0, Y_0_TOP])
@pytest.mark.parametrize("format", [B8G8R8A8, 67, 121])
def test_large_pictures_are_read_in_strips(renderer: RemoteRenderer, format: int, flags: int) -> None:
    width, height = 1001, 300
    assert renderer.create(1, format=format, flags=flags, bind=RENDER_TARGET, width=width, height=height) == 0
    data = pattern(width * height * 4)
    assert renderer.write_rect(1, 0, 0, width, height, data) == 0
    assert renderer.read_rect(1, 0, 0, width, height) == (0, data)
    for x, y, part, rows in ((0, 0, width, 1), (0, height - 1, width, 1), (13, 29, 987, 255), (1000, 7, 1, 290)):
        wanted = b"".join(data[(row * width + x) * 4 :][: part * 4] for row in range(y, y + rows))
        assert renderer.read_rect(1, x, y, part, rows) == (0, wanted)


def test_the_widest_picture(renderer: RemoteRenderer) -> None:
    assert renderer.create(1, width=16384, height=9, bind=RENDER_TARGET) == 0
    data = pattern(16384 * 9 * 4)
    assert renderer.write_rect(1, 0, 0, 16384, 9, data) == 0
    assert renderer.read_rect(1, 0, 0, 16384, 9) == (0, data)


def without_padding(data: bytes, format: int) -> bytes:
    """Pixels without the byte that their format calls X."""
    padding = {2: 3, 4: 0, 68: 0, 134: 3}.get(format)
    return data if padding is None else bytes(byte for index, byte in enumerate(data) if index % 4 != padding)


def test_rows_further_apart_leave_what_lies_between(renderer: RemoteRenderer) -> None:
    assert renderer.create(1) == 0
    data = pattern(4 * 100)
    assert renderer.write_rect(1, 10, 20, 5, 4, data, 100) == 0
    rc, read = renderer.read_rect(1, 10, 20, 5, 4, 300)
    assert rc == 0
    for row in range(4):
        assert read[row * 300 : row * 300 + 20] == data[row * 100 : row * 100 + 20]
        assert set(read[row * 300 + 20 : (row + 1) * 300]) == {0xA5}


@pytest.mark.parametrize(
    "rect", [(0, 0, SIDE + 1, 1), (1, 0, SIDE, 1), (0, U32, 1, 2), (0, 0, 0, 1), (0, 0, 1, 0), (U32, U32, U32, U32)]
)
def test_rectangles_outside(renderer: RemoteRenderer, rect: tuple[int, int, int, int]) -> None:
    assert renderer.create(1) == 0
    rc, data = renderer.read_rect(1, *rect, 256) if rect[3] < 100 else renderer.read_rect(1, *rect[:3], 1, 256)
    assert rc == -errno.EINVAL
    assert set(data) <= {0xA5}
    assert renderer.write_rect(1, *rect, bytes(1024), 256) == -errno.EINVAL


def test_a_stride_too_small_for_the_rectangle(renderer: RemoteRenderer) -> None:
    assert renderer.create(1) == 0
    assert renderer.read_rect(1, 0, 0, 8, 8, 31)[0] == -errno.EINVAL
    assert renderer.write_rect(1, 0, 0, 8, 8, bytes(4096), 31) == -errno.EINVAL


def test_pictures_with_samples_are_not_read(renderer: RemoteRenderer) -> None:
    assert renderer.create(1, nr_samples=4) == 0
    assert renderer.read_rect(1, 0, 0, 4, 4)[0] == -errno.EINVAL
    assert renderer.attach(1, SIZE * 4) == 0
    assert renderer.transfer(1, False, BOX) == -errno.EINVAL


# ---- zeros


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"format": R32G32B32A32_FLOAT},
        {"format": S8Z24, "bind": DEPTH_STENCIL},
        {"last_level": 3},
        {"target": TEXTURE_3D, "depth": 8, "bind": SAMPLER_VIEW},
        {"target": ARRAY_2D, "array_size": 4},
        {"target": TEXTURE_CUBE, "array_size": 6},
        {"target": BUFFER, "format": R8_UNORM, "bind": VERTEX_BUFFER, "width": SIZE, "height": 1},
        {"target": BUFFER, "format": R8_UNORM, "bind": 1 << 17, "width": SIZE, "height": 1},
    ],
    ids=str,
)
def test_before_any_write_there_are_zeros(renderer: RemoteRenderer, values: dict[str, int]) -> None:
    """CVE-2022-0175. Memory of pictures that are gone is there to be found."""
    for _ in range(8):
        assert renderer.create(1) == 0
        assert renderer.write_rect(1, 0, 0, SIDE, SIDE, b"\xee" * SIZE) == 0
        renderer.unref(1)
        assert renderer.create(2, **values) == 0
        assert renderer.attach(2, 16 * SIZE, fill=0x55) == 0
        shape = {**plain(2), "last_level": 0, **values}
        depth = max(shape["depth"], shape["array_size"])
        for level in range(shape["last_level"] + 1):
            box = (0, 0, 0, shape["width"] >> level, max(1, shape["height"] >> level), depth)
            assert renderer.transfer(2, False, box, level=level) == 0
            assert 0xEE not in renderer.backing(2)
        assert renderer.backing(2)[: SIZE // 64] == bytes(SIZE // 64)
        renderer.unref(2)


def test_another_driver_has_zeros_too(softpipe: RemoteRenderer) -> None:
    """Not every driver clears what it hands out: with any but llvmpipe we do. Mesa's old software renderer is one."""
    assert softpipe.create(1, last_level=2) == 0
    assert softpipe.create(2, target=BUFFER, format=R8_UNORM, bind=VERTEX_BUFFER, width=SIZE, height=1) == 0
    assert softpipe.create(3, target=ARRAY_2D, array_size=3) == 0
    assert softpipe.create(4, target=TEXTURE_3D, depth=4, bind=SAMPLER_VIEW) == 0
    assert softpipe.create(5, format=S8Z24, bind=DEPTH_STENCIL) == 0
    assert softpipe.create(6, nr_samples=4) in (0, -errno.EINVAL)
    last = {1: BOX, 2: (0, 0, 0, SIZE, 1, 1), 3: (0, 0, 2, SIDE, SIDE, 1), 4: (0, 0, 3, SIDE, SIDE, 1)}
    for id, box in last.items():
        assert softpipe.attach(id, SIZE, fill=0x55) == 0
        assert softpipe.transfer(id, False, box) == 0
        assert softpipe.backing(id) == bytes(SIZE)


# ---- misuse


def test_what_is_not_there(renderer: RemoteRenderer) -> None:
    for id in (1, 0, U32):
        renderer.unref(id)
        renderer.detach(id)
        assert renderer.attach(id, 16) == -errno.EINVAL
        assert renderer.transfer(id, True, BOX) == -errno.EINVAL
        assert renderer.read_rect(id, 0, 0, 1, 1)[0] == -errno.EINVAL
        renderer.ctx_attach(9, id)
        renderer.ctx_detach(9, id)
    assert renderer.create(0) == -errno.EINVAL
    assert renderer.create(1) == 0
    assert renderer.create(1) == -errno.EINVAL


def test_ids_of_all_sizes(renderer: RemoteRenderer) -> None:
    for id in (1, 2**31 - 1, 2**31, U32):
        assert renderer.create(id) == 0
        assert renderer.attach(id, SIZE) == 0
        assert renderer.transfer(id, True, BOX) == 0
    for id in (1, 2**31 - 1, 2**31, U32):
        renderer.unref(id)


def test_a_resource_that_goes_while_a_context_has_it(renderer: RemoteRenderer) -> None:
    assert renderer.ctx_create(1) == 0
    for _ in range(20):
        assert renderer.create(1) == 0
        renderer.ctx_attach(1, 1)
        renderer.ctx_attach(1, 1)
        assert renderer.attach(1, SIZE) == 0
        assert renderer.submit(1, clear_stream(1, (1.0, 1.0, 1.0, 1.0))) == 0
        renderer.unref(1)
        renderer.ctx_detach(1, 1)
        renderer.ctx_destroy(1)
        assert renderer.ctx_create(1) == 0
