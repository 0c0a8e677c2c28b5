"""The session as plain JSON values, part by part: what a successor needs to rebuild it around the held descriptors."""

from collections.abc import Iterator
from typing import Any

from backend._core import ffi, lib
from backend.device import Device
from vhost_gpu.vhost_user_handler import VhostUserHandler

State = dict[str, Any]


def describe_content(device: Device) -> State:
    """What the guest has made: resources with their backing, scanouts, cursors. Walks everything: not for hot paths.

    Returns:
        Values by the keys ``resources`` and ``scanouts``.
    """
    return {
        "resources": [_resource(info) for info in _resources(device)],
        "scanouts": [_scanout(device, index) for index in range(lib.VG_MAX_SCANOUTS)],
    }


def _resources(device: Device) -> Iterator[Any]:
    info = ffi.new("vg_resource_info *")
    after = 0
    while lib.vg_resource_next(device.core, after, info):
        yield info
        after = info.id


def _resource(info: Any) -> State:
    entries = [[info.entries[2 * n], info.entries[2 * n + 1]] for n in range(info.nr_entries)]
    blob = {"blob_size": info.blob_size} if info.blob_size else {}
    return {"id": info.id, "format": info.format, "width": info.width, "height": info.height, "backing": entries} | blob


def _scanout(device: Device, index: int) -> State:
    frame, cursor = device.screens.frame(index), device.screens.cursor(index)
    picture = ffi.new("vg_blob_picture *")
    blob = lib.vg_scanout_blob(device.core, index, picture)
    return {
        "resource": frame.resource_id,
        "picture": [picture.width, picture.height, picture.format, picture.stride, picture.offset] if blob else None,
        "rect": [frame.x, frame.y, frame.width, frame.height],
        "cursor": {
            "resource": cursor.resource_id,
            "position": [cursor.x, cursor.y],
            "hot_spot": [cursor.hot_x, cursor.hot_y],
            "visible": cursor.visible,
        },
    }


def describe(device: Device, handler: VhostUserHandler) -> State:
    """The set-up by the VMM: memory table, features and rings; small, sent to the supervisor whenever it changes.

    Returns:
        Values by the keys of the control channel: ``memory`` and ``queue.N``.
    """
    state: State = {
        "memory": {
            "features": handler.features,
            "protocol_features": handler.protocol_features,
            "regions": [[r.gpa, r.size, r.uva, r.mmap_offset] for r in device.memory.regions],
        }
    }
    for queue in device.queues:
        info = queue.describe()
        state[f"queue.{queue.index}"] = {
            "num": info.num,
            "desc": info.desc,
            "avail": info.avail,
            "used": info.used,
            "base": info.base,
            "started": bool(info.started),
            "enabled": bool(info.enabled),
            "eventfds": [queue.kick_fd >= 0, queue.call_fd >= 0, queue.err_fd >= 0],
        }
    return state
