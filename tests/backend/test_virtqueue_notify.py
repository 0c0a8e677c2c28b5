"""Who wakes whom, with every kind of ring: interrupts, kicks, their suppression, and that no wake-up is lost."""

import os
import select
import struct
import threading

import pytest

from backend._core import ffi, lib
from tests.backend.ringkit import (
    EVENT_DESC,
    EVENT_DISABLE,
    EVENT_ENABLE,
    EVENT_IDX,
    F_WRITE,
    FEATURES,
    INDIRECT_DESC,
    KINDS,
    NO_INTERRUPT,
    NO_NOTIFY,
    RING_PACKED,
    VERSION_1,
    Kit,
    flush,
    get_display_info,
)

IDLE, REQUEST, STOPPED, BROKEN = lib.VG_DRAIN_IDLE, lib.VG_DRAIN_REQUEST, lib.VG_DRAIN_STOPPED, lib.VG_DRAIN_BROKEN


@pytest.fixture(params=KINDS)
def kit(request):
    with Kit(features=FEATURES | KINDS[request.param]) as kit:
        yield kit


@pytest.fixture
def split():
    with Kit() as kit:
        yield kit


@pytest.fixture
def packed():
    with Kit(features=FEATURES | RING_PACKED) as kit:
        yield kit


# ---- split


def test_event_idx_interrupt(split):
    """The call comes when used->idx passes used_event, and only then (virtio 1.3, 2.7.10)."""
    ring = split.control
    calls = []
    for used_event in (0, 0, 0, 3, 3, 5, 9, 7):
        ring.set_used_event(used_event)
        ring.send(flush(1, 1, 1))
        ring.drain()
        calls.append(ring.call_count())
    assert calls == [1, 0, 0, 1, 0, 1, 0, 1]


def test_event_idx_interrupt_for_a_batch(split):
    ring = split.control
    ring.send(flush(1, 1, 1))
    ring.drain()
    ring.call_count()
    for used_event, expected in ((4, 1), (10, 0)):
        ring.set_used_event(used_event)
        for _ in range(4):
            ring.send(flush(1, 1, 1))
        ring.drain()
        assert ring.call_count() == expected


def test_event_idx_kick_is_asked_for_at_the_end(split):
    ring = split.control
    ring.drain()
    assert ring.avail_event() == 0
    for _ in range(3):
        ring.send(flush(1, 1, 1))
    ring.drain()
    assert ring.avail_event() == 3


def test_flags_suppress_interrupts():
    with Kit(features=VERSION_1) as kit:
        ring = kit.control
        for flags, expected in ((0, 1), (NO_INTERRUPT, 0), (0, 1)):
            kit.write(ring.avail, struct.pack("<H", flags))
            ring.send(flush(1, 1, 1))
            ring.drain()
            assert ring.call_count() == expected


def test_flags_suppress_kicks_while_draining():
    with Kit(features=VERSION_1) as kit:
        ring = kit.control
        ring.send(get_display_info(), 408)
        assert ring.drain() == REQUEST
        assert kit.read(ring.used, 2) == struct.pack("<H", NO_NOTIFY)
        ring.complete()
        assert ring.drain() == IDLE
        assert kit.read(ring.used, 2) == bytes(2)


def test_flags_left_from_before_a_stop_are_cleared():
    with Kit(features=VERSION_1) as kit:
        ring = kit.control
        kit.write(ring.used, struct.pack("<H", NO_NOTIFY))
        ring.start()
        assert ring.drain() == IDLE
        assert kit.read(ring.used, 2) == bytes(2)


# ---- packed


