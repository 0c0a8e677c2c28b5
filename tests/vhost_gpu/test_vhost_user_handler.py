"""Every vhost-user request through a real socket: right, wrong, in any order."""

import os
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from backend.memory import MAX_SLOTS
from protocol import vhost_user as vu
from protocol.vhost_user import ProtocolFeature, Request, VringFd, VringState
from protocol.virtio_gpu import GpuConfig, Rect
from tests.vhost_gpu.sessionkit import open_fds, paint, pictures, running, shown, until, vmm_of
from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.driver import GuestError
from vhost_gpu.guest.memory import MIB, GuestMemory, RegionSpec
from vhost_gpu.guest.vmm import BackendGone, VmmConnection, VmmError, VmmOptions
from vhost_gpu.vhost_user_handler import FEATURES, PROTOCOL_FEATURES

RED, GREEN = (255, 0, 0), (0, 255, 0)
FAILED = vu.U64(1)


@pytest.fixture
async def vmm() -> AsyncIterator[VmmConnection]:
    """A connection with everything negotiated and nothing started."""
    async with vmm_of(options=VmmOptions(display=VmmDisplay())) as (_, vmm):
        await vmm.negotiate()
        yield vmm


# ---- features


def test_what_is_offered_and_what_never_may_be() -> None:
    offered = {feature for feature in ProtocolFeature if PROTOCOL_FEATURES >> feature & 1}
    assert offered == {
        ProtocolFeature.MQ,
        ProtocolFeature.REPLY_ACK,
        ProtocolFeature.BACKEND_REQ,
        ProtocolFeature.CONFIG,
        ProtocolFeature.CONFIGURE_MEM_SLOTS,
        ProtocolFeature.RESET_DEVICE,
    }
    assert {bit for bit in range(64) if FEATURES >> bit & 1} == {1, 28, 29, 30, 32, 34, 35, 40}


async def test_answers_that_are_always_the_same(vmm: VmmConnection) -> None:
    assert await vmm.get_features() == FEATURES
    assert await vmm.get_protocol_features() == PROTOCOL_FEATURES
    assert await vmm.get_queue_num() == 2
    assert await vmm.get_max_mem_slots() == MAX_SLOTS == 509


async def test_features_that_were_not_offered_are_accepted(vmm: VmmConnection) -> None:
    await vmm.acked(Request.SET_FEATURES, vu.U64(2**64 - 1))
    await vmm.acked(Request.SET_PROTOCOL_FEATURES, vu.U64(2**64 - 1))


@pytest.mark.parametrize("request_", [Request.SET_OWNER, Request.RESET_OWNER, Request.RESET_DEVICE])
async def test_requests_without_an_answer_are_acknowledged(vmm: VmmConnection, request_: Request) -> None:
    for _ in range(3):
        await vmm.acked(request_)


@pytest.mark.parametrize("request_", [6, 7, 19, 20, 22, 26, 28, 31, 35, 39, 40, 41, 43, 99, 0xFFFFFFFF])
async def test_requests_that_we_do_not_have_are_refused(vmm: VmmConnection, request_: int) -> None:
    bodies = {19: vu.U64(0), 20: vu.U64(0), 35: VringState(0, 0), 39: vu.U64(0)}
    reply = await vmm.request(request_, bodies.get(request_, vu.EMPTY), need_reply=True)
    assert reply == FAILED
    assert await vmm.get_queue_num() == 2


async def test_without_need_reply_a_refusal_ends_the_connection(vmm: VmmConnection) -> None:
    await vmm.request(Request.GET_INFLIGHT_FD, vu.Raw(bytes(16)))
    await vmm.wait_closed()


# ---- configuration space


@pytest.mark.parametrize(
    ("offset", "size"), [(o, s) for o in range(17) for s in (0, 1, 2, 3, 4, 8, 15, 16) if o + s <= 16]
)
async def test_any_part_of_the_configuration_space(vmm: VmmConnection, offset: int, size: int) -> None:
    space = GpuConfig(num_scanouts=1).encode()
    assert await vmm.get_config(offset, size) == space[offset : offset + size]


