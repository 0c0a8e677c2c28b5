"""Immutable shared memory: a memfd that nobody, not even we, can change any more."""

import fcntl
import os

_ALL_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def sealed_memfd(name: str, content: bytes) -> int:
    """A new memfd with this content, sealed against every change (memfd_create(2), fcntl(2) F_ADD_SEALS).

    Returns:
        The descriptor, close-on-exec; the caller's.

    Raises:
        OSError: no descriptor or no memory.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, content)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL_SEALS)
    except OSError:
        os.close(fd)
        raise
    return fd
