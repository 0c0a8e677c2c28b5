"""Memory that nobody can change any more."""

import mmap
import os

import pytest

from tests.vhost_gpu.sessionkit import open_fds
from vhost_gpu.sealed import sealed_memfd


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 64])
def test_its_content(content: bytes) -> None:
    fd = sealed_memfd("test", content)
    assert os.pread(fd, 1 << 20, 0) == content
    os.close(fd)


def test_nobody_can_change_it() -> None:
    fd = sealed_memfd("test", bytes(4096))
    with pytest.raises(PermissionError):
        os.pwrite(fd, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 1)
    with pytest.raises(PermissionError):
        os.ftruncate(fd, 1 << 20)
    with pytest.raises(PermissionError):
        mmap.mmap(fd, 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    os.close(fd)


def test_it_is_closed_on_exec_and_leaves_nothing() -> None:
    before = open_fds()
    fd = sealed_memfd("test", b"x")
    assert not os.get_inheritable(fd)
    os.close(fd)
    assert open_fds() == before


def test_a_failure_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_fds()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        sealed_memfd("test", b"x")
    assert open_fds() == before
