"""Starting and ending the demo's programs."""

import socket
from pathlib import Path

import pytest

from vhost_gpu.guest.processes import private_daemon, program, start_screenshot
from vhost_gpu.guest.vmm import VmmError


async def test_a_program_is_gone_on_leaving() -> None:
    async with program(["-c", "import signal; signal.pause()"]) as running:
        assert running.status is None
    assert running.status == -15


async def test_a_program_that_ends_tells_its_status() -> None:
    async with program(["-c", "import os, sys; sys.exit(int(os.environ['STATUS']))"], {"STATUS": "7"}) as running:
        assert await running.wait() == 7


async def test_a_private_daemon_listens_and_leaves_nothing() -> None:
    async with private_daemon((640, 480)) as daemon:
        for path, kind in ((daemon.socket_path, socket.SOCK_STREAM), (daemon.display_socket, socket.SOCK_SEQPACKET)):
            with socket.socket(socket.AF_UNIX, kind) as connection:
                connection.connect(path)
    assert not Path(daemon.socket_path).parent.exists()


async def test_a_daemon_that_ends_at_once_is_told() -> None:
    with pytest.raises(VmmError, match="status 2"):
        async with private_daemon(options=["--max-outputs", "99"]):
            pass


async def test_a_screenshot_of_nothing_fails(tmp_path: Path) -> None:
    async with start_screenshot(str(tmp_path / "none.display"), str(tmp_path / "out.png")) as running:
        assert await running.wait() != 0
