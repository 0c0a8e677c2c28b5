"""A device with the fake renderer, the guest's side of its rings, and the event loop's side of its render thread."""

import os
import select
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from backend._core import ffi, lib
from tests.backend.fake_renderer import fake
from tests.backend.fake_renderer import ffi as fake_ffi
from tests.backend.ringkit import FEATURES, FLAG_FENCE, FLAG_RING_IDX, Chain, Kit, Ring, header

LIMIT = 10.0
ERR_INVALID_CONTEXT_ID = 0x1204
MESSAGE, CONTEXT_ERROR, QUEUE_BROKEN, LOST = 1, 2, 3, 4
B8G8R8A8 = 1


def ops_address() -> int:
    """The fake renderer's table, at its defaults."""
    return int(fake_ffi.cast("uintptr_t", fake.fake_ops()))


def fence(number: int, ctx: int = 0, ring: int | None = None) -> dict[str, int]:
    """What a header with a fence has."""
    flags = FLAG_FENCE if ring is None else FLAG_FENCE | FLAG_RING_IDX
    return {"flags": flags, "fence_id": number, "ctx_id": ctx, "ring_idx": ring or 0}


def ctx_create(ctx: int, name: bytes = b"test", init: int = 0, **fence: int) -> bytes:
    return header(0x200, **{"ctx_id": ctx} | fence) + struct.pack("<II64s", len(name), init, name)


def ctx_destroy(ctx: int, **fence: int) -> bytes:
    return header(0x201, **{"ctx_id": ctx} | fence)


def ctx_attach(ctx: int, resource: int) -> bytes:
    return header(0x202, ctx_id=ctx) + struct.pack("<II", resource, 0)


def ctx_detach(ctx: int, resource: int) -> bytes:
    return header(0x203, ctx_id=ctx) + struct.pack("<II", resource, 0)


def create_3d(resource: int, width: int, height: int, format_: int = B8G8R8A8, target: int = 2, **more: int) -> bytes:
    values = {"bind": 2, "depth": 1, "array_size": 1, "last_level": 0, "nr_samples": 0, "flags": 0} | more
    fields = (resource, target, format_, values["bind"], width, height, values["depth"], values["array_size"])
    return header(0x204) + struct.pack("<12I", *fields, values["last_level"], values["nr_samples"], values["flags"], 0)


def transfer_3d(
    resource: int, width: int, height: int, *, to_host: bool = True, ctx: int = 0, offset: int = 0, **fence: int
) -> bytes:
    head = header(0x205 if to_host else 0x206, **{"ctx_id": ctx} | fence)
    return head + struct.pack("<6IQ4I", 0, 0, 0, width, height, 1, offset, resource, 0, 0, 0)


def submit(ctx: int, stream: bytes = b"", size: int | None = None, **fence: int) -> bytes:
    """size: what the command claims, when it is not the stream's."""
    head = header(0x207, **{"ctx_id": ctx} | fence)
    return head + struct.pack("<II", len(stream) if size is None else size, 0) + stream


def fill(resource: int, pixel: int, count: int = 1 << 30) -> bytes:
    """The stream by which the fake renderer paints."""
    return struct.pack("<III", resource, pixel, count)


def unref(resource: int, **fence: int) -> bytes:
    return header(0x102, **fence) + struct.pack("<II", resource, 0)


def detach_backing(resource: int) -> bytes:
    return header(0x107) + struct.pack("<II", resource, 0)


