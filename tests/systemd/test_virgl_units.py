"""The units with 3D: what sets them apart from the others, and rendering inside their sandbox."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.virgl_const import Bind, Target
from protocol.virgl_format import VirglFormat
from tests.backend.virglkit import SIDE, clear_stream, draw_stream
from tests.systemd.instance import Instance
from tests.systemd.manager import LIMIT, Manager
from vhost_gpu.guest.driver import GuestGpu
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, BackedResource, Gpu3d

pytestmark = pytest.mark.systemd

UNITS = Path(__file__).parents[2] / "systemd"
TEMPLATE = "vhost-gpu-virgl"
# What the sandbox of the others does not have, and the other way round.
WIDER = {
    "system": {
        "Environment=MESA_SHADER_CACHE_DISABLE=true",
        "SupplementaryGroups=render",
        "BindPaths=-/dev/dri",
        "DeviceAllow=char-drm rw",
    },
    "user": {"Environment=MESA_SHADER_CACHE_DISABLE=true"},
}
# Of PrivateDevices=yes, and ours.
DEVICES = {"dri", "full", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"} | {
    *("char", "fd", "hugepages", "log", "mqueue", "stderr", "stdin", "stdout")
}
CLOSED = {"MemoryDenyWriteExecute=yes"}


def settings(path: Path) -> set[str]:
    """The lines that say something, with one name for both templates."""
    lines = path.read_text().replace(f"{TEMPLATE}@", "vhost-gpu@").replace("--virgl ", "").splitlines()
    return {line for line in lines if line and not line.startswith(("#", "Description="))}


@pytest.mark.parametrize("kind", ["system", "user"])
def test_the_units_differ_in_what_a_renderer_needs_alone(kind: str) -> None:
    plain, wider = (settings(UNITS / kind / f"{name}@.service") for name in ("vhost-gpu", TEMPLATE))
    assert wider - plain == WIDER[kind]
    assert plain - wider == CLOSED
    plain, wider = (settings(UNITS / kind / f"{name}@.socket") for name in ("vhost-gpu", TEMPLATE))
    assert wider - plain == {"Conflicts=vhost-gpu@%i.socket", "After=vhost-gpu@%i.socket"}
    assert plain <= wider


@pytest.fixture
def instance(manager: Manager, request: pytest.FixtureRequest) -> Iterator[Instance]:
    made = Instance(manager, request.node.name.removeprefix("test_")[:24].replace("_", "-"), TEMPLATE)
    yield made
    manager.run("systemctl", "stop", made.socket, made.service)


async def test_it_renders_inside_the_sandbox(instance: Instance) -> None:
    """With a shader, which a software renderer compiles to machine code."""
    async with await GuestGpu.open(instance.vhost_user, features=VIRGL_FEATURES) as gpu:
        gpu3d = Gpu3d(gpu)
        assert [info.capset_id for info in await gpu3d.capsets()] == [1, 2]
        picture = await BackedResource.create(
            gpu3d, Target.TEXTURE_2D, VirglFormat.B8G8R8A8_UNORM, Bind.RENDER_TARGET, SIDE, SIDE
        )
        vertices = await gpu3d.create(Target.BUFFER, VirglFormat.R8_UNORM, Bind.VERTEX_BUFFER, 64)
        async with await gpu3d.context() as context:
            await context.attach(picture.resource_id, vertices)
            blue = clear_stream(picture.resource_id, (0.0, 0.0, 1.0, 1.0))
            await context.submit(blue + draw_stream(vertices, -1.0, -1.0, 1.0, 0.0))
            half = SIDE * SIDE // 2
            assert await picture.download() == b"\0\0\xff\xff" * half + b"\xff\0\0\xff" * half
        picture.release()
    assert instance.show("NRestarts") == "0"
    assert not [text for text in instance.manager.messages(instance.service) if text[0] in "01234"]


def test_render_nodes_are_in_the_sandbox_and_no_other_devices(instance: Instance, manager: Manager) -> None:
    """A node in a place of its own stands in for a GPU's."""
    os.makedirs("/dev/dri", exist_ok=True)
    manager.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/dev/dri")
    manager.run("mknod", "/dev/dri/renderD128", "c", "226", "128")
    try:
        with instance.connect():
            instance.wait(ActiveState="active")
            root = f"/proc/{instance.show('MainPID')}/root/dev"
            assert manager.run("ls", f"{root}/dri").split() == ["renderD128"]
            assert set(manager.run("ls", root).split()) <= DEVICES
            render = manager.run("getent", "group", "render").split(":")[2]
            status = manager.run("cat", f"/proc/{instance.show('MainPID')}/status")
            groups = next(line for line in status.splitlines() if line.startswith("Groups:"))
            assert render in groups.split()
            assert instance.show("DeviceAllow") == "char-drm rw"
    finally:
        manager.run("umount", "/dev/dri")
        os.rmdir("/dev/dri")


def test_it_takes_the_place_of_the_one_without_3d(instance: Instance, manager: Manager) -> None:
    name = instance.socket.removeprefix(f"{TEMPLATE}@").removesuffix(".socket")
    plain = Instance(manager, name)
    manager.wait(instance.socket, ActiveState="inactive")
    manager.run("systemctl", "start", instance.socket)
    manager.wait(plain.socket, ActiveState="inactive")
    with instance.connect():
        instance.wait(StatusText="1 session, 0 viewers")
    manager.run("systemctl", "stop", instance.service)
    manager.run("systemctl", "start", plain.socket)
    manager.wait(instance.socket, ActiveState="inactive")
    with plain.connect():
        plain.wait(StatusText="1 session, 0 viewers")
    manager.run("systemctl", "stop", plain.socket, plain.service)


def test_the_other_sandbox_says_why_there_is_no_3d(manager: Manager) -> None:
    plain = Instance(manager, "misplaced")
    plain.configure('Environment="VHOST_GPU_OPTIONS=--virgl"')
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(LIMIT)
        sock.connect(plain.vhost_user)
        assert sock.recv(1) == b""
    assert any("MemoryDenyWriteExecute=no" in message for message in manager.messages(plain.service))
    manager.run("systemctl", "stop", plain.socket, plain.service)
