"""The renderer's table of functions, driven from Python in a process of its own: GL stays out of the tests' process.

``Renderer`` is used there; tests have a ``RemoteRenderer``, which passes each call on. Results are plain data.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import struct
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

LIMIT = 60  # seconds for one call
SIDE = 64

# enum virgl_formats, enum pipe_texture_target, VIRGL_BIND_*, VIRTIO_GPU_RESOURCE_FLAG_Y_0_TOP
B8G8R8A8, R8_UNORM, R32G32B32A32_FLOAT, S8Z24, DXT1 = 1, 64, 31, 20, 105
BUFFER, TEXTURE_2D, TEXTURE_3D, TEXTURE_CUBE, TEXTURE_RECT, ARRAY_1D, ARRAY_2D, CUBE_ARRAY = 0, 2, 3, 4, 5, 6, 7, 8
DEPTH_STENCIL, RENDER_TARGET, SAMPLER_VIEW, VERTEX_BUFFER = 1, 2, 8, 16
Y_0_TOP = 1


def command(number: int, *dwords: int | float, kind: int = 0) -> bytes:
    """One command of a VirGL stream; floats are packed as such."""
    head = struct.pack("<I", number | kind << 8 | len(dwords) << 16)
    return head + b"".join(struct.pack("<f" if isinstance(word, float) else "<I", word) for word in dwords)


def clear_stream(resource: int, color: tuple[float, float, float, float], format: int = B8G8R8A8) -> bytes:
    """A surface of the resource, as the framebuffer, cleared."""
    surface = command(1, resource + 1000, resource, format, 0, 0, kind=8)
    framebuffer = command(5, 1, 0, resource + 1000)
    return surface + framebuffer + command(7, 4, *color, 0, 0, 0)


VERTEX_SHADER = b"VERT\nDCL IN[0]\nDCL OUT[0], POSITION\n  0: MOV OUT[0], IN[0]\n  1: END\n"
FRAGMENT_SHADER = b"FRAG\nDCL OUT[0], COLOR\nIMM[0] FLT32 {1.0, 0.0, 0.0, 1.0}\n  0: MOV OUT[0], IMM[0]\n  1: END\n"


def shader(handle: int, kind: int, text: bytes) -> bytes:
    """A shader object, bound."""
    padded = text + bytes(4 - len(text) % 4)
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    return command(1, handle, kind, len(text) + 1, 300, 0, *words, kind=4) + command(31, handle, kind)


def draw_stream(buffer: int, left: float, top: float, right: float, bottom: float) -> bytes:
    """All the state there is to set, and a rectangle."""
    half = SIDE / 2
    return b"".join(
        (
            command(1, 11, 0, 0, 0xF << 27, 0, 0, 0, 0, 0, 0, 0, kind=1) + command(2, 11, kind=1),
            command(1, 12, 1 << 1 | 1 << 29, 0, 0, 0, 0, 0, 0, 0, kind=2) + command(2, 12, kind=2),
            command(1, 13, 0, 0, 0, 0, kind=3) + command(2, 13, kind=3),
            shader(14, 0, VERTEX_SHADER) + shader(15, 1, FRAGMENT_SHADER),
            command(1, 16, 0, 0, 0, R32G32B32A32_FLOAT, kind=5) + command(2, 16, kind=5),
            command(6, 16, 0, buffer),
            command(4, 0, half, half, 0.5, half, half, 0.5),
            rectangle(buffer, left, top, right, bottom),
        )
    )


def rectangle(buffer: int, left: float, top: float, right: float, bottom: float) -> bytes:
    """A red rectangle in normalized coordinates of which (-1, -1) is the picture's first pixel."""
    corners = ((left, top), (right, top), (left, bottom), (right, bottom))
    vertices = [value for x, y in corners for value in (x, y, 0.0, 1.0)]
    upload = command(9, buffer, 0, 0, 0, 0, 0, 0, 0, 64, 1, 1, *vertices)
    return upload + command(8, 0, 4, 5, 0, 1, 0, 0, 0, 0, 0, 3, 0)


