"""What each vhost-user request does to the session's device. No socket here: messages in, reply payloads out.

vhost-user specification, "Front-end message types". A request that is wrong raises ``PeerError``: it is answered with
a non-zero REPLY_ACK where the VMM asked for one, else the connection ends.
"""

import logging
import os
from collections.abc import Callable, Iterable
from typing import Protocol

from backend.device import CONTROL_QUEUE, NUM_QUEUES, Device
from backend.memory import MAX_SLOTS, Region
from backend.virtqueue import Virtqueue
from protocol import vhost_user as vu
from protocol import virtio_gpu as vg
from protocol.errors import PeerError

VIRTIO_RING_F_INDIRECT_DESC = 28
VIRTIO_RING_F_EVENT_IDX = 29
VIRTIO_F_VERSION_1 = 32
VIRTIO_F_RING_PACKED = 34
VIRTIO_F_IN_ORDER = 35
VIRTIO_F_RING_RESET = 40

FEATURES = sum(
    1 << bit
    for bit in (
        vg.Feature.EDID,
        VIRTIO_RING_F_INDIRECT_DESC,
        VIRTIO_RING_F_EVENT_IDX,
        vu.F_PROTOCOL_FEATURES,
        VIRTIO_F_VERSION_1,
        VIRTIO_F_RING_PACKED,
        VIRTIO_F_IN_ORDER,
        VIRTIO_F_RING_RESET,
    )
)
"""The answer to GET_FEATURES. Other bits are accepted all the same: QEMU passes on what its guest acknowledged."""
FEATURES_3D = sum(
    1 << bit for bit in (vg.Feature.VIRGL, vg.Feature.RESOURCE_UUID, vg.Feature.RESOURCE_BLOB, vg.Feature.CONTEXT_INIT)
)
"""What a renderer adds to it."""

_FIRST_SPLIT_BASE = 0
_FIRST_PACKED_BASE = 0x80008000
"""Where a packed ring begins: both indices 0, both wrap counters 1 (virtio 1.3, 2.8.1)."""

# Not offered, each for a reason: LOG_SHMFD (QEMU would let a guest migrate without its GPU), INBAND_NOTIFICATIONS and
# XEN_MMAP (QEMU acknowledges them without being able to use them), STATUS (QEMU half uses it), INFLIGHT_SHMFD (QEMU
# never asks for it here).
PROTOCOL_FEATURES = sum(
    1 << bit
    for bit in (
        vu.ProtocolFeature.MQ,
        vu.ProtocolFeature.REPLY_ACK,
        vu.ProtocolFeature.BACKEND_REQ,
        vu.ProtocolFeature.CONFIG,
        vu.ProtocolFeature.RESET_DEVICE,
        vu.ProtocolFeature.CONFIGURE_MEM_SLOTS,
    )
)

_log = logging.getLogger("vhost_gpu.vhost_user")


class Pump(Protocol):
    """Who serves a queue: ``QueuePump`` or ``RenderPump``."""

    def refresh(self) -> None:
        """The queue was started, enabled, stopped, or got another eventfd."""

    def pause(self) -> None:
        """The kick eventfd or the memory table is going to be replaced; ``refresh`` follows."""

    def stop(self) -> None:
        """Stops the queue at once."""


class SessionHooks(Protocol):
    """What the handler needs of the session around it."""

    def display_socket(self, fd: int) -> None:
        """Takes over the VMM's display socket (GPU_SET_SOCKET)."""

    def hold(self, key: str, fds: list[int]) -> None:
        """Has the supervisor keep duplicates of these descriptors under this key; none: let go."""

    def state_changed(self) -> None:
        """The session's description changed."""

    def publish(self) -> None:
        """Scanouts may have changed."""

    def settle(self) -> None:
        """Commands that wait for an answer from outside are to be answered now."""


