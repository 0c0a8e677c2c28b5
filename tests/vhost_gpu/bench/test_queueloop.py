"""The C loop: on real devices, and on one that answers wrongly."""

import os
import selectors
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from protocol.virtio_gpu import (
    EDID_SIZE,
    HEADER_SIZE,
    ControlHeader,
    GetEdid,
    HeaderFlag,
    MoveCursor,
    Rect,
    ResourceFlush,
    ResponseType,
)
from tests.vhost_gpu.bench.benchkit import OURS, THEIRS, wait_until
from tests.vhost_gpu.guest.toydevice import ToyDevice
from vhost_gpu.bench.apart import Shared
from vhost_gpu.bench.commands import RINGS, small_flush
from vhost_gpu.bench.guest import BenchGuest
from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.queueloop import Prepared, QueueLoop, Stop, percentile, prepare
from vhost_gpu.bench.target import Target
from vhost_gpu.guest.driver import F_EVENT_IDX, F_INDIRECT_DESC, LINUX_FEATURES
from vhost_gpu.guest.memory import GuestMemory
from vhost_gpu.guest.ring import DriverRing, Segment
from vhost_gpu.guest.vmm import eventfd

OK = ControlHeader(ResponseType.OK_NODATA).encode()
FLUSH = prepare(ResourceFlush(Rect(0, 0, 1, 1), 1))
COUNT = 1000


class Device(ToyDevice):
    """Serves a ring from a thread; ``answer_with`` makes the bytes of each response and the head that is returned."""

    def __init__(self, ring, answer_with=lambda chain: (OK, chain.head)):
        super().__init__(ring)
        self.kick, self.call = eventfd(), eventfd()
        self.answer_with = answer_with
        self.requests = []
        self.most = 0
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        os.eventfd_write(self.kick, 1 << 32)
        self._thread.join()
        os.close(self.kick)
        os.close(self.call)

    def _serve(self):
        with selectors.DefaultSelector() as selector:
            selector.register(self.kick, selectors.EVENT_READ)
            while selector.select() and os.eventfd_read(self.kick) < 1 << 32:
                self._drain()

    def _drain(self):
        while chains := list(iter(self.pop, None)):
            self.most = max(self.most, len(chains))
            for chain in chains:
                self._answer(chain)

    def _answer(self, chain):
        self.requests.append(self.request(chain))
        data, chain.head = self.answer_with(chain)
        before = self.interrupts
        self.answer(chain, data)
        if self.interrupts > before:
            os.eventfd_write(self.call, 1)


@pytest.fixture
def memory():
    """A little guest memory."""
    memory = GuestMemory()
    yield memory
    memory.close()


def toy_run(memory, answer_with, operations, size=16, **arguments):
    """Runs operations against a device of ours; gives the run and the device."""
    ring = DriverRing(memory, size)
    with Device(ring, answer_with) as device:
        return QueueLoop(memory, ring, device.kick, device.call, -1).run(operations, **arguments), device


def good(chain):
    return OK, chain.head


@pytest.mark.parametrize("program", [OURS, THEIRS], ids=lambda program: program.name)
@pytest.mark.parametrize("bits", [0, F_INDIRECT_DESC, F_EVENT_IDX, F_EVENT_IDX | F_INDIRECT_DESC])
def test_every_operation_is_done_and_timed(program, bits):
    features = LINUX_FEATURES & ~(F_EVENT_IDX | F_INDIRECT_DESC) | bits
    with Target.start(program) as target, BenchGuest.open(target, features=features) as guest:
        operation = small_flush(guest)
        for depth in (1, 8, 32):
            run = guest.control.run([operation], depth=depth, count=COUNT)
            assert (run.operations, run.commands, len(run.latencies)) == (COUNT, COUNT, COUNT)
            assert run.latencies == sorted(run.latencies)
            assert run.latencies[0] > 0
            assert 0 < run.interrupts <= COUNT
            assert 0 < run.kicks <= COUNT
            assert run.rate > 0


