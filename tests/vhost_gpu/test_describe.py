"""A session's description is enough to build it again around the held descriptors."""

import json
import os
from typing import Any

import pytest

from backend._core import ffi, lib
from backend.device import Device
from backend.memory import Region
from protocol import virtio_gpu as vg
from protocol.virtio_gpu import Rect, ResponseType
from protocol.virtio_gpu_blob import BlobMem
from tests.vhost_gpu.sessionkit import config, running, shown, until
from vhost_gpu.describe import describe, describe_content
from vhost_gpu.displays import Displays
from vhost_gpu.guest.blob import BlobFramebuffer
from vhost_gpu.guest.driver import F_RING_PACKED, LINUX_FEATURES, PLAIN_FEATURES
from vhost_gpu.guest.framebuffer import Framebuffer
from vhost_gpu.vhost_user_handler import VhostUserHandler


def run(device: Device, command: vg.Command) -> None:
    answers: list[int] = []
    device.execute(command.encode(), lambda response, _payload: answers.append(response))
    assert answers == [ResponseType.OK_NODATA]


def rebuild(state: dict[str, Any], held: dict[str, list[int]]) -> Device:
    """A second device, as a successor of the session would make it."""
    device = Device(16, config().max_hostmem, Displays(1, (800, 600)))
    device.set_features(state["memory"]["features"])
    device.memory.replace([Region(*region) for region in state["memory"]["regions"]], held["memory"])
    for queue in device.queues:
        _rebuild_queue(queue, state[f"queue.{queue.index}"], list(held[f"queue.{queue.index}"]))
    for resource in state["resources"]:
        _rebuild_resource(device, resource)
    for index, scanout in enumerate(state["scanouts"]):
        _rebuild_scanout(device, index, scanout)
    return device


def _rebuild_queue(queue: Any, state: dict[str, Any], fds: list[int]) -> None:
    queue.set_num(state["num"])
    queue.set_addr(state["desc"], state["avail"], state["used"])
    queue.set_base(state["base"])
    for present, take in zip(state["eventfds"], (queue.set_kick, queue.set_call, queue.set_err), strict=True):
        if present:
            take(os.dup(fds.pop(0)))
    if state["started"]:
        queue.start()
    queue.set_enabled(state["enabled"])


def _rebuild_resource(device: Device, state: dict[str, Any]) -> None:
    id_, width, height = state["id"], state["width"], state["height"]
    if size := state.get("blob_size"):
        made = lib.vg_resource_create_blob(device.core, id_, BlobMem.GUEST, 0, size, ffi.NULL, 0)
        assert made == ResponseType.OK_NODATA
    else:
        run(device, vg.ResourceCreate2d(id_, state["format"], width, height))
    if state["backing"]:
        entries = b"".join(vg.MemEntry(*entry).encode() for entry in state["backing"])
        run(device, vg.ResourceAttachBacking(id_, len(state["backing"]), entries))


def _rebuild_scanout(device: Device, index: int, state: dict[str, Any]) -> None:
    if state["resource"] and state["picture"]:
        picture = ffi.new("vg_blob_picture *", state["picture"])
        shown = lib.vg_set_scanout_blob(device.core, index, state["resource"], *state["rect"], picture)
        assert shown == ResponseType.OK_NODATA
    elif state["resource"]:
        run(device, vg.SetScanout(Rect(*state["rect"]), index, state["resource"]))
    cursor = state["cursor"]
    if cursor["resource"]:
        run(device, vg.UpdateCursor(index, *cursor["position"], cursor["resource"], *cursor["hot_spot"]))


@pytest.mark.parametrize("features", [LINUX_FEATURES, LINUX_FEATURES | F_RING_PACKED, PLAIN_FEATURES | F_RING_PACKED])
async def test_a_second_device_from_the_description_describes_itself_the_same(features: int) -> None:
    async with running(features=features) as kit:
        await shown(kit.gpu, 100, 50)
        scattered = await Framebuffer.create(kit.gpu, 300, 200, 67, scattered=True)
        await kit.gpu.set_scanout(0, scattered.resource_id, Rect(10, 20, 200, 100))
        arrow = await kit.gpu.create_2d(64, 64, 1)
        await kit.gpu.update_cursor(arrow, 11, 12, hot_x=3, hot_y=4)
        await until(lambda: kit.control.states.get("queue.1", {}).get("enabled"))

        device, handler = kit.session.device, kit.session.handler
        state = json.loads(json.dumps(describe(device, handler) | describe_content(device)))
        assert [resource["id"] for resource in state["resources"]] == [1, 2, 3]
        successor = rebuild(state, kit.control.held)
        theirs = VhostUserHandler(successor, (), kit.session)
        theirs.features, theirs.protocol_features = handler.features, handler.protocol_features
        assert describe(successor, theirs) | describe_content(successor) == state
        for queue in successor.queues:
            queue.close()


async def test_a_second_device_shows_the_same_blob() -> None:
    async with running() as kit:
        blob = await BlobFramebuffer.create(kit.gpu, 40, 30, 67, scattered=True)
        blob.pixels[:] = os.urandom(blob.size)
        await blob.show(0, Rect(4, 2, 30, 20))
        await blob.flush()
        await until(lambda: kit.control.states.get("queue.1", {}).get("enabled"))
        device, handler = kit.session.device, kit.session.handler
        state = json.loads(json.dumps(describe(device, handler) | describe_content(device)))
        assert state["resources"][0]["blob_size"] == blob.size
        assert state["scanouts"][0]["picture"] == [40, 30, 67, 160, 0]
        successor = rebuild(state, kit.control.held)
        assert describe_content(successor) == describe_content(device)
        frames = [part.screens.frame(0) for part in (device, successor)]
        pictures = [
            os.pread(part.screens.image(frame.image).fd, blob.size, 0)
            for part, frame in zip((device, successor), frames, strict=True)
        ]
        rows = [[data[y * 160 + 16 : y * 160 + 136] for y in range(2, 22)] for data in pictures]
        assert rows[0] == rows[1]
        for queue in successor.queues:
            queue.close()


async def test_what_the_supervisor_gets_is_the_description() -> None:
    async with running() as kit:
        await kit.gpu.stop()
        await until(lambda: kit.control.states == describe(kit.session.device, kit.session.handler))


async def test_an_empty_device() -> None:
    device = Device(1, 1 << 20, Displays(1, (800, 600)))
    content = describe_content(device)
    assert content["resources"] == []
    assert {scanout["resource"] for scanout in content["scanouts"]} == {0}
    with pytest.raises(AssertionError):
        run(device, vg.ResourceUnref(1))
