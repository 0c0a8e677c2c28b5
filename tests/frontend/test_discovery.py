"""Which sockets count as running daemons."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from frontend import discovery
from frontend.discovery import display_socket, find_sockets
from protocol.errors import ConfigError
from tests.frontend.fakedaemon import FakeDaemon


def test_listeners_in_folders_count_and_dead_ones_do_not(daemon: FakeDaemon, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(tmp_path / "dead.display"))
    (tmp_path / "file.display").touch()
    assert find_sockets([tmp_path, tmp_path / "missing"], Path("/dev/null")) == [str(daemon.path)]


def test_listeners_anywhere_are_found(daemon: FakeDaemon) -> None:
    assert str(daemon.path) in find_sockets([])


def test_one_listener_by_two_ways_is_one(daemon: FakeDaemon, tmp_path: Path) -> None:
    (tmp_path / "link.display").symlink_to(daemon.path)
    assert find_sockets([tmp_path]).count(str(daemon.path)) == 1


def test_a_strange_table(daemon: FakeDaemon, tmp_path: Path) -> None:
    table = tmp_path / "table"
    row = "0000: 00000002 00000000 00010000 {} 01 123 {}"
    rows = ["head", "", "short", row.format("0001", "/stream.display"), row.format("0005", "@abstract.display")]
    table.write_text("\n".join([*rows, row.format("0005", daemon.path), row.format("0005", "/none.display")]))
    assert find_sockets([], table) == [str(daemon.path)]


def test_the_named_socket_is_not_looked_for() -> None:
    assert display_socket("/any/where") == "/any/where"


def test_one_none_and_several(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["/a.display"]
    monkeypatch.setattr(discovery, "find_sockets", lambda: found)
    assert display_socket(None) == "/a.display"
    found.append("/b.display")
    with pytest.raises(ConfigError, match=r"(?s)several.*\n  /a.display\n  /b.display"):
        display_socket(None)
    found.clear()
    with pytest.raises(ConfigError, match="no running vhost-gpu"):
        display_socket(None)


def test_the_usual_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "vhost-gpu").mkdir()
    fake = FakeDaemon(tmp_path / "vhost-gpu" / "1.display")
    assert str(fake.path) in find_sockets(listeners=Path("/dev/null"))
    fake.close()
