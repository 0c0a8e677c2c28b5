"""A device's renderer from Python: opening it, capability sets, events, the commands that Python answers."""

from collections.abc import Iterator
from typing import Any

import pytest

from backend import rendering
from backend.device import Device
from backend.rendering import Event, Rendering
from protocol.errors import ConfigError
from protocol.virtio_gpu import Command, GetCapset, GetCapsetInfo, ResourceCreate2d, ResponseType
from protocol.virtio_gpu_3d import CapsetInfo
from protocol.virtio_gpu_blob import ResourceAssignUuid
from tests.backend.fake_renderer import fake
from tests.backend.renderkit import RenderKit, ops_address

MIB = 1 << 20


class NoDisplays:
    def display_info(self, answer: Any) -> None:
        answer(b"")

    def edid(self, scanout: int, answer: Any) -> None:  # noqa: ARG002
        answer(b"")


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device(1, 64 * MIB, NoDisplays())
    yield device
    if device.rendering is not None:
        device.rendering.close()


def ask(device: Device, command: Command) -> tuple[int, bytes]:
    replies: list[tuple[int, bytes]] = []
    device.execute(command.encode(), lambda *reply: replies.append(reply))
    (reply,) = replies
    return reply


def start(device: Device, render_node: str | None = None) -> Rendering:
    return device.start_renderer(ops_address(), render_node)


def test_capability_sets(device: Device) -> None:
    renderer = start(device)
    assert renderer.capsets == [CapsetInfo(1, 1, 100), CapsetInfo(2, 2, 200)]
    assert device.config().num_capsets == 2
    for index, info in enumerate(renderer.capsets):
        assert ask(device, GetCapsetInfo(index)) == (ResponseType.OK_CAPSET_INFO, info.encode())
        data = bytes([0x40 + info.capset_id]) * info.capset_max_size
        assert ask(device, GetCapset(info.capset_id, 1)) == (ResponseType.OK_CAPSET, data)


@pytest.mark.parametrize("command", [GetCapsetInfo(2), GetCapsetInfo(2**32 - 1), GetCapset(0, 0), GetCapset(3, 1)])
def test_capability_sets_that_there_are_not(device: Device, command: Command) -> None:
    start(device)
    assert ask(device, command) == (ResponseType.ERR_INVALID_PARAMETER, b"")


def test_without_a_renderer_there_is_none(device: Device) -> None:
    assert device.config().num_capsets == 0
    assert ask(device, GetCapsetInfo(0))[0] == ResponseType.ERR_INVALID_PARAMETER
    assert ask(device, GetCapset(1, 1))[0] == ResponseType.ERR_INVALID_PARAMETER
    assert ask(device, ResourceAssignUuid(1))[0] == ResponseType.ERR_UNSPEC


def test_uuids(device: Device) -> None:
    start(device)
    assert ask(device, ResourceCreate2d(5, 1, 4, 4))[0] == ResponseType.OK_NODATA
    kind, uuid = ask(device, ResourceAssignUuid(5))
    assert (kind, len(uuid)) == (ResponseType.OK_RESOURCE_UUID, 16)
    assert ask(device, ResourceAssignUuid(5)) == (kind, uuid)
    assert ask(device, ResourceAssignUuid(6)) == (ResponseType.ERR_INVALID_RESOURCE_ID, b"")


def test_a_renderer_that_does_not_open(device: Device) -> None:
    ops = ops_address()
    fake.fake_fail(b"open", -19)
    with pytest.raises(ConfigError, match="no 3D: it fails as told"):
        device.start_renderer(ops, "/dev/dri/renderD200")
    assert RenderKit.calls() == ["open /dev/dri/renderD200"]
    assert device.rendering is None
    assert device.config().num_capsets == 0


def test_events_are_taken_once(device: Device) -> None:
    renderer = start(device)
    fake.fake_say(b"line \xff one")
    assert list(renderer.events()) == [Event(rendering.MESSAGE, 0, "line \ufffd one", 0)]
    assert list(renderer.events()) == []
    assert not renderer.lost
    renderer.close()
    assert renderer.lost


def test_a_pause_and_its_end(device: Device) -> None:
    renderer = start(device)
    for settle in (False, True):
        renderer.pause(settle=settle)
        renderer.pause()
        renderer.resume()
    assert not renderer.take_request(device.queues[0].request)