@pytest.mark.parametrize(("offset", "size"), [(0, 17), (16, 1), (1, 16), (0xFFFFFFFF, 4), (0xFFFFFFFC, 16), (0, 256)])
async def test_parts_outside_the_configuration_space(vmm: VmmConnection, offset: int, size: int) -> None:
    with pytest.raises(VmmError, match="refused"):
        await vmm.get_config(offset, size)
    assert len(await vmm.get_config()) == 16


async def test_configuration_writes(vmm: VmmConnection) -> None:
    await vmm.set_config(bytes(16))
    await vmm.set_config(b"\x01\0\0\0", 4)
    for offset, size in ((0, 17), (16, 1), (0xFFFFFFFF, 1)):
        with pytest.raises(VmmError, match="refused"):
            await vmm.set_config(bytes(size), offset)
    assert await vmm.get_config() == GpuConfig(num_scanouts=1).encode()


async def test_with_a_display_socket_the_vmm_says_how_many_scanouts_there_are() -> None:
    async with running() as kit:
        assert (await kit.vmm.get_config())[8] == 16
    async with running("crosvm", max_outputs=3) as kit:
        assert (await kit.vmm.get_config())[8] == 3


# ---- memory


def _region(memory: GuestMemory, **changes: int) -> vu.MemoryRegion:
    region = memory.regions[0]
    values = {"gpa": region.gpa, "size": region.size, "uva": region.uva, "mmap_offset": 0}
    return vu.MemoryRegion(**(values | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 64 * MIB + 1},
        {"mmap_offset": 4096},
        {"mmap_offset": 1 << 62},
        {"gpa": 1 << 40, "uva": 0x7F00_0000_0000 + 4096},
        {"uva": 1 << 46, "gpa": 4096},
    ],
    ids=["larger than its file", "offset", "far offset", "overlaps in uva", "overlaps in gpa"],
)
async def test_regions_that_do_not_fit_are_refused(vmm: VmmConnection, changes: dict[str, int]) -> None:
    await vmm.add_mem_reg(vmm.memory.regions[0])
    before = open_fds()
    region = vu.SingleMemoryRegion(_region(vmm.memory, **changes))
    fd = vmm.memory.regions[0].fd
    assert await vmm.request(Request.ADD_MEM_REG, region, [fd], need_reply=True) == FAILED
    assert open_fds() == before
    await vmm.rem_mem_reg(vmm.memory.regions[0])
    await vmm.add_mem_reg(vmm.memory.regions[0])


@pytest.mark.parametrize("field", ["gpa", "uva", "mmap_offset"])
async def test_a_region_that_wraps_ends_the_connection(vmm: VmmConnection, field: str) -> None:
    region = _region(vmm.memory, **{field: 2**64 - 4096})
    await vmm.request(Request.ADD_MEM_REG, vu.SingleMemoryRegion(region), [vmm.memory.regions[0].fd])
    await vmm.wait_closed()


@pytest.mark.parametrize("make", [lambda: os.pipe()[0], lambda: os.open("/dev/null", os.O_RDWR), lambda: os.eventfd(0)])
async def test_descriptors_that_are_no_memory_are_refused(vmm: VmmConnection, make: Callable[[], int]) -> None:
    fd = make()
    region = vu.SingleMemoryRegion(_region(vmm.memory))
    assert await vmm.request(Request.ADD_MEM_REG, region, [fd], need_reply=True) == FAILED
    os.close(fd)


async def test_removing_what_is_not_there_is_refused(vmm: VmmConnection) -> None:
    region = vu.SingleMemoryRegion(_region(vmm.memory))
    assert await vmm.request(Request.REM_MEM_REG, region, need_reply=True) == FAILED


