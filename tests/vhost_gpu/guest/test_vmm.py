"""The VMM side of vhost-user: answers that are wrong, late or missing, and memory that changes."""

import os
import socket

import pytest

from protocol.vhost_user import EMPTY, U64, Config, Raw, Request, VringState, encode_reply
from tests.vhost_gpu.guest.fakebackend import FakeBackend
from tests.vhost_gpu.guestkit import open_fds
from vhost_gpu.guest.memory import GuestMemory, RegionSpec, split_regions
from vhost_gpu.guest.vmm import BackendGone, VmmConnection, VmmError, VmmOptions


@pytest.fixture
def memory():
    guest = GuestMemory(split_regions(2, 1 << 20))
    yield guest
    guest.close()


async def connect(backend, memory, **options):
    vmm = await VmmConnection.connect(backend.vmm, memory, VmmOptions(display=None, **options))
    await vmm.negotiate()
    backend.log.clear()
    return vmm


async def test_connects_by_path_by_descriptor_and_by_socket(tmp_path, memory):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        (await VmmConnection.connect(path, memory)).close()
    ours, theirs = socket.socketpair()
    with theirs:
        (await VmmConnection.connect(ours.detach(), memory)).close()
        assert theirs.recv(1) == b""


async def test_a_missing_path_is_an_os_error_and_leaks_nothing(tmp_path, memory):
    before = open_fds()
    with pytest.raises(FileNotFoundError):
        await VmmConnection.connect(tmp_path / "none", memory)
    assert open_fds() == before


async def test_closing_twice_leaks_nothing(memory):
    before = open_fds()
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory)
        vmm.close()
        vmm.close()
    assert open_fds() == before


async def test_a_refusal_is_an_error(memory):
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory)
        backend.ack = 1
        with pytest.raises(VmmError, match="ADD_MEM_REG was refused"):
            await vmm.sync_memory()
        vmm.close()


async def test_a_silent_back_end_is_an_error(memory):
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory, timeout=0.05)
        backend.override[Request.GET_FEATURES] = lambda _: b""
        with pytest.raises(VmmError, match="does not answer"):
            await vmm.get_features()
        vmm.close()


async def test_a_back_end_that_closes_is_gone(memory):
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory)
        backend.override[Request.GET_FEATURES] = lambda _: None
        with pytest.raises(BackendGone):
            await vmm.get_features()
        await vmm.wait_closed()
        await vmm.wait_gone()
        with pytest.raises(BackendGone):
            await vmm.set_owner()
        vmm.close()


@pytest.mark.parametrize(
    ("request_", "answer", "call"),
    [
        (Request.GET_FEATURES, encode_reply(Request.GET_FEATURES, EMPTY), "get_features"),
        (Request.GET_FEATURES, encode_reply(Request.GET_QUEUE_NUM, U64(1)), "get_features"),
        (Request.GET_FEATURES, bytes(12), "get_features"),
        (Request.GET_CONFIG, encode_reply(Request.GET_CONFIG, EMPTY), "get_config"),
        (Request.GET_CONFIG, encode_reply(Request.GET_CONFIG, Config(4, 4, 0, bytes(4))), "get_config"),
    ],
)
async def test_wrong_answers_are_errors(memory, request_, answer, call):
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory)
        backend.override[request_] = lambda _: answer
        with pytest.raises(VmmError):
            await getattr(vmm, call)()
        vmm.close()


async def test_a_base_of_another_queue_is_an_error(memory):
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory)
        backend.override[Request.GET_VRING_BASE] = lambda _: encode_reply(Request.GET_VRING_BASE, VringState(1, 3))
        with pytest.raises(VmmError, match="queue's state"):
            await vmm.get_vring_base(vmm.vrings[0])
        vmm.close()


async def test_memory_changes_go_out_slot_by_slot(memory):
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory)
        await vmm.sync_memory()
        memory.remove_region(memory.regions[0])
        memory.add_region(RegionSpec(1 << 32, 1 << 20, 1 << 40, mmap_offset=4096))
        await vmm.sync_memory()
        assert backend.log == ["ADD_MEM_REG", "ADD_MEM_REG", "REM_MEM_REG", "ADD_MEM_REG"]
        assert backend.messages[-1].payload.region.gpa == 1 << 32
        await vmm.sync_memory()
        assert len(backend.log) == 4, "nothing has changed"
        vmm.close()


async def test_memory_changes_go_out_as_a_table(memory):
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory, mem_slots=False)
        await vmm.sync_memory()
        table = backend.messages[-1]
        assert [region.gpa for region in table.payload.regions] == [0, 1 << 20]
        assert len(table.fds) == 2
        vmm.close()


async def test_no_descriptor_is_said_so(memory):
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory)
        await vmm.set_vring_call(vmm.vrings[1], -1)
        await vmm.get_queue_num()
        assert backend.messages[-2].payload.has_fd is False
        assert backend.messages[-2].payload.index == 1
        vmm.close()


async def test_anything_can_be_sent(memory):
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory)
        await vmm.request(99, Raw(b"whatever"), [0])
        await vmm.get_queue_num()
        assert backend.messages[-2].request == 99
        assert len(backend.messages[-2].fds) == 1
        with pytest.raises(VmmError, match=r"does not answer|closed"):
            await _hostile(vmm)
        vmm.close()


async def _hostile(vmm):
    vmm.options.timeout = 0.05
    await vmm.send_raw(b"\0" * 11)
    await vmm.receive()


async def test_one_call_eventfd_serves_both_queues_in_libkrun(memory):
    async with FakeBackend() as backend:
        vmm = await connect(backend, memory, order="libkrun")
        first, second = vmm.vrings
        os.eventfd_write(first.call, 3)
        assert os.eventfd_read(second.call) == 3
        vmm.close()
