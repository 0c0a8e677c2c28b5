"""The virtio-gpu device: answers the commands that the C core does not complete itself.

The core hands over one request at a time, in order, already copied and checked for size. ``Device.execute`` decodes it
into a typed command, runs the handler of the table and answers through a callback, at once or (display information,
which the VMM may have to be asked for) later.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from backend._core import ffi, lib
from backend.memory import GuestMemory
from backend.screens import Screens
from backend.virtqueue import Virtqueue
from protocol import virtio_gpu as vg
from protocol.errors import PeerError

if TYPE_CHECKING:
    from backend.rendering import Rendering
    from protocol.virtio_gpu_blob import ResourceAssignUuid

NUM_QUEUES = lib.VG_NUM_QUEUES
CONTROL_QUEUE = lib.VG_QUEUE_CONTROL
CURSOR_QUEUE = lib.VG_QUEUE_CURSOR

Reply = tuple[int, bytes]
"""A virtio-gpu response: type and payload without the header."""
Answer = Callable[[int, bytes], None]
"""Takes the response type and its payload."""

_log = logging.getLogger("vhost_gpu.device")


class DisplaySource(Protocol):
    """Who knows the displays: the VMM or our own configuration. Both answer by callback, exactly once."""

    def display_info(self, answer: Callable[[bytes], None]) -> None:
        """Gives the payload of VIRTIO_GPU_RESP_OK_DISPLAY_INFO."""

    def edid(self, scanout: int, answer: Callable[[bytes], None]) -> None:
        """Gives the EDID of a scanout (128 to 1024 bytes)."""


class Device:
    """One virtio-gpu device.

    Args:
        num_scanouts: scanouts that the guest may use, 1 to 16.
        max_hostmem: bytes a guest can make us hold.
        displays: answers GET_DISPLAY_INFO and GET_EDID.

    Raises:
        MemoryError: the core could not be made.
    """

    def __init__(self, num_scanouts: int, max_hostmem: int, displays: DisplaySource) -> None:
        core = lib.vg_device_new(lib.VG_MAX_SCANOUTS, max_hostmem)
        if core == ffi.NULL:
            raise MemoryError("no memory for the device")
        self.core = ffi.gc(core, lib.vg_device_free)
        self.num_scanouts = 0
        self.set_num_scanouts(num_scanouts)
        self.memory = GuestMemory(self.core)
        self.queues = tuple(Virtqueue(self.core, index) for index in range(NUM_QUEUES))
        self.screens = Screens(self.core)
        self._displays = displays
        self._handlers = _HANDLERS
        self._decode: Callable[[Any], vg.Command] = vg.decode_command
        self.rendering: Rendering | None = None
        """The renderer, where there is one."""

    def start_renderer(self, ops: int, render_node: str | None = None) -> "Rendering":
        """Opens a renderer: the control queue is its thread's from now on, which begins when it is resumed.

        Args:
            ops: where its ``struct vg_renderer_ops`` is.
            render_node: path of the GPU's render node; None: the renderer's choice.

        Raises:
            ConfigError: it can't be opened; there is none then.
        """
        # Imported here: a session without 3D need not pay for it.
        from backend.rendering import Rendering
        from protocol.virtio_gpu_3d import decode_any_command
        from protocol.virtio_gpu_blob import ResourceAssignUuid

        self.rendering = Rendering(self.core, ops, render_node)
        self._decode = decode_any_command
        self._handlers = _HANDLERS | {ResourceAssignUuid: Device._assign_uuid}
        return self.rendering

    def set_num_scanouts(self, num_scanouts: int) -> None:
        """How many scanouts the guest may use from now on, 1 to 16."""
        self.num_scanouts = num_scanouts
        lib.vg_set_usable_scanouts(self.core, num_scanouts)

    def set_polling(self, microseconds: int) -> None:
        """How long the control queue is looked at for a next command while they keep coming: 0 (never) to 50."""
        lib.vg_set_poll_us(self.core, microseconds)

    @property
    def hostmem_used(self) -> int:
        """Bytes charged against ``max_hostmem``."""
        return int(lib.vg_hostmem_used(self.core))

    def config(self) -> vg.GpuConfig:
        """The configuration space: no events (they are the VMM's)."""
        num_capsets = len(self.rendering.capsets) if self.rendering else 0
        return vg.GpuConfig(num_scanouts=self.num_scanouts, num_capsets=num_capsets)

    def set_features(self, features: int) -> None:
        """SET_FEATURES: the bits that the guest's driver acknowledged, known or not."""
        lib.vg_set_features(self.core, features)

    def reset(self) -> None:
        """Device reset: resources, scanouts and cursors are gone; memory and queues stay."""
        lib.vg_device_reset(self.core)

    def execute(self, data: Any, answer: Answer) -> None:
        """Runs one request and answers it exactly once.

        Args:
            data: the request with its header, as the core copied it (any buffer).
            answer: called with the response.
        """
        try:
            command = self._decode(data)
        except PeerError:
            answer(vg.ResponseType.ERR_INVALID_PARAMETER, b"")
            return
        handler = self._handlers.get(type(command), Device._unknown)
        handler(self, command, answer)

    def _display_info(self, _command: vg.GetDisplayInfo, answer: Answer) -> None:
        self._displays.display_info(lambda payload: answer(vg.ResponseType.OK_DISPLAY_INFO, payload))

    def _edid(self, command: vg.GetEdid, answer: Answer) -> None:
        if command.scanout >= self.num_scanouts:
            answer(vg.ResponseType.ERR_INVALID_SCANOUT_ID, b"")
            return
        self._displays.edid(command.scanout, lambda blob: answer(vg.ResponseType.OK_EDID, vg.edid_payload(blob)))

    def _create_2d(self, c: vg.ResourceCreate2d, answer: Answer) -> None:
        answer(lib.vg_resource_create_2d(self.core, c.resource_id, c.format, c.width, c.height), b"")

    def _unref(self, c: vg.ResourceUnref, answer: Answer) -> None:
        answer(lib.vg_resource_unref(self.core, c.resource_id), b"")

    def _attach_backing(self, c: vg.ResourceAttachBacking, answer: Answer) -> None:
        entries = ffi.from_buffer("uint8_t[]", c.entries)
        answer(lib.vg_resource_attach_backing(self.core, c.resource_id, entries, c.nr_entries), b"")

    def _detach_backing(self, c: vg.ResourceDetachBacking, answer: Answer) -> None:
        answer(lib.vg_resource_detach_backing(self.core, c.resource_id), b"")

    # The core serves these two itself when they come from a ring; here they come from whoever rebuilds a session.

    def _set_scanout(self, c: vg.SetScanout, answer: Answer) -> None:
        r = c.rect
        answer(lib.vg_set_scanout(self.core, c.scanout_id, c.resource_id, r.x, r.y, r.width, r.height), b"")

    def _update_cursor(self, c: vg.UpdateCursor, answer: Answer) -> None:
        answer(lib.vg_update_cursor(self.core, c.scanout_id, c.x, c.y, c.resource_id, c.hot_x, c.hot_y), b"")

    def _capset_info(self, command: vg.GetCapsetInfo, answer: Answer) -> None:
        capsets = self.rendering.capsets if self.rendering else []
        if command.capset_index >= len(capsets):
            answer(vg.ResponseType.ERR_INVALID_PARAMETER, b"")
        else:
            answer(vg.ResponseType.OK_CAPSET_INFO, capsets[command.capset_index].encode())

    def _capset(self, command: vg.GetCapset, answer: Answer) -> None:
        # As virglrenderer, whatever version was asked for: the sets only grow at their end.
        data = self.rendering.fill_capset(command.capset_id) if self.rendering else None
        if data is None:
            answer(vg.ResponseType.ERR_INVALID_PARAMETER, b"")
        else:
            answer(vg.ResponseType.OK_CAPSET, data)

    def _assign_uuid(self, command: "ResourceAssignUuid", answer: Answer) -> None:
        uuid = ffi.new("uint8_t[16]")
        response = lib.vg_resource_uuid(self.core, command.resource_id, uuid)
        if response == vg.ResponseType.OK_NODATA:
            answer(vg.ResponseType.OK_RESOURCE_UUID, bytes(ffi.buffer(uuid)))
        else:
            answer(response, b"")

    def _unknown(self, command: vg.Command, answer: Answer) -> None:
        _log.debug("unknown command %s", command)
        answer(vg.ResponseType.ERR_UNSPEC, b"")


_HANDLERS: dict[type[Any], Callable[[Device, Any, Answer], None]] = {
    vg.GetDisplayInfo: Device._display_info,
    vg.GetEdid: Device._edid,
    vg.ResourceCreate2d: Device._create_2d,
    vg.ResourceUnref: Device._unref,
    vg.ResourceAttachBacking: Device._attach_backing,
    vg.ResourceDetachBacking: Device._detach_backing,
    vg.SetScanout: Device._set_scanout,
    vg.UpdateCursor: Device._update_cursor,
    vg.GetCapsetInfo: Device._capset_info,
    vg.GetCapset: Device._capset,
}
