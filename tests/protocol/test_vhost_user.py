"""vhost-user codec: exact bytes, round trips, limits, descriptors, noise."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import vhost_user as vu
from protocol.errors import PeerError
from protocol.vhost_user import Request

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, (1 << 64) - 1)
regions = st.builds(
    vu.MemoryRegion,
    gpa=st.integers(0, 1 << 62),
    size=st.integers(1, 1 << 62),
    uva=st.integers(0, 1 << 62),
    mmap_offset=st.integers(0, 1 << 62),
)
tables = st.builds(vu.MemoryTable, st.lists(regions, max_size=8).map(tuple))
configs = st.binary(max_size=256).flatmap(
    lambda data: st.builds(vu.Config, u32, st.just(len(data)), st.integers(0, 1), st.just(data))
)
states = st.builds(vu.VringState, u32, u32)
vring_fds = st.builds(vu.VringFd, st.integers(0, 255), st.booleans())
PAYLOADS = {
    Request.SET_MEM_TABLE: tables,
    Request.SET_VRING_NUM: states,
    Request.SET_VRING_BASE: states,
    Request.GET_VRING_BASE: states,
    Request.SET_VRING_ENABLE: states,
    Request.SET_VRING_ADDR: st.builds(vu.VringAddr, u32, u32, u64, u64, u64, u64),
    Request.SET_VRING_KICK: vring_fds,
    Request.SET_VRING_CALL: vring_fds,
    Request.SET_VRING_ERR: vring_fds,
    Request.GET_CONFIG: configs,
    Request.SET_CONFIG: configs,
    Request.ADD_MEM_REG: st.builds(vu.SingleMemoryRegion, regions),
    Request.REM_MEM_REG: st.builds(vu.SingleMemoryRegion, regions),
    Request.SET_FEATURES: st.builds(vu.U64, u64),
    Request.SET_PROTOCOL_FEATURES: st.builds(vu.U64, u64),
    Request.SET_STATUS: st.builds(vu.U64, u64),
    Request.GET_FEATURES: st.just(vu.EMPTY),
    Request.GPU_SET_SOCKET: st.just(vu.EMPTY),
    Request.SET_BACKEND_REQ_FD: st.just(vu.EMPTY),
    Request.SET_LOG_BASE: st.builds(vu.Raw, st.binary(max_size=64)),
}
messages = st.sampled_from(sorted(PAYLOADS)).flatmap(lambda request: st.tuples(st.just(request), PAYLOADS[request]))


def fds_of(request: int, payload: vu.Payload) -> list[int]:
    """Descriptor numbers as many as this message carries."""
    if isinstance(payload, vu.VringFd):
        return [10] if payload.has_fd else []
    if isinstance(payload, vu.MemoryTable):
        return list(range(10, 10 + len(payload.regions)))
    one = (Request.ADD_MEM_REG, Request.GPU_SET_SOCKET, Request.SET_BACKEND_REQ_FD)
    return [10] if request in one else []


def feed_all(decoder: Any, data: bytes, fds: list[int]) -> vu.Message:
    """Feeds one message as an adapter does: what is wanted at a time, descriptors with the first byte."""
    message = None
    while data:
        size = decoder.wants()
        message = decoder.feed(data[:size], fds)
        data, fds = data[size:], []
    assert message is not None
    return message


def decode(request: int, payload: bytes, fds: list[int] | None = None, flags: int = 1) -> vu.Message:
    data = struct.pack("=III", request, flags, len(payload)) + payload
    return feed_all(vu.Decoder(), data, fds or [])


@given(messages, st.booleans())
def test_requests_survive_a_round_trip(message: tuple[Request, vu.Payload], need_reply: bool) -> None:
    request, payload = message
    fds = fds_of(request, payload)
    got = feed_all(vu.Decoder(), vu.encode(request, payload, need_reply), fds)
    assert (got.request, got.payload, got.fds, got.need_reply) == (request, payload, tuple(fds), need_reply)


@given(st.lists(messages, max_size=5), st.data())
def test_any_cutting_of_the_stream_gives_the_same_messages(
    sent: list[tuple[Request, vu.Payload]], data: st.DataObject
) -> None:
    decoder = vu.Decoder()
    received = []
    for request, payload in sent:
        rest, fds = vu.encode(request, payload), fds_of(request, payload)
        while rest:
            size = data.draw(st.integers(1, decoder.wants()))
            message = decoder.feed(rest[:size], fds)
            rest, fds = rest[size:], []
            received += [message] if message else []
    assert [(message.request, message.payload) for message in received] == sent
    assert decoder.idle


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (vu.encode(Request.GET_FEATURES), "01000000 01000000 00000000"),
        (vu.encode(Request.SET_FEATURES, vu.U64(0x10170000002)), "02000000 01000000 08000000 0200007001010000"),
        (
            vu.encode(Request.SET_VRING_ENABLE, vu.VringState(1, 1), True),
            "12000000 09000000 08000000 01000000 01000000",
        ),
        (vu.encode(Request.SET_VRING_KICK, vu.VringFd(1, True)), "0c000000 01000000 08000000 0100000000000000"),
        (vu.encode(Request.SET_VRING_CALL, vu.VringFd(0, False)), "0d000000 01000000 08000000 0001000000000000"),
        (
            vu.encode(Request.GET_CONFIG, vu.Config(0, 4, 0, bytes(4))),
            "18000000 01000000 10000000 00000000 04000000 00000000 00000000",
        ),
        (vu.encode_reply(Request.SET_OWNER, vu.U64(0)), "03000000 05000000 08000000 0000000000000000"),
        (
            vu.encode(Request.ADD_MEM_REG, vu.SingleMemoryRegion(vu.MemoryRegion(1, 2, 3, 4))),
            "25000000 01000000 28000000 0000000000000000"
            "0100000000000000 0200000000000000 0300000000000000 0400000000000000",
        ),
        (
            vu.encode(Request.SET_VRING_ADDR, vu.VringAddr(1, 0, 2, 3, 4, 5)),
            "09000000 01000000 28000000 01000000 00000000"
            "0200000000000000 0300000000000000 0400000000000000 0500000000000000",
        ),
        (
            vu.encode(Request.SET_MEM_TABLE, vu.MemoryTable((vu.MemoryRegion(1, 2, 3, 4),))),
            "05000000 01000000 28000000 01000000 00000000"
            "0100000000000000 0200000000000000 0300000000000000 0400000000000000",
        ),
    ],
)
def test_bytes_on_the_wire(message: bytes, expected: str) -> None:
    assert message == bytes.fromhex(expected)


@pytest.mark.parametrize("size", [vu.MAX_PAYLOAD + 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_header_that_announces_too_much_fails_before_anything_is_read(size: int) -> None:
    decoder = vu.Decoder()
    with pytest.raises(PeerError, match="announces"):
        decoder.feed(struct.pack("=III", Request.SET_FEATURES, 1, size), [])


@pytest.mark.parametrize("flags", [0, 2, 3, 1 | vu.Flag.REPLY])
def test_a_wrong_version_and_a_reply_are_refused(flags: int) -> None:
    with pytest.raises(PeerError):
        vu.Decoder().feed(struct.pack("=III", Request.GET_FEATURES, flags, 0), [])


@pytest.mark.parametrize("request_number", [0, 44, 1000, 0xFFFFFFFF])
def test_an_unknown_request_keeps_its_bytes_for_a_nack(request_number: int) -> None:
    message = decode(request_number, b"abc", [5, 6], flags=9)
    assert message == vu.Message(request_number, 9, vu.Raw(b"abc"), (5, 6))
    assert message.need_reply


@pytest.mark.parametrize(
    ("request_number", "size"),
    [
        (Request.GET_FEATURES, 8),
        (Request.SET_FEATURES, 0),
        (Request.SET_FEATURES, 7),
        (Request.SET_FEATURES, 16),
        (Request.SET_VRING_NUM, 4),
        (Request.SET_VRING_ADDR, 39),
        (Request.SET_VRING_KICK, 4),
        (Request.SET_MEM_TABLE, 0),
        (Request.SET_MEM_TABLE, 7),
        (Request.SET_MEM_TABLE, 9),
        (Request.ADD_MEM_REG, 32),
        (Request.REM_MEM_REG, 41),
        (Request.GET_CONFIG, 11),
        (Request.SET_CONFIG, 0),
    ],
)
def test_a_payload_of_the_wrong_size_is_refused(request_number: Request, size: int) -> None:
    with pytest.raises(PeerError, match=request_number.name):
        decode(request_number, bytes(size))


TOP = 1 << 64
WRAPPING = [
    (TOP - 4096, 4096, 0, 0),
    (0, 4096, TOP - 4095, 0),
    (0, 4096, 0, TOP - 1),
    (TOP - 1, TOP - 1, TOP - 1, TOP - 1),
    (0x1000, 0, 0x1000, 0),
]


@pytest.mark.parametrize("numbers", WRAPPING)
def test_regions_that_wrap_or_are_empty_are_refused(numbers: tuple[int, int, int, int]) -> None:
    region = struct.pack("=QQQQ", *numbers)
    good = struct.pack("=QQQQ", 0, 4096, 0, 0)
    for request, payload, fds in (
        (Request.ADD_MEM_REG, bytes(8) + region, [3]),
        (Request.REM_MEM_REG, bytes(8) + region, []),
        (Request.SET_MEM_TABLE, struct.pack("=II", 2, 0) + good + region, [3, 4]),
    ):
        with pytest.raises(PeerError, match=r"wraps|empty"):
            decode(request, payload, fds)


@pytest.mark.parametrize("count", [9, 127, 0xFFFFFFFF])
def test_a_table_that_announces_more_regions_than_it_may_is_refused(count: int) -> None:
    with pytest.raises(PeerError):
        decode(Request.SET_MEM_TABLE, struct.pack("=II", count, 0) + bytes(9 * 32), [])


def test_a_table_may_be_padded_to_eight_regions() -> None:
    payload = struct.pack("=IIQQQQ", 1, 0, 0, 4096, 0, 0) + bytes(7 * 32)
    assert decode(Request.SET_MEM_TABLE, payload, [3]).payload == vu.MemoryTable((vu.MemoryRegion(0, 4096, 0, 0),))


@pytest.mark.parametrize(
    ("request_number", "payload", "fds"),
    [
        (Request.SET_OWNER, b"", [3]),
        (Request.SET_FEATURES, bytes(8), [3]),
        (Request.GPU_SET_SOCKET, b"", []),
        (Request.GPU_SET_SOCKET, b"", [3, 4]),
        (Request.SET_BACKEND_REQ_FD, b"", []),
        (Request.SET_VRING_KICK, struct.pack("=Q", 0), []),
        (Request.SET_VRING_KICK, struct.pack("=Q", 0x100), [3]),
        (Request.SET_VRING_CALL, struct.pack("=Q", 0), [3, 4]),
        (Request.SET_MEM_TABLE, struct.pack("=IIQQQQ", 1, 0, 0, 4096, 0, 0), []),
        (Request.SET_MEM_TABLE, struct.pack("=II", 0, 0), [3]),
        (Request.ADD_MEM_REG, struct.pack("=QQQQQ", 0, 0, 4096, 0, 0), []),
        (Request.REM_MEM_REG, struct.pack("=QQQQQ", 0, 0, 4096, 0, 0), [3, 4]),
    ],
)
def test_a_wrong_number_of_descriptors_fails_and_hands_them_back(
    request_number: Request, payload: bytes, fds: list[int]
) -> None:
    decoder = vu.Decoder()
    with pytest.raises(PeerError, match="descriptors"):
        feed_all(decoder, vu.encode(request_number, vu.Raw(payload)), fds)
    assert decoder.take_fds() == fds
    assert decoder.take_fds() == []


def test_a_thousand_descriptors_fail_and_are_all_handed_back() -> None:
    decoder = vu.Decoder()
    fds = list(range(1000))
    with pytest.raises(PeerError, match="1000 descriptors"):
        decoder.feed(vu.encode(Request.SET_MEM_TABLE)[:12], fds)
    assert decoder.take_fds() == fds


def test_descriptors_that_come_in_pieces_are_counted_together() -> None:
    decoder = vu.Decoder()
    data = vu.encode(1000, vu.Raw(bytes(8)))
    assert decoder.feed(data[:12], [1, 2, 3, 4, 5]) is None
    with pytest.raises(PeerError, match="descriptors"):
        decoder.feed(data[12:], [6, 7, 8, 9])
    assert decoder.take_fds() == [1, 2, 3, 4, 5, 6, 7, 8, 9]


def test_descriptors_of_a_finished_message_are_the_takers() -> None:
    decoder = vu.Decoder()
    assert feed_all(decoder, vu.encode(Request.GPU_SET_SOCKET), [7]).fds == (7,)
    assert decoder.take_fds() == []


def test_vring_descriptor_payloads_with_unknown_bits_are_refused() -> None:
    with pytest.raises(PeerError, match="unknown bits"):
        decode(Request.SET_VRING_ERR, struct.pack("=Q", 1 << 9), [3])


def test_the_largest_vring_index_is_kept_for_the_session_to_refuse() -> None:
    assert decode(Request.SET_VRING_KICK, struct.pack("=Q", 255), [3]).payload == vu.VringFd(255, True)


def test_a_configuration_read_may_leave_out_the_bytes() -> None:
    assert decode(Request.GET_CONFIG, struct.pack("=III", 4, 8, 0)).payload == vu.Config(4, 8, 0, b"")


@pytest.mark.parametrize("size", [3, 5, vu.MAX_PAYLOAD, 0xFFFFFFFF])
@pytest.mark.parametrize("request_number", [Request.GET_CONFIG, Request.SET_CONFIG])
def test_a_configuration_whose_size_is_not_its_bytes_is_refused(request_number: Request, size: int) -> None:
    with pytest.raises(PeerError):
        decode(request_number, struct.pack("=III", 0, size, 0) + bytes(4))


def test_an_end_of_file_inside_a_message_can_be_told() -> None:
    decoder = vu.Decoder()
    assert decoder.idle
    decoder.feed(b"\1\0", [])
    assert not decoder.idle
    assert decoder.wants() == 10


def test_feeding_more_than_wanted_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="wanted"):
        vu.Decoder().feed(bytes(13), [])


@pytest.mark.parametrize(
    ("request_number", "payload"),
    [
        (Request.GET_FEATURES, vu.U64(1 << 30)),
        (Request.SET_MEM_TABLE, vu.U64(0)),
        (Request.GET_VRING_BASE, vu.VringState(1, 77)),
        (Request.GET_CONFIG, vu.Config(0, 2, 0, b"ab")),
        (Request.GET_CONFIG, vu.EMPTY),
        (Request.GET_INFLIGHT_FD, vu.Raw(bytes(24))),
    ],
)
def test_replies_decode_by_their_request(request_number: Request, payload: vu.Payload) -> None:
    message = feed_all(vu.ReplyDecoder(), vu.encode_reply(request_number, payload), [])
    assert (message.request, message.payload) == (request_number, payload)


def test_a_request_is_no_reply() -> None:
    with pytest.raises(PeerError, match="no reply"):
        vu.ReplyDecoder().feed(vu.encode(Request.GET_FEATURES), [])


def test_the_back_end_channel_has_its_own_numbers() -> None:
    message = feed_all(vu.BackendDecoder(), vu.encode(vu.BackendRequest.CONFIG_CHANGE_MSG, need_reply=True), [])
    assert message == vu.Message(vu.BackendRequest.CONFIG_CHANGE_MSG, 9, vu.EMPTY)


@given(st.binary(max_size=400), st.lists(st.integers(3, 99), max_size=12), st.sampled_from(range(1, 44)))
def test_noise_raises_nothing_but_peer_error_and_loses_no_descriptor(
    noise: bytes, fds: list[int], request_number: int
) -> None:
    for decoder in (vu.Decoder(), vu.ReplyDecoder(), vu.BackendDecoder()):
        flags = 5 if isinstance(decoder, vu.ReplyDecoder) else 1
        data = struct.pack("=III", request_number, flags, len(noise)) + noise
        try:
            got = list(feed_all(decoder, data, fds).fds)
        except PeerError:
            got = decoder.take_fds()
        assert got == fds


@given(st.binary(min_size=1, max_size=60))
def test_noise_from_the_first_byte_raises_nothing_but_peer_error(noise: bytes) -> None:
    decoder = vu.Decoder()
    try:
        while noise:
            size = decoder.wants()
            decoder.feed(noise[:size], [])
            noise = noise[size:]
    except PeerError:
        assert not decoder.idle