async def test_a_table_with_a_bad_region_leaves_nothing_mapped_and_nothing_open() -> None:
    memory = GuestMemory()
    async with vmm_of(memory, VmmOptions(display=VmmDisplay())) as (session, vmm):
        await vmm.negotiate()
        before = open_fds()
        good = _region(memory)
        table = vu.MemoryTable((good, _region(memory, gpa=1 << 40, size=1 << 40)))
        reply = await vmm.request(Request.SET_MEM_TABLE, table, [memory.regions[0].fd] * 2, need_reply=True)
        assert reply == FAILED
        assert session.device.memory.regions == []
        assert open_fds() == before
        await vmm.set_mem_table()
        assert len(session.device.memory.regions) == 1
    memory.close()


async def test_509_slots_and_no_more() -> None:
    page = 4096
    memory = GuestMemory([RegionSpec(0, 512 * page, 0x7F00_0000_0000)])
    async with vmm_of(memory, VmmOptions(display=VmmDisplay())) as (session, vmm):
        await vmm.negotiate()
        for n in range(510):
            part = vu.MemoryRegion(n * page, page, (1 << 40) + n * page, n * page)
            reply = await vmm.request(
                Request.ADD_MEM_REG, vu.SingleMemoryRegion(part), [memory.regions[0].fd], need_reply=True
            )
            assert reply == (vu.U64(0) if n < 509 else FAILED)
        assert len(session.device.memory.regions) == 509
    memory.close()


async def test_a_new_table_while_rings_run() -> None:
    async with running(options=VmmOptions(display=(display := VmmDisplay()), mem_slots=False)) as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        for colour in (GREEN, RED, GREEN):
            await kit.vmm.set_mem_table()
            await paint(framebuffer, colour)
            await display.wait_until(pictures(colour))


# ---- rings


@pytest.mark.parametrize(
    ("request_", "payload"),
    [
        (Request.SET_VRING_NUM, VringState(2, 64)),
        (Request.SET_VRING_NUM, VringState(255, 64)),
        (Request.SET_VRING_NUM, VringState(0xFFFFFFFF, 64)),
        (Request.SET_VRING_NUM, VringState(0, 0)),
        (Request.SET_VRING_NUM, VringState(0, 1025)),
        (Request.SET_VRING_NUM, VringState(0, 2048)),
        (Request.SET_VRING_NUM, VringState(0, 0xFFFFFFFF)),
        (Request.SET_VRING_BASE, VringState(2, 0)),
        (Request.SET_VRING_ADDR, vu.VringAddr(2, 0, 0, 0, 0, 0)),
        (Request.SET_VRING_ADDR, vu.VringAddr(0, 0, 8, 0, 0, 0)),
        (Request.SET_VRING_ADDR, vu.VringAddr(0, 0, 0, 2, 0, 0)),
        (Request.SET_VRING_ADDR, vu.VringAddr(0, 0, 0, 0, 1, 0)),
        (Request.SET_VRING_ENABLE, VringState(2, 1)),
        (Request.SET_VRING_ENABLE, VringState(0, 2)),
        (Request.SET_VRING_KICK, VringFd(2, False)),
        (Request.SET_VRING_CALL, VringFd(255, False)),
        (Request.SET_VRING_ERR, VringFd(16, False)),
    ],
    ids=str,
)
async def test_ring_requests_that_are_wrong(vmm: VmmConnection, request_: Request, payload: vu.Payload) -> None:
    assert await vmm.request(request_, payload, need_reply=True) == FAILED
    assert await vmm.get_queue_num() == 2


async def test_the_base_of_a_queue_that_is_not_there_is_never_answered(vmm: VmmConnection) -> None:
    with pytest.raises(BackendGone):
        await vmm.request(Request.GET_VRING_BASE, VringState(2, 0), need_reply=True)


def _pipe() -> list[int]:
    ends = os.pipe()
    os.close(ends[1])
    return [ends[0]]


def _sockets() -> list[int]:
    a, b = socket.socketpair()
    b.close()
    return [a.detach()]