@pytest.mark.parametrize("ring", RINGS)
@pytest.mark.parametrize("bits", [0, F_INDIRECT_DESC, F_EVENT_IDX, F_EVENT_IDX | F_INDIRECT_DESC])
def test_every_kind_of_ring_goes_round_and_round(ring, bits):
    features = LINUX_FEATURES & ~(F_EVENT_IDX | F_INDIRECT_DESC) | bits | RINGS[ring]
    with Target.start(OURS) as target, BenchGuest.open(target, features=features) as guest:
        assert guest.gpu.control.ring.in_order == ("in_order" in ring)
        surface = guest.surface(64, 64)
        for depth in (1, 3, 16):
            assert guest.control.run([surface.update()], depth=depth, count=COUNT).commands == 2 * COUNT
        edid = prepare(GetEdid(0), reply_length=HEADER_SIZE + EDID_SIZE, expect=ResponseType.OK_EDID)
        assert guest.control.run([edid], depth=4, count=COUNT).operations == COUNT
        moves = prepare(MoveCursor(0, 1, 1), reply_length=0)
        assert guest.cursor.run([moves], depth=4, count=COUNT).operations == COUNT


def test_operations_are_sent_in_turn(memory):
    operations = [[Prepared(bytes([number, part])) for part in range(2)] for number in range(3)]
    run, device = toy_run(memory, good, operations, depth=2, count=7)
    assert run.commands == 14
    assert device.requests == [bytes([number % 3, part]) for number in range(7) for part in range(2)]


def test_so_many_are_in_flight_and_no_more(memory):
    _, device = toy_run(memory, good, [FLUSH], depth=8, count=100)
    assert device.most <= 8


def test_a_queue_holds_half_as_many_chains_without_indirect_tables(memory):
    assert toy_run(memory, good, [FLUSH], depth=8, count=8)[0].operations == 8
    with pytest.raises(ValueError, match="do not fit"):
        toy_run(memory, good, [FLUSH], depth=9, count=9)


def test_errors_are_counted_and_the_first_is_named(memory):
    answers = iter([OK, ControlHeader(ResponseType.ERR_INVALID_PARAMETER).encode(), b"\xff\xff\xff\xff" + OK[4:]])
    with pytest.raises(BenchError, match="2 of 3 commands failed, the first with ERR_INVALID_PARAMETER"):
        toy_run(memory, lambda chain: (next(answers), chain.head), [FLUSH], count=3)


@pytest.mark.parametrize("answer", [OK[:23], b""])
def test_an_answer_that_is_too_short_is_an_error(memory, answer):
    with pytest.raises(BenchError, match="1 of 1 commands failed"):
        toy_run(memory, lambda chain: (answer, chain.head), [FLUSH], count=1)


@pytest.mark.parametrize("head", [4, 15, 16, 70000])
def test_a_chain_that_was_not_out_is_reported(memory, head):
    with pytest.raises(BenchError, match="not out"):
        toy_run(memory, lambda _: (OK, head), [FLUSH], count=1)


def test_a_real_devices_errors_are_reported():
    with (
        Target.start(OURS) as target,
        BenchGuest.open(target) as guest,
        pytest.raises(BenchError, match="3 of 3 commands failed, the first with ERR_INVALID_RESOURCE_ID"),
    ):
        guest.control.run([prepare(ResourceFlush(Rect(0, 0, 1, 1), 99))], count=3)


def test_a_device_that_goes_away_is_reported():
    with Target.start(OURS) as target, BenchGuest.open(target) as guest, ThreadPoolExecutor(1) as pool:
        operation = small_flush(guest)
        running = pool.submit(guest.control.run, [operation], interval=0.001)
        os.kill(target.pids()[-1], 9)
        with pytest.raises(BenchError, match="closed the connection"):
            running.result()


FENCED = GetEdid(0).encode(HeaderFlag.FENCE)


def echo(device):
    """Answers with the request's header, as a device that knows fences does."""
    header = ControlHeader.decode(device.requests[-1])
    return ControlHeader(ResponseType.OK_NODATA, header.flags, header.fence_id).encode()