@pytest.mark.parametrize("flags", [EVENT_ENABLE, EVENT_DISABLE, EVENT_DESC, 3, 0xFFFC, 0xFFFD])
@pytest.mark.parametrize("features", [VERSION_1, VERSION_1 | EVENT_IDX])
def test_packed_event_flags(features, flags):
    """What has no meaning counts as ENABLE: 3, and DESC without EVENT_IDX. The other bits are reserved."""
    with Kit(features=features | RING_PACKED) as kit:
        ring = kit.control
        for turn in range(3):
            ring.set_driver_event(flags, at=7)
            ring.send(flush(1, 1, 1))
            ring.drain()
            quiet = flags & 3 == EVENT_DISABLE or (flags & 3 == EVENT_DESC and features & EVENT_IDX and turn > 0)
            assert ring.call_count() == (0 if quiet else 1)


@pytest.mark.parametrize("num", [3, 4, 16])
def test_packed_event_at_a_descriptor(num):
    """The call comes when the descriptor asked for is passed, in this turn of the ring or the next, and only then."""
    with Kit(num=num, features=VERSION_1 | EVENT_IDX | RING_PACKED) as kit:
        ring = kit.control
        kit.control.add([(0, 0, 0)])
        ring.drain()
        ring.call_count()
        ring.take_used()
        for step in range(6 * num):
            count = step % (num - 1) + 1
            for ahead in (0, count - 1, count):
                at = ring.next + ahead
                ring.set_driver_event(EVENT_DESC, at)
                for _ in range(count):
                    ring.add([(0, 0, 0)])
                ring.drain()
                assert ring.call_count() == (1 if ahead < count else 0)
                assert len(ring.take_used()) == count


def test_packed_event_counts_descriptors_not_chains(packed):
    ring = packed.control
    ring.send(flush(1, 1, 1))
    ring.drain()
    ring.call_count()
    for at, expected in ((5, 1), (8, 0), (9, 1)):
        ring.set_driver_event(EVENT_DESC, at)
        ring.send([flush(1, 1, 1)], [24])
        if at == 5:
            ring.send([flush(1, 1, 1)], [24])
        ring.drain()
        ring.take_used()
        assert ring.call_count() == expected


def test_packed_whole_turn_between_two_looks(packed):
    """As many descriptors as the ring has: every place in it was passed."""
    ring = packed.control
    for _ in range(4):
        ring.set_driver_event(EVENT_DESC, ring.next + 5)
        for _ in range(16):
            ring.add([(0, 0, 0)])
        assert ring.drain() == IDLE
        assert ring.call_count() == 1
        ring.take_used()


def test_packed_kick_is_asked_for_at_the_end(packed):
    ring = packed.control
    ring.drain()
    assert ring.device_event() == (0x8000, EVENT_DESC)
    for turn in range(1, 9):
        for _ in range(3):
            ring.send(flush(1, 1, 1))
        assert not ring.kick_wanted()
        ring.drain()
        assert ring.device_event() == (ring.place(6 * turn), EVENT_DESC)
        ring.take_used()


def test_packed_kicks_are_off_while_draining():
    with Kit(features=VERSION_1 | RING_PACKED) as kit:
        ring = kit.control
        ring.send(get_display_info(), 408)
        assert ring.drain() == REQUEST
        assert ring.device_event()[1] == EVENT_DISABLE
        ring.complete()
        assert ring.drain() == IDLE
        assert ring.device_event()[1] == EVENT_ENABLE
        kit.write(ring.used, struct.pack("<HH", 0, EVENT_DISABLE))
        ring.start()
        assert ring.drain() == IDLE
        assert ring.device_event()[1] == EVENT_ENABLE


# ---- any kind


def test_one_call_for_many_completions(kit):
    for _ in range(5):
        kit.control.send(flush(1, 1, 1))
    kit.control.drain()
    assert kit.control.call_count() == 1
    assert kit.control.info().notified == 1


def test_completion_outside_a_drain_is_notified_on_request(kit):
    kit.control.send(get_display_info(), 408)
    assert kit.control.drain() == REQUEST
    assert lib.vg_queue_drain(kit.core, 0, 0, ffi.new("vg_request *")) == IDLE
    kit.control.complete(0x1101, bytes(384))
    assert kit.control.take_used() == [(0, 408)]
    assert kit.control.call_count() == 0
    lib.vg_queue_notify(kit.core, 0)
    lib.vg_queue_notify(kit.core, 0)
    assert kit.control.call_count() == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [VERSION_1, VERSION_1 | EVENT_IDX])
