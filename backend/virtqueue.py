"""One virtqueue of the device: its set-up by vhost-user messages, and serving it."""

import os
from typing import Any

from backend._core import ffi, lib
from protocol.errors import PeerError

IDLE: int = lib.VG_DRAIN_IDLE
REQUEST: int = lib.VG_DRAIN_REQUEST
AGAIN: int = lib.VG_DRAIN_AGAIN
STOPPED: int = lib.VG_DRAIN_STOPPED
BROKEN: int = lib.VG_DRAIN_BROKEN


class Virtqueue:
    """A virtqueue, split or packed: the features that are in force when it starts decide.

    Eventfds are owned here: replacing or stopping closes the earlier one.

    Args:
        core: the ``vg_device``.
        index: 0 control, 1 cursor.
    """

    def __init__(self, core: Any, index: int) -> None:
        self._core = core
        self.index = index
        self.kick_fd = -1
        self.call_fd = -1
        self.err_fd = -1
        self._info = ffi.new("vg_queue_info *")
        self._base = ffi.new("uint32_t *")
        self.request = ffi.new("vg_request *")

    def set_num(self, num: int) -> None:
        """SET_VRING_NUM. Raises PeerError when not in 1..1024; a split ring breaks unless it is a power of two."""
        self._check(lib.vg_queue_set_num(self._core, self.index, num), f"queue size {num}")

    def set_addr(self, desc: int, avail: int, used: int) -> None:
        """SET_VRING_ADDR, in VMM addresses. Raises PeerError when they are not aligned.

        Of a packed ring: descriptor ring, driver and device event suppression.
        """
        self._check(lib.vg_queue_set_addr(self._core, self.index, desc, avail, used), "ring addresses")

    def set_base(self, base: int) -> None:
        """SET_VRING_BASE, 32 bits: an index, or both indices and wrap counters of a packed ring."""
        self._check(lib.vg_queue_set_base(self._core, self.index, base), f"ring base {base:#x}")

    @property
    def base(self) -> int:
        """Where the queue is, in the same form: the answer to GET_VRING_BASE."""
        lib.vg_queue_get_base(self._core, self.index, self._base)
        return int(self._base[0])

    def set_kick(self, fd: int) -> None:
        """Takes over the eventfd by which the guest kicks (-1: none, it is polled)."""
        lib.vg_queue_set_kick(self._core, self.index, fd)
        self.kick_fd = _replace(self.kick_fd, fd)

    def set_call(self, fd: int) -> None:
        """Takes over the eventfd that interrupts the guest (-1: none, the guest polls)."""
        lib.vg_queue_set_call(self._core, self.index, fd)
        self.call_fd = _replace(self.call_fd, fd)

    def set_err(self, fd: int) -> None:
        """Takes over the eventfd that tells the VMM that the ring is malformed."""
        lib.vg_queue_set_err(self._core, self.index, fd)
        self.err_fd = _replace(self.err_fd, fd)

    def start(self) -> None:
        """The ring runs as soon as it is enabled too."""
        lib.vg_queue_set_started(self._core, self.index, 1)

    def stop(self) -> None:
        """The ring stops; what is in flight is forgotten."""
        lib.vg_queue_set_started(self._core, self.index, 0)

    def set_enabled(self, enabled: bool) -> None:
        """SET_VRING_ENABLE."""
        lib.vg_queue_set_enabled(self._core, self.index, enabled)

    def describe(self) -> Any:
        """The core's ``vg_queue_info``; overwritten by the next call."""
        lib.vg_queue_describe(self._core, self.index, self._info)
        return self._info

    @property
    def active(self) -> bool:
        """Started and enabled, sound or not: a queue found broken says so at its next drain."""
        info = self.describe()
        return bool(info.started and info.enabled)

    @property
    def reason(self) -> str:
        """Why the ring is broken."""
        return str(ffi.string(self.describe().reason).decode(errors="replace"))

    def drain(self, budget_ns: int) -> int:
        """Serves the ring; on REQUEST, ``request`` holds a command to be completed before the next drain."""
        return int(lib.vg_queue_drain(self._core, self.index, budget_ns, self.request))

    def request_data(self) -> memoryview:
        """The bytes of ``request``: valid until it is completed."""
        return memoryview(ffi.buffer(self.request.data, self.request.size))

    def complete(self, response: int, payload: bytes) -> None:
        """Answers ``request`` and gives its chain back."""
        lib.vg_request_complete(self._core, self.request, response, payload, len(payload))

    def drop(self) -> None:
        """Frees ``request`` without giving its chain back: the queue stops."""
        lib.vg_request_drop(self._core, self.request)

    def notify(self) -> None:
        """Interrupts the guest if the ring asks for it."""
        lib.vg_queue_notify(self._core, self.index)

    def close(self) -> None:
        """Stops the ring and closes its eventfds."""
        self.stop()
        self.set_kick(-1)
        self.set_call(-1)
        self.set_err(-1)

    def _check(self, result: int, what: str) -> None:
        if result < 0:
            raise PeerError(f"queue {self.index}: {what}: {os.strerror(-result)}")


def _replace(old: int, new: int) -> int:
    if old >= 0 and old != new:
        os.close(old)
    return new