class RenderKit(Kit):
    """Both queues run, the renderer is open, the render thread goes on; the loop's part is done by hand."""

    def __init__(
        self, *, poll_fd: bool = False, wait: bool = False, hold: bool = False, resume: bool = True, **options: Any
    ) -> None:
        super().__init__(**options)
        ops = ops_address()
        fake.fake_use_poll_fd(poll_fd)
        fake.fake_hold_fences(hold)
        if wait:
            fake.fake_use_wait()
        why = ffi.new("char[]", 100)
        assert lib.vg_render_start(self.core, ffi.cast("void *", ops), ffi.NULL, why, 100) == 0, ffi.string(why)
        lib.vg_render_set_rest(self.core, 0, 0)
        self.news = lib.vg_render_news_fd(self.core)
        self.events: list[tuple[int, int, str]] = []
        self.request = ffi.new("vg_request *")
        self._start = self.next
        if resume:
            lib.vg_render_resume(self.core)

    def __exit__(self, *arguments: Any) -> None:
        fake.fake_release()
        super().__exit__(*arguments)

    # -- the loop

    def serve_news(self) -> None:
        lib.vg_render_clear_news(self.core)
        event = ffi.new("vg_render_event *")
        while lib.vg_render_take_event(self.core, event):
            self.events.append((event.kind, event.ctx_id, ffi.string(event.text).decode()))

    def wait(self, condition: Callable[[], Any], *fds: int) -> None:
        """Returns when the condition holds; looks at news, and whenever one of the descriptors is readable."""
        until = time.monotonic() + LIMIT
        while not condition():
            left = until - time.monotonic()
            assert left > 0, f"in vain; calls: {self.calls()[-8:]}"
            readable, _, _ = select.select([self.news, *fds], [], [], left)
            if self.news in readable:
                self.serve_news()
            for fd in fds:
                if fd in readable:
                    os.eventfd_read(fd)

    def wait_request(self) -> int:
        """Waits for a command for the loop and takes it. Its type."""
        self.wait(lambda: lib.vg_render_take_request(self.core, self.request))
        return self.request.type

    def complete_request(self, type_: int, payload: bytes = b"") -> None:
        """Answers the command that was taken."""
        lib.vg_request_complete(self.core, self.request, type_, payload, len(payload))
        lib.vg_queue_notify(self.core, 0)

    def resume(self) -> None:
        lib.vg_render_resume(self.core)

    def reset(self) -> None:
        lib.vg_device_reset(self.core)

    # -- the guest

    def post(self, *requests: bytes, reply: int = 24) -> list[Chain]:
        """Puts commands into the control ring and kicks once."""
        chains = [self.control.send(request, reply) for request in requests]
        os.eventfd_write(self.control.kick, 1)
        return chains

    def collect(self, count: int, ring: Ring | None = None) -> list[int]:
        """Waits for so many chains; their ids in the order in which they came back."""
        ring = ring or self.control
        back: list[int] = []

        def came() -> bool:
            while taken := ring.take_used():
                back.extend(id_ for id_, _ in taken)
                ring.ask_call()  # then look again: some may have come just before
            return len(back) >= count

        ring.ask_call()

        self.wait(came, ring.call)
        assert len(back) == count
        return back

    def none_comes(self) -> bool:
        """Whether nothing has come back when the thread has served everything that it could."""
        self.settle_down()
        return not self.control.take_used()

    def settle_down(self) -> None:
        """Returns when the thread has taken every command, or has handed one over, and is done with it."""
        until = time.monotonic() + LIMIT
        while self.request.chain == ffi.NULL and (self.control.info().base ^ self.control.base()) & 0xFFFF:
            assert time.monotonic() < until, f"in vain; calls: {self.calls()[-8:]}"
            os.sched_yield()
        lib.vg_render_pause(self.core, 0)
        lib.vg_render_resume(self.core)

    def wait_call(self) -> None:
        """Waits for an interrupt, asked for before."""
        readable, _, _ = select.select([self.control.call], [], [], LIMIT)
        assert readable

    def do(self, *requests: bytes, reply: int = 24) -> list[int]:
        """Sends commands one after another; the types of the responses."""
        types = []
        for request in requests:
            (chain,) = self.post(request, reply=reply)
            self.collect(1)
            types.append(struct.unpack_from("<I", self.reply(chain))[0])
        return types

    def do_at_once(self, *requests: bytes) -> list[int]:
        """Sends commands all together; the types of the responses, in the order of the requests."""
        chains = self.post(*requests)
        self.collect(len(chains))
        return [self.type_of(chain) for chain in chains]

    def start_of_requests(self) -> int:
        """Where commands may be put again, when none is out: set ``next`` to it."""
        return self._start

    def reply(self, chain: Chain) -> bytes:
        return self.control.reply(chain)

    def type_of(self, chain: Chain) -> int:
        return struct.unpack_from("<I", self.reply(chain))[0]

    def move_cursor(self, request: bytes) -> None:
        """A command in the cursor queue, served as the loop does."""
        self.cursor.send(request, 0)
        os.eventfd_write(self.cursor.kick, 1)
        self.cursor.drain()

    # -- the renderer

    @staticmethod
    def calls(name: str = "") -> list[str]:
        """Calls of the renderer so far, but the eternal poll."""
        lines = (fake_ffi.string(fake.fake_call(i)).decode() for i in range(fake.fake_num_calls()))
        return [line for line in lines if line.split()[0] != "poll" and line.startswith(name)]

    @staticmethod
    def pixels(resource: int, count: int) -> bytes:
        return bytes(fake_ffi.buffer(fake.fake_pixels(resource), count * 4))

    @staticmethod
    def retire(seq: int, ctx: int = 0, ring: int = 0, *, at_once: bool = False) -> None:
        fake.fake_retire(ctx, ring, seq, at_once)

    @contextmanager
    def hanging(self, name: str) -> Iterator[None]:
        """Inside, the next call of this name hangs."""
        fake.fake_hang(name.encode())
        try:
            yield
        finally:
            fake.fake_release()

    def wait_hanging(self) -> None:
        assert fake.fake_wait_hanging(int(LIMIT)) == 0


def with_features(features: int) -> int:
    return FEATURES | features
