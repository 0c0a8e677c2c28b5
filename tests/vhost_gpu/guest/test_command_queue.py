"""Requests over a ring, against a device in a few lines."""

import asyncio
import os

import pytest

from tests.vhost_gpu.guest.toydevice import ToyDevice
from vhost_gpu.guest.command_queue import CommandQueue, DeviceStopped, cut
from vhost_gpu.guest.memory import MIB, GuestMemory, one_region
from vhost_gpu.guest.ring import Segment


@pytest.fixture
def memory():
    guest = GuestMemory(one_region(2 * MIB))
    yield guest
    guest.close()


def serve(device):
    """Answers everything that is there with the request, upper case; returns how many."""
    count = 0
    while chain := device.pop():
        device.answer(chain, device.request(chain).upper())
        count += 1
    return count


def test_cutting():
    assert cut(Segment(100, 10), [3, 4]) == [Segment(100, 3), Segment(103, 4), Segment(107, 3)]
    assert cut(Segment(100, 10), []) == [Segment(100, 10)]
    assert cut(Segment(100, 0), []) == []
    assert cut(Segment(100, 4), [3, 9, 9]) == [Segment(100, 3), Segment(103, 1)], "no empty pieces"


@pytest.mark.parametrize("indirect", [False, True])
@pytest.mark.parametrize("cuts", [(), (1,), (2, 2, 1)])
async def test_a_request_is_answered(memory, indirect, cuts):
    queue = CommandQueue(memory, 16, indirect=indirect, event_idx=False)
    device = ToyDevice(queue.ring)
    future = queue.post(b"request", 7, cuts=cuts, reply_cuts=cuts)
    queue.kick()
    assert serve(device) == 1
    queue.harvest()
    assert await future == b"REQUEST"
    queue.release()


async def test_answers_find_their_requests_in_any_order(memory):
    queue = CommandQueue(memory, 8, indirect=True, event_idx=True)
    device = ToyDevice(queue.ring)
    futures = [queue.post(b"%d" % i, 8) for i in range(4)]
    queue.kick()
    chains = [device.pop() for _ in range(4)]
    for chain in reversed(chains):
        device.answer(chain, b"to " + device.request(chain))
    queue.harvest()
    assert await asyncio.gather(*futures) == [b"to 0", b"to 1", b"to 2", b"to 3"]
    queue.release()


async def test_more_than_fits_waits_in_order(memory):
    queue = CommandQueue(memory, 2, indirect=False, event_idx=True)
    device = ToyDevice(queue.ring)
    futures = [queue.post(b"%d" % i, 4) for i in range(9)]
    queue.kick()
    assert queue.in_flight == 9
    seen = []
    while chain := device.pop():
        seen.append(device.request(chain))
        device.answer(chain, b"")
        queue.harvest()
    assert seen == [b"%d" % i for i in range(9)]
    assert all(future.done() for future in futures)
    queue.release()


async def test_large_requests_have_memory_of_their_own_for_their_time(memory):
    queue = CommandQueue(memory, 4, indirect=False, event_idx=False)
    before = memory.free_bytes()
    future = queue.post(b"x" * 100_000, 100_000)
    assert memory.free_bytes() < before
    queue.kick()
    serve(ToyDevice(queue.ring))
    queue.harvest()
    assert await future == b"X" * 100_000
    assert memory.free_bytes() == before
    queue.release()


async def test_a_reply_is_no_longer_than_its_room(memory):
    queue = CommandQueue(memory, 4, indirect=False, event_idx=False)
    future = queue.post(b"request", 3)
    queue.kick()
    device = ToyDevice(queue.ring)
    device.push(device.pop().head, 0xFFFFFFFF)
    queue.harvest()
    assert len(await future) == 3
    queue.release()


async def test_one_kick_for_many(memory):
    queue = CommandQueue(memory, 16, indirect=True, event_idx=True)
    queue.kick_fd = os.eventfd(0, os.EFD_NONBLOCK)
    for _ in range(10):
        queue.post(b"r", 1)
    queue.kick()
    assert queue.kicks == 1
    assert os.eventfd_read(queue.kick_fd) == 1
    os.close(queue.kick_fd)
    serve(ToyDevice(queue.ring))
    queue.harvest()
    queue.release()


async def test_stopping_fails_what_is_in_flight(memory):
    before = memory.free_bytes()
    queue = CommandQueue(memory, 2, indirect=False, event_idx=False)
    futures = [queue.post(b"r", 1) for _ in range(3)]
    queue.reset()
    for future in futures:
        with pytest.raises(DeviceStopped):
            await future
    again = queue.post(b"again", 5)
    queue.kick()
    serve(ToyDevice(queue.ring))
    queue.harvest()
    assert await again == b"AGAIN"
    queue.release()
    assert memory.free_bytes() == before