@pytest.mark.parametrize("packed", [False, True])
def test_a_payload_follows_its_request(memory, packed):
    payload = Segment(memory.alloc(5000), 5000)
    memory.write(payload.gpa, bytes(range(250)) * 20)
    features = LINUX_FEATURES | (RINGS["packed"] if packed else 0)
    with Target.start(OURS) as target, BenchGuest.open(target, features=features) as guest:
        gpa = guest.memory.alloc(32)
        guest.memory.write(gpa, bytes(32))
        # A flush of no resource, whose rectangle and number lie in a payload.
        flush = Prepared(FLUSH[0].request[:24], expect=ResponseType.ERR_INVALID_RESOURCE_ID, payload=Segment(gpa, 24))
        assert guest.control.run([[flush]], depth=8, count=COUNT).commands == COUNT
    ring = DriverRing(memory, 16, indirect=True)
    with Device(ring, good) as device:
        QueueLoop(memory, ring, device.kick, device.call, -1).run([[Prepared(b"head", payload=payload)]], count=3)
    assert device.requests == [b"head" + bytes(range(250)) * 20] * 3


def test_a_payload_wants_indirect_descriptors_and_a_reply(memory):
    payload = Segment(memory.alloc(64), 64)
    with pytest.raises(ValueError, match="do not fit"):
        toy_run(memory, good, [[Prepared(b"head", payload=payload)]], count=1)
    with pytest.raises(ValueError, match="do not fit"):
        QueueLoop(memory, DriverRing(memory, 16, indirect=True), -1, -1, -1).run(
            [[Prepared(b"head", reply_length=0, payload=payload)]], count=1
        )


def test_fences_rise_from_run_to_run_and_are_checked(memory):
    ring = DriverRing(memory, 16, event_idx=True)
    device = Device(ring)
    device.answer_with = lambda chain: (echo(device), chain.head)
    with device:
        loop = QueueLoop(memory, ring, device.kick, device.call, -1)
        for _ in range(2):
            run = loop.run([[Prepared(FENCED)], FLUSH], depth=4, count=20)
            assert run.batches >= run.interrupts > 0
        fences = [ControlHeader.decode(request).fence_id for request in device.requests]
        assert fences[0::2] == list(range(1, 21))
        assert set(fences[1::2]) == {0}
        device.answer_with = lambda chain: (OK, chain.head)
        with pytest.raises(BenchError, match="3 of 3 commands came back without their fences"):
            loop.run([[Prepared(FENCED)]], count=3)


def test_a_run_can_be_ended_from_another_thread(memory):
    stop = Stop()
    stop.set()
    run, _ = toy_run(memory, good, [FLUSH], stop=stop)
    assert run.operations == 0


def test_operations_of_different_lengths_do_not_go_together(memory):
    ring = DriverRing(memory, 4)
    loop = QueueLoop(memory, ring, -1, -1, -1)
    for operations in ([FLUSH, FLUSH * 2], [[]], []):
        with pytest.raises(ValueError, match="of one length"):
            loop.run(operations)


def test_a_queue_in_use_is_not_taken_over(memory):
    ring = DriverRing(memory, 4)
    ring.add([Segment(0, 4)])
    with pytest.raises(ValueError, match="in flight"):
        QueueLoop(memory, ring, -1, -1, -1)


def test_percentiles_are_values_that_were_measured():
    assert percentile([1, 2, 3, 4], 50) == 2
    assert percentile([1, 2, 3, 4], 99) == 4
    assert percentile([5], 1) == 5
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_tally_counts_while_the_run_goes_on():
    stop, tally = Stop(), Shared(1).tally(0)
    with Target.start(OURS) as target, BenchGuest.open(target) as guest, ThreadPoolExecutor(1) as pool:
        update = guest.surface(16, 16).update()
        running = pool.submit(guest.control.run, [update], stop=stop, tally=tally)
        try:
            wait_until(lambda: tally.operations >= 3)
        finally:
            stop.set()
        run = running.result()
    assert run.operations == tally.operations
    assert run.latencies == []