class VhostUserHandler:
    """The back-end side of one vhost-user connection.

    Args:
        device: the device that the VMM sets up.
        pumps: serve the device's queues.
        hooks: the session.
    """

    def __init__(self, device: Device, pumps: tuple[Pump, ...], hooks: SessionHooks) -> None:
        self._device = device
        self._pumps = pumps
        self._hooks = hooks
        self._memory_fds: dict[Region, int] = {}
        self._backend_fd = -1
        self._told_base = -1  # what GET_VRING_BASE answered last for the control queue, until it is set; -1: nothing
        self.features = 0
        self.protocol_features = 0

    def handle(self, message: vu.Message) -> vu.Payload | None:
        """Runs one request; owns the message's descriptors.

        Returns:
            The payload of the request's reply; None when it has none.

        Raises:
            PeerError: the request is wrong or unknown.
        """
        handler = _HANDLERS.get(message.request)
        if handler is None:
            _close(message.fds)
            raise PeerError(f"request {message.request!r} is not supported")
        return handler(self, message)

    def close(self) -> None:
        """Stops the queues and lets go of memory and descriptors."""
        for pump in self._pumps:
            pump.stop()
        for queue in self._device.queues:
            queue.close()
        self._device.memory.clear()
        _close(self._memory_fds.values())
        self._memory_fds.clear()
        if self._backend_fd >= 0:
            os.close(self._backend_fd)
            self._backend_fd = -1

    # ---- features

    def _get_features(self, _message: vu.Message) -> vu.Payload:
        return vu.U64(FEATURES | FEATURES_3D if self._device.rendering else FEATURES)

    def _set_features(self, message: vu.Message) -> None:
        self.features = _u64(message)
        self._device.set_features(self.features)

    def _get_protocol_features(self, _message: vu.Message) -> vu.Payload:
        return vu.U64(PROTOCOL_FEATURES)

    def _set_protocol_features(self, message: vu.Message) -> None:
        self.protocol_features = _u64(message)

    def _get_queue_num(self, _message: vu.Message) -> vu.Payload:
        return vu.U64(NUM_QUEUES)

    def _set_owner(self, _message: vu.Message) -> None:
        # libkrun sends it with each activation: owning twice means nothing more.
        return None

    def _reset_owner(self, _message: vu.Message) -> None:
        # Deprecated: "front-ends... SHOULD use VHOST_USER_RESET_DEVICE"; it used to disable all rings.
        self._stop_queues()

    # ---- memory

    def _set_mem_table(self, message: vu.Message) -> None:
        table = message.payload
        assert isinstance(table, vu.MemoryTable)
        regions = [_region(region) for region in table.regions]
        for pump in self._pumps:
            pump.pause()  # until the new table is whole: a ring outside memory is broken
        self._forget_memory()
        try:
            self._device.memory.replace(regions, message.fds)
        except PeerError:
            self._device.memory.clear()
            _close(message.fds)
            self._memory_changed()
            raise
        self._memory_fds = dict(zip(regions, message.fds, strict=True))
        self._memory_changed()

    def _add_mem_reg(self, message: vu.Message) -> None:
        assert isinstance(message.payload, vu.SingleMemoryRegion)
        region = _region(message.payload.region)
        try:
            self._device.memory.add(region, message.fds[0])
        except PeerError:
            _close(message.fds)
            raise
        self._memory_fds[region] = message.fds[0]
        self._memory_changed()

    def _rem_mem_reg(self, message: vu.Message) -> None:
        _close(message.fds)
        assert isinstance(message.payload, vu.SingleMemoryRegion)
        gone = message.payload.region
        self._device.memory.remove(gone.gpa, gone.size, gone.uva)
        for region in [r for r in self._memory_fds if (r.gpa, r.size, r.uva) == (gone.gpa, gone.size, gone.uva)]:
            os.close(self._memory_fds.pop(region))
        self._memory_changed()

    def _get_max_mem_slots(self, _message: vu.Message) -> vu.Payload:
        return vu.U64(MAX_SLOTS)

    def _forget_memory(self) -> None:
        _close(self._memory_fds.values())
        self._memory_fds = {}

    def _memory_changed(self) -> None:
        self._hooks.hold("memory", list(self._memory_fds.values()))
        self._hooks.state_changed()
        for pump in self._pumps:
            pump.refresh()

    # ---- rings

    def _set_vring_num(self, message: vu.Message) -> None:
        state = _state(message)
        self._queue(state.index).set_num(state.num)

    def _set_vring_addr(self, message: vu.Message) -> None:
        addr = message.payload
        assert isinstance(addr, vu.VringAddr)
        self._queue(addr.index).set_addr(addr.desc, addr.avail, addr.used)

    def _set_vring_base(self, message: vu.Message) -> None:
        state = _state(message)
        queue = self._queue(state.index)
        reset = self._is_silent_reset(queue, state.num)
        self._pumps[state.index].stop()
        if reset:
            self._device.reset()
            self._hooks.publish()
        queue.set_base(state.num)
        if state.index == CONTROL_QUEUE:
            self._told_base = -1

    def _is_silent_reset(self, queue: Virtqueue, base: int) -> bool:
        """Whether a ring that begins anew is the only sign of a device reset (VMMs without RESET_DEVICE).

        It is none where the queue happened to stand at its beginning when the VMM asked: then it just goes on.
        """
        tells_resets = self.protocol_features >> vu.ProtocolFeature.RESET_DEVICE & 1
        first = _FIRST_PACKED_BASE if self.features >> VIRTIO_F_RING_PACKED & 1 else _FIRST_SPLIT_BASE
        if queue.index != CONTROL_QUEUE or tells_resets or base != first:
            return False
        return self._told_base != first and queue.describe().completed > 0

    def _get_vring_base(self, message: vu.Message) -> vu.Payload:
        state = _state(message)
        queue = self._queue(state.index)
        self._hooks.settle()  # a command that waits for the VMM's answer must not be lost: nobody would send it again
        self._pumps[state.index].stop()
        self._hooks.state_changed()
        if state.index == CONTROL_QUEUE:
            self._told_base = queue.base
        return vu.VringState(state.index, queue.base)

    def _set_vring_kick(self, message: vu.Message) -> None:
        index, fd = self._vring_fd(message)
        queue = self._queue(index)
        self._pumps[index].pause()
        queue.set_kick(fd)
        queue.start()
        if not self.features >> vu.F_PROTOCOL_FEATURES & 1:
            queue.set_enabled(True)  # "Ring states": without protocol features a ring starts enabled
        self._vring_changed(index)

    def _set_vring_call(self, message: vu.Message) -> None:
        index, fd = self._vring_fd(message)
        self._queue(index).set_call(fd)
        # What completed before the eventfd came must not be lost on a guest that sleeps.
        self._queue(index).notify()
        self._vring_changed(index)

    def _set_vring_err(self, message: vu.Message) -> None:
        index, fd = self._vring_fd(message)
        self._queue(index).set_err(fd)
        self._vring_changed(index)

    def _set_vring_enable(self, message: vu.Message) -> None:
        state = _state(message)
        if state.num > 1:
            raise PeerError(f"queue {state.index}: enable {state.num}")
        self._queue(state.index).set_enabled(bool(state.num))
        self._pumps[state.index].refresh()
        self._hooks.state_changed()

    def _vring_fd(self, message: vu.Message) -> tuple[int, int]:
        payload = message.payload
        assert isinstance(payload, vu.VringFd)
        if payload.index >= NUM_QUEUES:
            _close(message.fds)
            raise PeerError(f"queue {payload.index} of {NUM_QUEUES}")
        if not payload.has_fd:
            return payload.index, -1
        if not _is_eventfd(message.fds[0]):
            _close(message.fds)
            raise PeerError(f"queue {payload.index}: the descriptor is no eventfd")
        os.set_blocking(message.fds[0], False)
        return payload.index, message.fds[0]

    def _vring_changed(self, index: int) -> None:
        queue = self._queue(index)
        fds = [fd for fd in (queue.kick_fd, queue.call_fd, queue.err_fd) if fd >= 0]
        self._hooks.hold(f"queue.{index}", fds)
        self._hooks.state_changed()
        self._pumps[index].refresh()

    def _queue(self, index: int) -> Virtqueue:
        if index >= NUM_QUEUES:
            raise PeerError(f"queue {index} of {NUM_QUEUES}")
        return self._device.queues[index]

    def _stop_queues(self) -> None:
        for pump, queue in zip(self._pumps, self._device.queues, strict=True):
            pump.stop()
            queue.set_enabled(False)

    # ---- configuration space

    def _get_config(self, message: vu.Message) -> vu.Payload:
        request = message.payload
        assert isinstance(request, vu.Config)
        space = self._device.config().encode()
        if request.offset + request.size > len(space):
            return vu.EMPTY  # "a zero-length payload indicates an error"
        part = space[request.offset : request.offset + request.size]
        return vu.Config(request.offset, request.size, request.flags, part)

    def _set_config(self, message: vu.Message) -> None:
        written = message.payload
        assert isinstance(written, vu.Config)
        if written.offset + len(written.payload) > vg.CONFIG_SIZE:
            raise PeerError(f"configuration space written at {written.offset}, {len(written.payload)} bytes")
        # Only events_clear can be written, and we never raise events: the VMM owns them.

    # ---- the rest

    def _set_backend_req_fd(self, message: vu.Message) -> None:
        if self._backend_fd >= 0:
            os.close(self._backend_fd)
        self._backend_fd = message.fds[0]
        self._hooks.hold("backend_req", [self._backend_fd])

    def _gpu_set_socket(self, message: vu.Message) -> None:
        self._hooks.display_socket(message.fds[0])

    def _reset_device(self, _message: vu.Message) -> None:
        self._stop_queues()
        self._device.reset()
        self._hooks.publish()
        self._hooks.state_changed()


