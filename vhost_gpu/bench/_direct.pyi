"""Types of the loops on virglrenderer as cffi offers them. Names, units and errors: ``direct/vd_direct.h``."""

from typing import Any, TypeAlias

CData: TypeAlias = Any
"""A C pointer, struct or array; its fields are attributes."""

class _FFI:
    NULL: CData

    def new(self, cdecl: str, init: Any = ..., /) -> CData: ...
    def unpack(self, cdata: CData, length: int, /) -> Any: ...
    def buffer(self, cdata: CData, size: int = -1, /) -> Any: ...
    def from_buffer(self, cdecl: str, python_buffer: Any, require_writable: bool = False) -> CData: ...

class _Lib:
    VD_SPIN: int
    VD_SYNC: int
    VD_ASYNC: int

    def vd_open(self, mode: int, render_node: CData, /) -> int: ...
    def vd_create(self, resource: CData, /) -> int: ...
    def vd_submit(self, words: CData, count: int, /) -> int: ...
    def vd_run(self, job: CData, result: CData, /) -> int: ...

ffi: _FFI
lib: _Lib
