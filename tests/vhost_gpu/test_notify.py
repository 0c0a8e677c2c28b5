"""sd_notify: what is sent, when, and to which kinds of address."""

import os
import socket

import pytest

from vhost_gpu.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request, tmp_path):
    """A bound datagram socket and the address as NOTIFY_SOCKET has it."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@vhost-gpu-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address.replace("@", "\0", 1))
        sock.settimeout(5)
        yield sock, address


def test_messages(manager):
    sock, address = manager
    environ = {"NOTIFY_SOCKET": address, "OTHER": "1"}
    notifier = Notifier(environ)
    assert environ == {"OTHER": "1"}
    notifier.ready("0 sessions, 0 viewers")
    notifier.status("0 sessions, 0 viewers")
    notifier.status("1 session, 0 viewers")
    notifier.alive()
    notifier.stopping()
    notifier.close()
    notifier.alive()
    assert [sock.recv(200) for _ in range(4)] == [
        b"READY=1\nSTATUS=0 sessions, 0 viewers",
        b"STATUS=1 session, 0 viewers",
        b"WATCHDOG=1",
        b"STOPPING=1\nSTATUS=stopping",
    ]


@pytest.mark.parametrize("address", ["", "relative", "/nonexistent/notify"])
def test_without_a_manager_nothing_happens(address):
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("x")
    notifier.close()


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_watchdog_interval(environ, interval):
    assert Notifier(environ).watchdog_interval == interval
    assert environ == {}