NO_EVENTFDS: dict[str, Callable[[], list[int]]] = {
    "closed pipe": _pipe,
    "closed socket": _sockets,
    "file": lambda: [os.memfd_create("file")],
    "device": lambda: [os.open("/dev/zero", os.O_RDWR)],
    "folder": lambda: [os.open("/", os.O_RDONLY)],
}


@pytest.mark.parametrize("request_", [Request.SET_VRING_KICK, Request.SET_VRING_CALL, Request.SET_VRING_ERR])
@pytest.mark.parametrize("kind", NO_EVENTFDS)
async def test_descriptors_that_are_no_eventfds_are_refused(vmm: VmmConnection, request_: Request, kind: str) -> None:
    (fd,) = NO_EVENTFDS[kind]()
    before = open_fds()
    assert await vmm.request(request_, VringFd(0, True), [fd], need_reply=True) == FAILED
    assert open_fds() == before
    os.close(fd)


async def test_a_ring_without_a_kick_eventfd_is_polled() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        for vring in kit.vmm.vrings:
            await kit.vmm.set_vring_kick(vring, -1)
        kit.gpu.control.kick_fd = -1
        await paint(framebuffer, GREEN)
        await kit.display.wait_until(pictures(GREEN))


async def test_a_guest_without_a_call_eventfd_polls() -> None:
    async with running() as kit:
        for vring in kit.vmm.vrings:
            await kit.vmm.set_vring_call(vring, -1)
        await kit.vmm.get_features()
        reply = kit.gpu.post(b"\x01\x01" + bytes(22))  # too short: answered all the same
        kit.gpu.kick()
        await until(lambda: kit.gpu.harvest() or reply.done())
        assert (await reply)[:2] == b"\x05\x12"


async def test_a_call_eventfd_that_comes_late_tells_of_earlier_completions() -> None:
    async with running() as kit:
        vring = kit.vmm.vrings[0]
        await kit.vmm.set_vring_call(vring, -1)
        await kit.vmm.get_features()
        reply = kit.gpu.post(bytes(24))
        kit.gpu.kick()
        done = kit.session.device.queues[0].describe().completed
        await until(lambda: kit.session.device.queues[0].describe().completed > done)
        assert not reply.done()
        await kit.vmm.set_vring_call(vring)
        await reply


async def test_a_disabled_ring_is_not_served() -> None:
    async with running() as kit:
        vring = kit.vmm.vrings[0]
        await kit.vmm.set_vring_enable(vring, False)
        reply = kit.gpu.post(bytes(24))
        kit.gpu.kick()
        for _ in range(3):
            await kit.vmm.get_features()
        assert not reply.done()
        await kit.vmm.set_vring_enable(vring, True)
        await reply


async def test_a_ring_without_protocol_features_starts_enabled() -> None:
    """ "Ring states": without VHOST_USER_F_PROTOCOL_FEATURES nobody sends SET_VRING_ENABLE."""
    async with running() as kit:
        await kit.gpu.stop()
        await kit.vmm.set_features(1 << 32)
        await kit.vmm.gpu_set_socket()
        for queue, vring in zip(kit.gpu.queues, kit.vmm.vrings, strict=True):
            queue.reset()
            vring.base = 0
            queue.ring.indirect = queue.ring.event_idx = False
            await kit.vmm.set_vring_num(vring)
            await kit.vmm.set_vring_base(vring)
            await kit.vmm.set_vring_addr(vring)
            await kit.vmm.set_vring_kick(vring)
        await shown(kit.gpu, colour=RED)
        await kit.display.wait_until(pictures(RED))


async def test_kicks_of_any_size_and_in_bursts() -> None:
    async with running() as kit:
        for _ in range(50):
            kit.gpu.control.force_kick()
        os.eventfd_write(kit.vmm.vrings[0].kick, 2**63)
        await kit.gpu.create_2d(8, 8)