def test_polling_guest_needs_no_eventfds(features, kind):
    with Kit(features=features | KINDS[kind]) as kit:
        ring = kit.control
        for setter in (lib.vg_queue_set_kick, lib.vg_queue_set_call, lib.vg_queue_set_err):
            setter(kit.core, 0, -1)
        chain = ring.send(flush(1, 1, 1))
        assert ring.drain() == IDLE
        assert ring.take_used() == [(chain.head, 24)]
        ring.add([(0, 1, 0)])
        assert ring.drain() == BROKEN


def test_drain_takes_the_kick(kit):
    os.eventfd_write(kit.control.kick, 1)
    kit.control.drain()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(kit.control.kick)


@pytest.mark.parametrize("kicks", [0, 3])
def test_eventfds_that_block_do_not_block_us(split, kicks):
    """Their O_NONBLOCK is the VMM's affair: it shares the open file."""
    kick, call = os.eventfd(kicks, 0), os.eventfd(0, 0)
    os.eventfd_write(call, 2**64 - 2)
    lib.vg_queue_set_kick(split.core, 0, kick)
    lib.vg_queue_set_call(split.core, 0, call)
    split.control.send(flush(1, 1, 1))
    assert split.control.drain() == IDLE
    assert split.control.drain() == IDLE
    assert os.get_blocking(kick)
    assert os.eventfd_read(call) == 2**64 - 2
    lib.vg_queue_set_kick(split.core, 0, -1)
    lib.vg_queue_set_call(split.core, 0, -1)
    os.close(kick)
    os.close(call)


def test_stopped_queue_takes_the_kick_too(kit):
    """Else a loop that watches the eventfd would spin."""
    lib.vg_queue_set_enabled(kit.core, 0, 0)
    os.eventfd_write(kit.control.kick, 1)
    assert kit.control.drain() == STOPPED
    with pytest.raises(BlockingIOError):
        os.eventfd_read(kit.control.kick)


class Driver:
    """A driver that kicks and waits exactly as the ring's suppression allows (virtio 1.3, 2.7.10, 2.7.13.4, 2.8.14)."""

    def __init__(self, kit, ring):
        self.ring, self.added, self.returned = ring, 0, 0
        self.lock = threading.Lock()
        request, room = kit.place(flush(1, 1, 1)), kit.alloc(24)
        table = ring.pack_table([(request, 48, 0), (room, 24, F_WRITE)])
        self.chain = [(kit.place(table), len(table), 4)]

    def barrier(self):
        with self.lock:
            pass

    def submit(self):
        if self.added == self.returned + self.ring.num:
            self.wait()
        self.ring.add(self.chain)
        self.added += 1
        self.barrier()
        if self.ring.kick_wanted():
            os.eventfd_write(self.ring.kick, 1)

    def wait(self):
        while True:
            self.ring.ask_call()
            self.barrier()
            if used := self.ring.take_used():
                self.returned += len(used)
                return
            assert select.select([self.ring.call], [], [], 20)[0], "the interrupt got lost"
            self.ring.call_count()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("features", [VERSION_1 | INDIRECT_DESC, VERSION_1 | INDIRECT_DESC | EVENT_IDX])
def test_no_wakeup_is_lost(features, kind):
    """Driver and device at the same time, each asleep whenever the other has not asked for it."""
    total = 10_000
    with Kit(num=4, features=features | KINDS[kind]) as kit:
        driver = Driver(kit, kit.control)

        def device():
            while kit.control.info().completed < total:
                assert select.select([kit.control.kick], [], [], 20)[0], "the kick got lost"
                assert kit.control.drain() == IDLE

        thread = threading.Thread(target=device)
        thread.start()
        for _ in range(total):
            driver.submit()
        while driver.returned < total:
            driver.wait()
        thread.join()