class Renderer:
    """One open renderer, or none; what the events said is in ``fences`` and ``messages``."""

    def __init__(self) -> None:
        from backend import renderer
        from backend._virgl import ffi, lib

        renderer.ops_address()  # quiet from now on
        self.ffi, self.lib = ffi, lib
        self.ops = ffi.cast("const struct vg_renderer_ops *", lib.vg_virgl_ops())
        self.fences: list[tuple[int, int, int]] = []
        self.messages: list[str] = []
        self._kept: dict[int, tuple[Any, ...]] = {}
        self._made: set[int] = set()
        self._news = os.eventfd(0, os.EFD_NONBLOCK)
        self._events = ffi.new("struct vg_renderer_events *")
        self._callbacks = (
            ffi.callback("void(void *, uint32_t, uint32_t, uint64_t)", self._on_fence),
            ffi.callback("void(void *, const char *)", self._on_message),
        )
        self._events.fence_done, self._events.message = self._callbacks

    def _on_fence(self, _cookie: Any, ctx: int, ring: int, seq: int) -> None:
        self.fences.append((ctx, ring, seq))
        os.eventfd_write(self._news, 1)

    def _on_message(self, _cookie: Any, text: Any) -> None:
        self.messages.append(self.ffi.string(text).decode())

    def forget(self) -> None:
        """What was heard so far."""
        self.fences.clear()
        self.messages.clear()

    # ---- life

    def open(self, node: str | None = None) -> tuple[int, str]:
        why = self.ffi.new("char[]", 256)
        name = self.ffi.NULL if node is None else self.ffi.new("char[]", node.encode())
        rc = self.ops.open(name, self._events, why, 256)
        return rc, self.ffi.string(why).decode()

    def close(self) -> None:
        self.ops.close()

    def reset(self) -> None:
        self.ops.reset()
        self._kept.clear()
        self._made.clear()

    def poll_until(self, wanted: int) -> list[tuple[int, int, int]]:
        """Until so many fences are done; as the core does it: at once, then when there is news."""
        self.ops.poll()
        end = time.monotonic() + LIMIT
        while len(self.fences) < wanted:
            if self.ops.poll_fd() < 0:
                self.ops.wait(1_000_000)
            else:
                select.select([self.ops.poll_fd(), self._news], [], [], LIMIT)
            if time.monotonic() > end:
                raise TimeoutError(f"{self.fences} of {wanted}")
            self._hear()
        return self.fences

    def told(self) -> list[tuple[int, int, int]]:
        """The fences that are done, as far as anybody was told without asking."""
        return self.fences

    def quiet_for(self, seconds: float) -> bool:
        """Whether there is no news for so long, once what there was is heard."""
        self._hear()
        sources = [fd for fd in (self.ops.poll_fd(), self._news) if fd >= 0]
        return not select.select(sources, [], [], seconds)[0]

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._news)
        self.ops.poll()

    def heard(self) -> list[str]:
        return self.messages

    # ---- capability sets, contexts

    def capset(self, number: int) -> tuple[int, int, int]:
        version, size = self.ffi.new("uint32_t *"), self.ffi.new("uint32_t *")
        rc = self.ops.capset(number, version, size)
        return rc, version[0], size[0]

    def fill_capset(self, number: int, version: int) -> tuple[int, bytes]:
        """With a guard behind it, which has to stay."""
        size = self.capset(number)[2]
        out = self.ffi.from_buffer(bytearray(b"\xa5" * (size + 16)))
        rc = self.ops.fill_capset(number, version, out)
        data = bytes(self.ffi.buffer(out))
        assert data[size:] == b"\xa5" * 16
        return rc, data[:size]

    def ctx_create(self, ctx: int, context_init: int = 0, name: bytes = b"test") -> int:
        return int(self.ops.ctx_create(ctx, context_init, name, len(name)))

    def ctx_destroy(self, ctx: int) -> None:
        self.ops.ctx_destroy(ctx)

    def ctx_attach(self, ctx: int, resource: int) -> None:
        self.ops.ctx_attach(ctx, resource)

    def ctx_detach(self, ctx: int, resource: int) -> None:
        self.ops.ctx_detach(ctx, resource)

    def submit(self, ctx: int, stream: bytes) -> int:
        buffer = self.ffi.new("uint64_t[]", (len(stream) + 7) // 8 or 1)
        self.ffi.buffer(buffer)[: len(stream)] = stream
        return int(self.ops.submit(ctx, buffer, len(stream) // 4))

    def fence(self, ctx: int, ring: int, seq: int) -> int:
        return int(self.ops.fence(ctx, ring, seq))

    # ---- resources

    def _resource(self, id: int, **values: int) -> Any:
        return self.ffi.new("struct vg_renderer_resource *", {**plain(id), **values})

    def bytes(self, id: int = 1, **values: int) -> int:
        return int(self.ops.resource_bytes(self._resource(id, **values)))

    def create(self, id: int, **values: int) -> int:
        rc = int(self.ops.resource_create(self._resource(id, **values)))
        if rc == 0:
            self._made.add(id)
        return rc

    def unref(self, id: int) -> None:
        self.ops.resource_unref(id)
        self._kept.pop(id, None)
        self._made.discard(id)

    def unref_all(self) -> None:
        """And context 1, which most have."""
        for id in tuple(self._made):
            self.unref(id)
        self.ops.ctx_destroy(1)

    def attach(self, id: int, *sizes: int, fill: int = 0) -> int:
        """Backing of parts with these sizes, each byte ``fill``."""
        parts = [self.ffi.from_buffer(bytearray([fill]) * size) for size in sizes]
        iov = self.ffi.new("struct iovec[]", [(part, size) for part, size in zip(parts, sizes, strict=True)])
        rc = int(self.ops.attach_iov(id, iov, len(sizes)))
        if rc == 0:
            self._kept[id] = (iov, parts)
        return rc

    def detach(self, id: int) -> None:
        self.ops.detach_iov(id)
        self._kept.pop(id, None)

    def backing(self, id: int) -> bytes:
        return b"".join(bytes(self.ffi.buffer(part)) for part in self._kept[id][1])

    def set_backing(self, id: int, data: bytes) -> None:
        for part in self._kept[id][1]:
            size = len(part)
            self.ffi.buffer(part)[:] = data[:size]
            data = data[size:]

    def transfer(
        self,
        id: int,
        to_host: bool,
        box: tuple[int, int, int, int, int, int],
        *,
        ctx: int = 0,
        level: int = 0,
        stride: int = 0,
        layer_stride: int = 0,
        offset: int = 0,
    ) -> int:
        """``box``: x, y, z, width, height, depth."""
        where = self.ffi.new("struct vg_renderer_box *", box)
        return int(self.ops.transfer(id, ctx, to_host, level, stride, layer_stride, where, offset))

    def read_rect(self, id: int, x: int, y: int, width: int, height: int, stride: int = 0) -> tuple[int, bytes]:
        stride = stride or width * 4
        out = self.ffi.from_buffer(bytearray(b"\xa5" * min(stride * height, 1 << 26)))
        rc = int(self.ops.read_rect(id, x, y, width, height, out, stride))
        return rc, bytes(self.ffi.buffer(out))

    def write_rect(self, id: int, x: int, y: int, width: int, height: int, data: bytes, stride: int = 0) -> int:
        pixels = self.ffi.from_buffer(data)
        return int(self.ops.write_rect(id, x, y, width, height, pixels, stride or width * 4))


def plain(id: int) -> dict[str, int]:
    """A picture to render to, 64 x 64."""
    return {
        "id": id,
        "target": TEXTURE_2D,
        "format": B8G8R8A8,
        "bind": RENDER_TARGET | SAMPLER_VIEW,
        "width": SIDE,
        "height": SIDE,
        "depth": 1,
        "array_size": 1,
    }


class RemoteRenderer:
    """A ``Renderer`` in a process of its own; each of its methods is one here."""

    def __init__(self, **environment: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, environment), daemon=True)
        self._process.start()
        theirs.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(Renderer, name):
            raise AttributeError(name)

        def call(*arguments: Any, **named: Any) -> Any:
            self._pipe.send((name, arguments, named))
            if not self._pipe.poll(LIMIT):
                self._process.kill()
                raise TimeoutError(name)
            try:
                good, value = self._pipe.recv()
            except EOFError:
                self._process.join(LIMIT)
                raise AssertionError(f"the renderer's process died in {name}: {self._process.exitcode}") from None
            assert good, value
            return value

        return call

    def end(self) -> int | None:
        """Ends the process; its exit code."""
        self._pipe.close()
        self._process.join(LIMIT)
        if self._process.exitcode is None:
            self._process.kill()
        return self._process.exitcode


def serve(pipe: Connection, environment: dict[str, str]) -> None:
    """The process of a ``RemoteRenderer``."""
    os.environ.update(environment)
    renderer = Renderer()
    while True:
        try:
            name, arguments, named = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send((True, getattr(renderer, name)(*arguments, **named)))
        except Exception:
            pipe.send((False, traceback.format_exc()))
