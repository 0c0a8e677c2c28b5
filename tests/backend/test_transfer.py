"""TRANSFER_TO_HOST_2D: where the rows come from, what is refused, backing in pieces and across regions."""

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backend._core import lib
from tests.backend.devicekit import (
    ERR_INVALID_PARAMETER,
    ERR_UNSPEC,
    MIB,
    OK,
    RAM_GPA,
    RAM_SIZE,
    Device,
    Rect,
)


@pytest.fixture
def device() -> Iterator[Device]:
    with Device() as device:
        device.ram[:] = struct.pack(f"<{RAM_SIZE // 4}I", *range(RAM_SIZE // 4))
        yield device


def expected(memory: bytes, stride: int, rect: Rect, offset: int) -> bytes:
    """The rows of a transfer, packed: row i starts i strides after offset."""
    _, _, width, height = rect
    return b"".join(memory[offset + i * stride : offset + i * stride + width * 4] for i in range(height))


def test_the_whole_resource(device: Device) -> None:
    device.create(1, 100, 50)
    device.attach(1)
    assert device.transfer(1, (0, 0, 100, 50)) == OK
    assert device.read(1, (0, 0, 100, 50)) == device.ram[:20000]


@pytest.mark.parametrize("offset", [0, 4, 123, 40000])
def test_rows_are_a_stride_apart(device: Device, offset: int) -> None:
    device.create(1, 100, 50)
    device.attach(1)
    rect = (7, 3, 60, 40)
    assert device.transfer(1, rect, offset) == OK
    assert device.read(1, rect) == expected(device.ram[:], 400, rect, offset)
    assert device.read(1, (0, 0, 100, 3)) == bytes(1200)
    assert device.read(1, (0, 3, 7, 47)) == bytes(7 * 47 * 4)


def test_without_backing(device: Device) -> None:
    device.create(1, 8, 8)
    assert device.transfer(1, (0, 0, 8, 8)) == ERR_UNSPEC
    device.attach(1)
    device.detach(1)
    assert device.transfer(1, (0, 0, 8, 8)) == ERR_UNSPEC


@pytest.mark.parametrize(
    "rect",
    [
        (1, 0, 8, 8),
        (0, 1, 8, 8),
        (9, 0, 0, 0),
        (0xFFFFFFFF, 0, 2, 1),
        (0, 0xFFFFFFFC, 1, 8),
        (4, 4, 0xFFFFFFFC, 0xFFFFFFFC),
    ],
)
def test_rectangles_outside_the_resource(device: Device, rect: Rect) -> None:
    device.create(1, 8, 8)
    device.attach(1)
    assert device.transfer(1, rect) == ERR_INVALID_PARAMETER
    assert device.flush(1, rect) == ERR_INVALID_PARAMETER


@pytest.mark.parametrize("rect", [(0, 0, 0, 8), (0, 0, 8, 0), (8, 8, 0, 0)])
def test_empty_rectangles_change_nothing(device: Device, rect: Rect) -> None:
    device.create(1, 8, 8)
    device.attach(1)
    assert device.transfer(1, rect) == OK
    assert device.read(1, (0, 0, 8, 8)) == bytes(256)


@pytest.mark.parametrize("offset", [1, 2**31, 2**32, 2**40, 2**64 - 1, 2**64 - 255])
def test_offsets_past_the_backing(device: Device, offset: int) -> None:
    device.create(1, 8, 8)
    device.attach(1, (RAM_GPA, 256))
    assert device.transfer(1, (0, 0, 8, 8), offset) == ERR_INVALID_PARAMETER
    assert device.read(1, (0, 0, 8, 8)) == bytes(256)


def test_the_last_row_needs_only_its_width(device: Device) -> None:
    device.create(1, 8, 8)
    device.attach(1, (RAM_GPA, 7 * 32 + 12))
    assert device.transfer(1, (0, 0, 3, 8)) == OK
    assert device.transfer(1, (0, 0, 4, 8)) == ERR_INVALID_PARAMETER
    assert device.transfer(1, (0, 0, 8, 7)) == OK
    assert device.transfer(1, (0, 0, 3, 8), 1) == ERR_INVALID_PARAMETER


def test_cve_2026_3886_backing_smaller_than_the_resource(device: Device) -> None:
    device.create(1, 1024, 1024)
    device.attach(1, (RAM_GPA, 4096))
    assert device.transfer(1, (0, 0, 1024, 1024)) == ERR_INVALID_PARAMETER
    assert device.transfer(1, (0, 0, 1024, 1)) == OK


ANY_LENGTHS = st.lists(st.integers(0, 700), min_size=1, max_size=40)
ALIKE = st.builds(
    lambda length, odd, before, after: [length] * before + odd + [length] * after,
    st.integers(1, 256),
    st.lists(st.integers(0, 700), max_size=2),
    st.integers(1, 30),
    st.integers(0, 30),
)


@settings(max_examples=100, deadline=None)
@given(
    lengths=ANY_LENGTHS | ALIKE,
    size=st.tuples(st.integers(1, 40), st.integers(1, 20)),
    data=st.data(),
)
def test_backing_in_any_pieces(lengths: list[int], size: tuple[int, int], data: st.DataObject) -> None:
    width, height = size
    with Device(hostmem=MIB) as device:
        device.ram[:] = bytes(i * 7 % 251 for i in range(8192)) * (RAM_SIZE // 8192)
        pieces = [(RAM_GPA + data.draw(st.integers(0, 7000)), length) for length in lengths]
        memory = b"".join(device.ram[gpa - RAM_GPA : gpa - RAM_GPA + length] for gpa, length in pieces)
        device.create(1, width, height)
        assert device.attach(1, *pieces) == OK
        for _ in range(4):
            x, y = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
            rect = (x, y, data.draw(st.integers(1, width - x)), data.draw(st.integers(1, height - y)))
            offset = data.draw(st.integers(0, 9000))
            needed = (rect[3] - 1) * width * 4 + rect[2] * 4
            answer = device.transfer(1, rect, offset)
            assert answer == (OK if offset + needed <= len(memory) else ERR_INVALID_PARAMETER)
            if answer == OK:
                assert device.read(1, rect) == expected(memory, width * 4, rect, offset)


def test_sixteen_thousand_pieces_backwards(device: Device) -> None:
    """Pieces of one word each, in reverse order; small rectangles far inside them."""
    count = 20000
    device.create(1, 200, 100)
    pieces = [(RAM_GPA + 4 * (count - 1 - i), 4) for i in range(count)]
    assert device.attach(1, *pieces) == OK
    for x, y in [(190, 90), (0, 0), (100, 50), (101, 51), (3, 99)]:
        assert device.transfer(1, (x, y, 1, 1), (y * 200 + x) * 4) == OK
        (value,) = struct.unpack("<I", device.read(1, (x, y, 1, 1)))
        assert value == count - 1 - (y * 200 + x)
    assert device.transfer(1, (0, 0, 200, 100)) == OK
    assert device.read(1, (0, 0, 200, 100)) == struct.pack(f"<{count}I", *reversed(range(count)))


def test_a_piece_across_two_regions(device: Device) -> None:
    second = device.add_memory(RAM_GPA + RAM_SIZE, MIB)
    second[:4096] = b"\x5a" * 4096
    start = RAM_SIZE - 100
    device.create(1, 16, 16)
    assert device.attach(1, (RAM_GPA + start, 1024)) == OK
    assert device.transfer(1, (0, 0, 16, 16)) == OK
    assert device.read(1, (0, 0, 16, 16)) == device.ram[start:] + second[:924]


def test_memory_that_goes_away_and_comes_back(device: Device) -> None:
    """CVE-like use after unmap: backing outlives the region it lies in."""
    second = device.add_memory(RAM_GPA + RAM_SIZE, MIB)
    second[:] = b"\x11" * MIB
    device.create(1, 16, 16)
    device.attach(1, (RAM_GPA + RAM_SIZE, 4096))
    assert device.transfer(1, (0, 0, 16, 16)) == OK
    device.remove_memory(RAM_GPA + RAM_SIZE, MIB)
    assert device.transfer(1, (0, 0, 16, 16)) == ERR_UNSPEC
    assert device.read(1, (0, 0, 16, 16)) == b"\x11" * 1024
    other = device.add_memory(RAM_GPA + RAM_SIZE, MIB)
    other[:] = b"\x22" * MIB
    assert device.transfer(1, (0, 0, 16, 16)) == OK
    assert device.read(1, (0, 0, 16, 16)) == b"\x22" * 1024
    lib.vg_mem_clear(device.dev)
    assert device.transfer(1, (0, 0, 1, 1)) == ERR_UNSPEC
    assert device.detach(1) == OK


def test_large_copies_come_whole(device: Device) -> None:
    device.create(1, 1000, 1000)
    device.attach(1)
    assert device.transfer(1, (0, 0, 1000, 1000)) == OK
    assert device.read(1, (0, 0, 1000, 1000)) == device.ram[:4_000_000]
    assert device.transfer(1, (1, 0, 999, 1000), 4) == OK
    assert device.read(1, (0, 0, 1000, 1000)) == device.ram[:4_000_000]


@pytest.mark.parametrize("rect", [(0, 0, 640, 480), (1, 0, 639, 480), (3, 7, 600, 450)], ids=str)
@pytest.mark.parametrize("offset", [0, 4, 52, 1])
def test_large_rectangles_wherever_they_begin(device: Device, rect: Rect, offset: int) -> None:
    """They are copied another way than small ones, which cares for alignment."""
    device.create(1, 640, 480)
    device.attach(1, (RAM_GPA + 100, 333_333), (RAM_GPA + 1_000_001, RAM_SIZE - 1_000_001))
    memory = device.ram[100:333_433] + device.ram[1_000_001:]
    assert device.transfer(1, rect, offset) == OK
    assert device.read(1, rect) == expected(memory, 2560, rect, offset)
