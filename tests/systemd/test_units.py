"""The units under a real systemd: activation by a VMM, readiness, restart, watchdog, stop, the sandbox."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import Iterator

import pytest

from protocol import viewer as vp
from tests.systemd.instance import GET_FEATURES, Instance
from tests.systemd.manager import LIMIT, Manager
from vhost_gpu.guest.driver import GuestGpu
from vhost_gpu.guest.framebuffer import Framebuffer

pytestmark = pytest.mark.systemd


@pytest.fixture
def instance(manager: Manager, request: pytest.FixtureRequest) -> Iterator[Instance]:
    """A fresh instance, named after the test."""
    made = Instance(manager, request.node.name.removeprefix("test_")[:24].replace("_", "-"))
    yield made
    manager.run("systemctl", "stop", made.socket, made.service)


def test_a_vmm_that_connects_starts_the_service(instance: Instance) -> None:
    assert instance.show("ActiveState") == "inactive"
    for path in (instance.vhost_user, instance.display):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with instance.connect():
        instance.wait(ActiveState="active", SubState="running", StatusText="1 session, 0 viewers")
        assert (instance.show("Type"), instance.show("WatchdogUSec")) == ("notify", "30s")
        assert len(instance.processes()) == 2
        with instance.connect():
            instance.wait(StatusText="2 sessions, 0 viewers")
    instance.wait(StatusText="0 sessions, 0 viewers")


def test_the_journal_has_levels_and_no_clock_of_ours(instance: Instance) -> None:
    with instance.connect():
        instance.wait(StatusText="1 session, 0 viewers")
        pid = instance.show("MainPID")
        session = next(process for process in instance.processes() if process != pid)
        instance.manager.run("kill", "-SEGV", session)
        instance.wait(StatusText="0 sessions, 0 viewers")
    messages = instance.manager.messages(instance.service)
    assert "6 supervisor: listening on the socket that systemd passed for VMMs" in messages
    assert any(message.startswith("3 session-1: killed by SIGSEGV") for message in messages)


async def test_a_guest_is_shown_to_a_viewer_inside_the_sandbox(instance: Instance) -> None:
    async with await GuestGpu.open(instance.vhost_user) as gpu:
        framebuffer = await Framebuffer.create(gpu, 640, 480)
        await framebuffer.show()
        await framebuffer.flush()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as viewer:
            viewer.setblocking(False)
            viewer.connect(instance.display)
            viewer.send(vp.encode(vp.Hello()))
            frame = await _first_frame(viewer)
            assert (frame.scanout, frame.image != 0) == (0, True)
        await framebuffer.destroy()
    assert instance.show("NRestarts") == "0"


async def _first_frame(viewer: socket.socket) -> vp.Frame:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(viewer, readable.set)
    try:
        async with asyncio.timeout(LIMIT):
            while True:
                await readable.wait()
                try:
                    packet, fds, _, _ = socket.recv_fds(viewer, vp.MAX_PACKET, 1)
                except BlockingIOError:
                    readable.clear()
                    continue
                message = vp.decode_from_daemon(packet, fds)
                for fd in fds:
                    os.close(fd)
                if isinstance(message, vp.Frame):
                    return message
    finally:
        loop.remove_reader(viewer)


def test_a_killed_supervisor_is_restarted_and_serves_again(instance: Instance) -> None:
    with instance.connect() as before:
        first = instance.show("MainPID")
        instance.kill("KILL")
        assert before.recv(1) == b""
        instance.wait(NRestarts="1", ActiveState="active")
    assert instance.show("MainPID") != first
    with instance.connect():
        instance.wait(StatusText="1 session, 0 viewers")


def test_the_watchdog_restarts_a_supervisor_that_hangs(instance: Instance) -> None:
    instance.configure("WatchdogSec=1s", "WatchdogSignal=SIGKILL")
    with instance.connect() as sock:
        instance.wait(StatusText="1 session, 0 viewers")
        first = instance.show("WatchdogTimestampMonotonic")
        instance.manager.wait_for_change(instance.service, "WatchdogTimestampMonotonic", first)
        assert instance.show("NRestarts") == "0"
        instance.kill("STOP")  # nothing else but the watchdog would end it now
        assert sock.recv(1) == b""
        instance.wait(NRestarts="1", ActiveState="active")
    with instance.connect():
        instance.wait(StatusText="1 session, 0 viewers")


def test_stop_ends_sessions_in_order_and_the_socket_starts_it_again(instance: Instance) -> None:
    with instance.connect() as sock:
        instance.wait(StatusText="1 session, 0 viewers")
        instance.manager.run("systemctl", "stop", instance.service)
        assert sock.recv(1) == b""
    assert instance.manager.show(instance.service, "ActiveState", "Result", "ExecMainStatus") == {
        "ActiveState": "inactive",
        "Result": "success",
        "ExecMainStatus": "0",
    }
    assert instance.processes() == []
    assert any("session-1: ended" in message for message in instance.manager.messages(instance.service))
    with instance.connect():
        instance.wait(ActiveState="active")
    instance.manager.run("systemctl", "stop", instance.socket, instance.service)
    assert not os.path.exists(instance.vhost_user)
    assert not os.path.exists(instance.display)


def test_instances_are_apart(instance: Instance, manager: Manager) -> None:
    other = Instance(manager, "other")
    with instance.connect(), other.connect() as sock:
        instance.kill("KILL")
        instance.wait(NRestarts="1")
        sock.sendall(GET_FEATURES)
        assert len(sock.recv(64)) == 20
    manager.run("systemctl", "stop", other.socket, other.service)


def test_wrong_options_of_an_instance_are_told_and_not_tried_again(manager: Manager) -> None:
    made = Instance(manager, "options")
    made.configure('Environment="VHOST_GPU_OPTIONS=--max-outputs 3 --log-level debug --bad"')
    manager.run("systemctl", "start", made.service, check=False)
    assert manager.show(made.service, "Result", "ExecMainStatus", "NRestarts") == {
        "Result": "exit-code",
        "ExecMainStatus": "2",
        "NRestarts": "0",
    }
    assert "3 vhost-gpu: unrecognized arguments: --bad (see --help)" in manager.messages(made.service)
    manager.run("systemctl", "stop", made.service, made.socket)


def test_the_process_is_confined(instance: Instance) -> None:
    with instance.connect():
        instance.wait(StatusText="1 session, 0 viewers")
        for pid in instance.processes():
            status = instance.manager.run("cat", f"/proc/{pid}/status")
            fields = dict(line.split(":", 1) for line in status.splitlines())
            assert fields["Uid"].split()[0] != "0"
            assert {fields[name].strip() for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
            assert (fields["NoNewPrivs"].strip(), fields["Seccomp"].strip()) == ("1", "2")
