"""asyncio and uvloop without OpenSSL: 3 MiB and 10 ms of a process that only ever speaks over Unix sockets.

Both import ``ssl`` for names that they use with TLS connections alone. ``install`` puts a module there that has those
names; whoever asks it for another one gets the real module's.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_NAMES = {
    **dict.fromkeys(("SSLContext", "MemoryBIO", "create_default_context"), None),
    **{
        name: type(name, (Exception,), {})
        for name in (
            "SSLError",
            "SSLWantReadError",
            "SSLWantWriteError",
            "SSLSyscallError",
            "SSLZeroReturnError",
            "CertificateError",
        )
    },
    "SSL_ERROR_WANT_READ": 2,
    "SSL_ERROR_WANT_WRITE": 3,
    "SSL_ERROR_SYSCALL": 5,
}


class _WithoutTls(ModuleType):
    """Stands for ``ssl`` until somebody wants more of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get("ssl") is self:
            del sys.modules["ssl"]
        return getattr(importlib.import_module("ssl"), name)


def install() -> None:
    """Before asyncio is imported; without effect where ``ssl`` is there already."""
    if "ssl" not in sys.modules:
        module = _WithoutTls("ssl", __doc__)
        module.__dict__.update(_NAMES)
        sys.modules["ssl"] = module
