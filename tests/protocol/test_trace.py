"""The trace's file: bytes, round trips in pieces of any size, what is no trace."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerError
from protocol.trace import HEADER_SIZE, MAX_RECORD, Record, RecordDecoder, RecordKind, TraceHeader

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
records = st.builds(Record, u16, u16, u32, u32, u64, u64, st.binary(max_size=40))


def test_bytes_of_the_header() -> None:
    data = TraceHeader(5, 7).encode()
    assert data == b"VGPUTRCE" + struct.pack("<IIQQ", 1, 0, 5, 7)
    assert len(data) == HEADER_SIZE
    assert TraceHeader.decode(data + b"more") == TraceHeader(5, 7)


@pytest.mark.parametrize("data", [b"", b"VGPUTRCE", b"ELF" + bytes(40), TraceHeader(5, 7).encode()[:-1]])
def test_what_is_no_trace(data: bytes) -> None:
    with pytest.raises(PeerError, match="no trace"):
        TraceHeader.decode(data)


def test_a_later_version() -> None:
    with pytest.raises(PeerError, match="version 2, not 1"):
        TraceHeader.decode(b"VGPUTRCE" + struct.pack("<IIQQ", 2, 0, 5, 7))


def test_bytes_of_a_record() -> None:
    data = Record(RecordKind.TAKEN, 1, 7, 24, 32, 99, b"abc").encode()
    assert data == struct.pack("<IHHIIQQ", 35, 1, 1, 7, 24, 32, 99) + b"abc"


@given(st.lists(records, max_size=6), st.integers(1, 50))
def test_records_come_back_from_pieces_of_any_size(several: list[Record], size: int) -> None:
    data = b"".join(record.encode() for record in several)
    decoder = RecordDecoder()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    assert [record for piece in pieces for record in decoder.feed(piece)] == several
    assert decoder.rest == 0


def test_the_beginning_of_a_record_waits_for_its_end() -> None:
    data = Record(1, 0, 0, 0, 0, 0, b"abcd").encode()
    decoder = RecordDecoder()
    assert decoder.feed(data[:-1]) == []
    assert decoder.rest == len(data) - 1


@pytest.mark.parametrize("size", [0, 31, MAX_RECORD + 1])
def test_a_size_that_cannot_be(size: int) -> None:
    with pytest.raises(PeerError, match=f"a record of {size} bytes"):
        RecordDecoder().feed(struct.pack("<I", size) + bytes(28))