@pytest.mark.parametrize("request_", [Request.SET_VRING_KICK, Request.SET_VRING_CALL, Request.SET_VRING_ERR])
async def test_replaced_eventfds_are_closed(request_: Request) -> None:
    async with running() as kit:
        await shown(kit.gpu)
        before = open_fds()
        vring = kit.vmm.vrings[0]
        fd = {Request.SET_VRING_KICK: vring.kick, Request.SET_VRING_CALL: vring.call}.get(request_, vring.err)
        for _ in range(20):
            await kit.vmm.acked(request_, VringFd(0, True), [fd])
        assert open_fds() == before
        await shown(kit.gpu)


async def test_stopping_one_queue_leaves_the_other_alone() -> None:
    async with running() as kit:
        await kit.vmm.get_vring_base(kit.vmm.vrings[0])
        await kit.gpu.move_cursor(3, 4)
        assert kit.session.device.screens.cursor(0).x == 3


# ---- the silent reset


async def test_base_zero_resets_only_vmms_that_have_no_other_way() -> None:
    for order, frees in (("libkrun", True), ("qemu", False)):
        async with running(order) as kit:
            await shown(kit.gpu)
            await kit.vmm.set_vring_base(kit.vmm.vrings[1])
            assert kit.session.device.hostmem_used
            kit.vmm.vrings[0].base = 0
            await kit.vmm.set_vring_base(kit.vmm.vrings[0])
            await kit.vmm.get_features()
            if frees:  # as soon as the VMM has read what it was being sent
                await until(lambda: not kit.session.device.hostmem_used)
            else:
                assert kit.session.device.hostmem_used


# ---- other descriptors


async def test_the_back_end_channel_is_kept_and_replaced(vmm: VmmConnection) -> None:
    before = open_fds()
    for _ in range(5):
        await vmm.set_backend_req_fd()
    assert open_fds() == before


@pytest.mark.parametrize("kind", ["file", "pipe", "datagram", "listener", "eventfd", "internet"])
async def test_a_display_socket_must_be_one(vmm: VmmConnection, kind: str) -> None:
    fds = {
        "file": lambda: os.memfd_create("x"),
        "pipe": lambda: _pipe()[0],
        "datagram": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(),
        "listener": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).detach(),
        "eventfd": lambda: os.eventfd(0),
        "internet": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach(),
    }
    fd = fds[kind]()
    before = open_fds()
    assert await vmm.request(Request.GPU_SET_SOCKET, fds=[fd], need_reply=True) == FAILED
    assert open_fds() == before
    os.close(fd)


async def test_a_display_socket_that_is_closed_already() -> None:
    async with running() as kit:
        for _ in range(3):
            ours, theirs = socket.socketpair()
            ours.close()
            await kit.vmm.acked(Request.GPU_SET_SOCKET, fds=[theirs.fileno()])
            theirs.close()
            assert await kit.gpu.display_info()
        await until(lambda: kit.control.held["display"] == [])
        assert kit.session.device.screens.sinks == []


async def test_a_display_socket_that_is_not_connected(vmm: VmmConnection) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as lone:
        await vmm.acked(Request.GPU_SET_SOCKET, fds=[lone.fileno()])
    assert await vmm.get_queue_num() == 2


# ---- faults


async def test_our_own_fault_is_logged_and_answered(
    vmm: VmmConnection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("backend.device.Device.reset", broken)
    assert await vmm.request(Request.RESET_DEVICE, need_reply=True) == FAILED
    assert "oops" in caplog.text
    assert await vmm.get_queue_num() == 2


async def test_resources_survive_what_is_no_reset() -> None:
    async with running() as kit:
        framebuffer = await shown(kit.gpu, colour=RED)
        await kit.vmm.acked(Request.SET_OWNER)
        await kit.gpu.transfer(framebuffer.resource_id, Rect(0, 0, 64, 48), 0)
        await kit.vmm.reset_device()
        await kit.vmm.get_features()
        await kit.gpu.reset()
        await kit.gpu.start()
        with pytest.raises(GuestError):
            await kit.gpu.unref(framebuffer.resource_id)


async def test_closing_twice_is_closing_once() -> None:
    async with vmm_of() as (session, _):
        session.handler.close()
        session.handler.close()