_Handler = Callable[[VhostUserHandler, vu.Message], vu.Payload | None]
_R = vu.Request
_HANDLERS: dict[int, _Handler] = {
    _R.GET_FEATURES: VhostUserHandler._get_features,
    _R.SET_FEATURES: VhostUserHandler._set_features,
    _R.SET_OWNER: VhostUserHandler._set_owner,
    _R.RESET_OWNER: VhostUserHandler._reset_owner,
    _R.SET_MEM_TABLE: VhostUserHandler._set_mem_table,
    _R.SET_VRING_NUM: VhostUserHandler._set_vring_num,
    _R.SET_VRING_ADDR: VhostUserHandler._set_vring_addr,
    _R.SET_VRING_BASE: VhostUserHandler._set_vring_base,
    _R.GET_VRING_BASE: VhostUserHandler._get_vring_base,
    _R.SET_VRING_KICK: VhostUserHandler._set_vring_kick,
    _R.SET_VRING_CALL: VhostUserHandler._set_vring_call,
    _R.SET_VRING_ERR: VhostUserHandler._set_vring_err,
    _R.GET_PROTOCOL_FEATURES: VhostUserHandler._get_protocol_features,
    _R.SET_PROTOCOL_FEATURES: VhostUserHandler._set_protocol_features,
    _R.GET_QUEUE_NUM: VhostUserHandler._get_queue_num,
    _R.SET_VRING_ENABLE: VhostUserHandler._set_vring_enable,
    _R.SET_BACKEND_REQ_FD: VhostUserHandler._set_backend_req_fd,
    _R.GET_CONFIG: VhostUserHandler._get_config,
    _R.SET_CONFIG: VhostUserHandler._set_config,
    _R.GPU_SET_SOCKET: VhostUserHandler._gpu_set_socket,
    _R.RESET_DEVICE: VhostUserHandler._reset_device,
    _R.GET_MAX_MEM_SLOTS: VhostUserHandler._get_max_mem_slots,
    _R.ADD_MEM_REG: VhostUserHandler._add_mem_reg,
    _R.REM_MEM_REG: VhostUserHandler._rem_mem_reg,
}


def _u64(message: vu.Message) -> int:
    assert isinstance(message.payload, vu.U64)
    return message.payload.value


def _state(message: vu.Message) -> vu.VringState:
    assert isinstance(message.payload, vu.VringState)
    return message.payload


def _region(region: vu.MemoryRegion) -> Region:
    return Region(region.gpa, region.size, region.uva, region.mmap_offset)


def _is_eventfd(fd: int) -> bool:
    """Anything else could be watched and never fall silent (a closed pipe), or not be watched at all (a file)."""
    return os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventfd]"


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
