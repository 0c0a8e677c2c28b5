"""The client against a listening socket."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path

import pytest

from frontend.client import FIRST_RETRY, LAST_RETRY, Client, VersionError
from protocol.errors import ConfigError
from protocol.viewer import Error, ErrorCode, Hello, Welcome
from tests.frontend.fakedaemon import DEADLINE, FakeDaemon, SharedImage


def read(client: Client) -> bool:
    assert select.select([client], [], [], DEADLINE)[0]
    return client.receive()


def connected(daemon: FakeDaemon, session: str = "") -> Client:
    client = Client(str(daemon.path), session)
    assert client.connect()
    assert daemon.welcome() == Hello(session)
    assert read(client)
    return client


def test_a_frame_is_taken_and_given_back(daemon: FakeDaemon) -> None:
    client = connected(daemon, "wanted")
    image = SharedImage(1, 8, 8)
    daemon.image(image)
    daemon.mode(8, 8)
    sequence = daemon.frame(image)
    while client.screens.take(0) is None:
        assert read(client)
    picture = client.screens.take(0)
    assert picture is not None
    assert client.reason == ""
    client.screens.give_back(0, picture)
    daemon.expect_done(sequence)
    client.close()


def test_no_descriptor_is_leaked(daemon: FakeDaemon) -> None:
    client = connected(daemon)
    image = SharedImage(1, 8, 8)
    before = len(os.listdir("/proc/self/fd"))
    daemon.image(image)
    daemon.send_packet(b"12345678", [image.fd] * 3)
    while read(client):
        pass
    assert "broke the protocol" in client.reason
    assert client.fileno() == -1
    # the client's own socket is closed, a mapping keeps a descriptor of its own until it goes
    assert len(os.listdir("/proc/self/fd")) <= before


def test_waiting_longer_each_time(tmp_path: Path) -> None:
    client = Client(str(tmp_path / "none.display"))
    waits = []
    for _ in range(6):
        waits.append(client.retry_in)
        assert not client.connect()
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (FIRST_RETRY, LAST_RETRY)
    assert "no daemon at" in client.reason


def test_the_daemon_ends_the_connection(daemon: FakeDaemon) -> None:
    client = connected(daemon)
    daemon.hang_up()
    assert not read(client)
    assert client.reason == "the daemon is gone"
    assert client.screens.screens == []
    assert client.connect()
    daemon.welcome(session="next")
    assert read(client)
    assert client.screens.session == "next"
    client.close()


def test_an_error_says_why(daemon: FakeDaemon) -> None:
    client = connected(daemon)
    daemon.send(Error(ErrorCode.SESSION_ENDED, "the session ended"))
    assert not read(client)
    assert client.reason == "the session ended"


def test_packets_too_large_or_of_nothing(daemon: FakeDaemon) -> None:
    client = connected(daemon)
    daemon.send_packet(bytes(5000))
    assert not read(client)
    assert "packet too large" in client.reason


def test_too_many_descriptors(daemon: FakeDaemon) -> None:
    client = connected(daemon)
    image = SharedImage(1, 8, 8)
    daemon.send_packet(b"x", [image.fd] * 20)
    assert not read(client)
    assert "broke the protocol" in client.reason


@pytest.mark.parametrize("answer", [Welcome(1, "s", version=2), Error(ErrorCode.VERSION, "too new")])
def test_another_version(daemon: FakeDaemon, answer: Welcome | Error) -> None:
    client = Client(str(daemon.path))
    client.connect()
    daemon.accept()
    daemon.send(answer)
    with pytest.raises(VersionError):
        read(client)
    client.close()


def test_a_daemon_that_reads_nothing_ends_the_connection(daemon: FakeDaemon) -> None:
    client = connected(daemon)
    image = SharedImage(1, 8, 8)
    daemon.image(image)
    daemon.mode(8, 8)
    for _ in range(2):
        daemon.mode(8, 8)
        daemon.frame(image)
    while client.screens.screens[0].pending is None:
        assert read(client)
    for _ in range(100000):
        picture = client.screens.take(0)
        if picture is None:
            break
        for _ in range(2000):
            client.screens.give_back(0, picture)
    while read(client):
        pass
    assert not client.connected


def test_paths_and_names_that_can_not_be(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(str(tmp_path / "vm.sock"))
        stream.listen()
        with pytest.raises(ConfigError, match="not a display socket"):
            Client(str(tmp_path / "vm.sock")).connect()
    with pytest.raises(ConfigError, match="can't connect"):
        Client("/" + "x" * 300).connect()
    with pytest.raises(ConfigError, match="64 bytes"):
        Client("/x", "n" * 65)
    with pytest.raises(ConfigError, match="UTF-8"):
        Client("/x", "\udc80")
