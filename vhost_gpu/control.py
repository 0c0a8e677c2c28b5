"""The control channel between the supervisor and a session process (docs/architecture.md lists the messages).

One end of a ``SOCK_SEQPACKET`` socketpair. Each packet is one JSON object with a ``type``, and may carry descriptors.
Neither side trusts the other's packets: a session may have been taken over by its guest, so whatever is malformed
raises ``PeerError``, which closes the channel and never reaches the event loop.
"""

from __future__ import annotations

import array
import base64
import contextlib
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from protocol.errors import PeerError

if TYPE_CHECKING:
    import asyncio

Message = dict[str, Any]

MAX_PACKET = 256 * 1024
MAX_FDS = 253  # SCM_MAX_FD of Linux: the most descriptors in one packet
MAX_STATE_PARTS = 16
# What may wait for a peer that does not read. More than this is a peer that hangs, and a bug to be seen.
MAX_QUEUED_BYTES = 32 * 1024 * 1024

KEYS = frozenset({"memory", "queue.0", "queue.1", "display", "backend_req", "resources", "scanouts"})

_Field = TypeVar("_Field")


def socketpair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, both close-on-exec."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def field(message: Message, name: str, kind: type[_Field]) -> _Field:
    """``message[name]`` when it is exactly of this type (a bool is no int); raises ``PeerError``."""
    value = message.get(name)
    if type(value) is not kind:
        raise PeerError(f"control message {str(message.get('type'))[:32]!r}: bad field {name!r}")
    return value


@dataclass(frozen=True)
class _Packet:
    data: bytes
    fds: tuple[int, ...]  # our duplicates
    supersede: str | None


class ControlChannel:
    """One end of the channel on the running event loop.

    ``on_message(message, fds)`` gets every packet in order and owns the descriptors (close-on-exec). It may raise
    ``PeerError``. ``on_closed(error)`` is called once, from the loop: ``None`` for the peer's EOF, else why this end
    gave up; it isn't called after ``close()``. The channel owns the socket.
    """

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[Message, list[int]], None],
        on_closed: Callable[[Exception | None], None],
    ) -> None:
        import asyncio  # not above: the daemon starts its first session before it pays for this

        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._sock = sock
        self._on_message = on_message
        self._on_closed = on_closed
        self._queue: deque[_Packet] = deque()
        self._queued_bytes = 0
        self._closed = False
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_PACKET)
        # The kernel may grant less than asked (net.core.wmem_max); a packet must fit with its bookkeeping.
        self.max_packet = min(MAX_PACKET, sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 4096)
        self._loop.add_reader(sock, self._readable)

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def queued(self) -> int:
        """Packets that wait for the peer to read."""
        return len(self._queue)

    def send(self, message: Message, fds: Sequence[int] = (), supersede: str | None = None) -> None:
        """Sends or queues one packet; never blocks. The descriptors are duplicated, the caller keeps its own.

        ``supersede`` names what the packet is about: queued packets with the same name are dropped first. Raises
        ``ValueError`` when the packet is too large; does nothing on a closed channel.
        """
        if self._closed:
            return
        data = _encode(message)
        if len(data) > self.max_packet or len(fds) > MAX_FDS:
            raise ValueError(f"control message too large: {len(data)} bytes, {len(fds)} descriptors")
        if supersede is not None:
            self._drop_queued(supersede)
        if not self._queue and self._try_send(data, fds):
            return
        if self._closed:
            return
        self._enqueue(_Packet(data, tuple(os.dup(fd) for fd in fds), supersede))

    def close(self) -> None:
        """Closes the socket and what is queued; idempotent, no callback."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        for packet in self._queue:
            close_fds(packet.fds)
        self._queue.clear()

    # ---- typed messages: supervisor -> session

    def send_start(self, config: SessionConfig, connection: int) -> None:
        """``connection``: the descriptor of the vhost-user connection."""
        self.send({"type": "start", **config.to_fields()}, [connection])

    def send_viewer(self, hello: bytes, connection: int) -> None:
        """``hello``: the viewer's first packet, already read; ``connection``: the viewer's descriptor."""
        self.send({"type": "viewer", "hello": base64.b64encode(hello).decode("ascii")}, [connection])

    def send_ping(self, token: int) -> None:
        self.send({"type": "ping", "token": token})

    def send_stop(self) -> None:
        self.send({"type": "stop"})

    # ---- typed messages: session -> supervisor

    def send_ready(self) -> None:
        self.send({"type": "ready"})

    def send_pong(self, token: int) -> None:
        self.send({"type": "pong", "token": token})

    def send_viewers(self, count: int) -> None:
        """How many viewers the session has now, for the daemon's status text."""
        self.send({"type": "viewers", "count": count}, supersede="viewers")

    def send_ended(self, reason: str) -> None:
        self.send({"type": "ended", "reason": reason[:512]})

    def send_hold(self, key: str, fds: Sequence[int]) -> None:
        """Has the supervisor keep exactly ``fds`` under ``key`` (any number; none: let go)."""
        name = f"hold {key}"
        self.send({"type": "hold", "key": key}, fds[:MAX_FDS], supersede=name)
        for start in range(MAX_FDS, len(fds), MAX_FDS):
            self._send_more(name, {"type": "hold", "key": key, "more": True}, fds[start : start + MAX_FDS])

    def send_state(self, key: str, value: object) -> None:
        """Describes one part of the session; ``value`` is JSON. A large one goes in parts, the newest wins."""
        name = f"state {key}"
        text = json.dumps(value, separators=(",", ":"))
        if len(text) < self.max_packet - 1024:
            self.send({"type": "state", "key": key, "value": value}, supersede=name)
            return
        size = self.max_packet // 3  # quoting a JSON text as a JSON string at most doubles it
        parts = [text[start : start + size] for start in range(0, len(text), size)]
        if len(parts) > MAX_STATE_PARTS:
            raise ValueError(f"state {key!r} is too large: {len(text)} bytes")
        self._drop_queued(name)
        for index, part in enumerate(parts):
            message = {"type": "state", "key": key, "part": index, "parts": len(parts), "text": part}
            self._send_more(name, message, ())

    # ---- inside

    def drain(self) -> None:
        """Handles what the peer, which is known to be dead, had still sent; the channel is closed afterwards."""
        while not self._closed:
            self._readable(drained=True)

    def _send_more(self, name: str, message: Message, fds: Sequence[int]) -> None:
        """Sends a further packet of one subject: queued packets of that subject stay."""
        if self._closed:
            return
        data = _encode(message)
        if self._queue or not self._try_send(data, fds):
            self._enqueue(_Packet(data, tuple(os.dup(fd) for fd in fds), name))

    def _enqueue(self, packet: _Packet) -> None:
        if self._closed:
            close_fds(packet.fds)
            return
        self._queue.append(packet)
        self._queued_bytes += len(packet.data)
        if self._queued_bytes > MAX_QUEUED_BYTES:
            self._fail(PeerError("the other end of the control channel does not read"))
        elif len(self._queue) == 1:
            self._loop.add_writer(self._sock, self._writable)

    def _drop_queued(self, name: str) -> None:
        kept: deque[_Packet] = deque()
        for packet in self._queue:
            if packet.supersede == name:
                self._queued_bytes -= len(packet.data)
                close_fds(packet.fds)
            else:
                kept.append(packet)
        if self._queue and not kept:
            self._loop.remove_writer(self._sock)
        self._queue = kept

    def _try_send(self, data: bytes, fds: Sequence[int]) -> bool:
        """False when the socket is full or gone."""
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
        except (BlockingIOError, InterruptedError):
            return False
        except (BrokenPipeError, ConnectionResetError):
            # The EOF comes through the reader, after what the peer sent before it went.
            return True
        except OSError as error:
            self._fail(error)
            return False
        return True

    def _writable(self) -> None:
        while self._queue and self._try_send(self._queue[0].data, self._queue[0].fds):
            packet = self._queue.popleft()
            self._queued_bytes -= len(packet.data)
            close_fds(packet.fds)
        if not self._queue and not self._closed:
            self._loop.remove_writer(self._sock)

    def _readable(self, drained: bool = False) -> None:
        try:
            received = _receive(self._sock)
            if received is None:
                self._fail(None)
                return
            message, fds = received
            self._on_message(message, fds)
        except (BlockingIOError, InterruptedError):
            if drained:  # somebody else still has the peer's end: what isn't here yet doesn't count
                self.close()
        except ConnectionResetError:
            # The peer closed with something of ours unread. The kernel says so once; then comes what the peer had
            # sent before, and the end. uvloop watches a socket with an error no longer: read on here.
            while not self._closed:
                self._readable()
        except (PeerError, OSError) as error:
            self._fail(error)

    def _fail(self, error: Exception | None) -> None:
        if not self._closed:
            self.close()
            # Later, so that a send() deep inside a caller does not find its own state torn down under it.
            self._loop.call_soon(self._on_closed, error)


def _encode(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def _receive(sock: socket.socket) -> tuple[Message, list[int]] | None:
    """One packet, ``None`` at EOF; raises ``BlockingIOError``, ``PeerError`` (no descriptor is left open then)."""
    room = socket.CMSG_SPACE(MAX_FDS * 4)
    data, ancillary, flags, _ = sock.recvmsg(MAX_PACKET, room, socket.MSG_CMSG_CLOEXEC)
    fds = list(_received_fds(ancillary))
    if not data and not fds:
        return None
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise PeerError("control message truncated")
        return decode(data), fds
    except PeerError:
        close_fds(fds)
        raise


def _received_fds(ancillary: list[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds = array.array("i")
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
            yield from fds


def decode(data: bytes) -> Message:
    """A packet's JSON object, which has a string ``type``; raises ``PeerError`` for anything else."""
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise PeerError("control message is not JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise PeerError("control message has no type")
    return message


def decode_hello(message: Message) -> bytes:
    """The viewer's first packet out of a ``viewer`` message; raises ``PeerError``."""
    try:
        return base64.b64decode(field(message, "hello", str), validate=True)
    except ValueError as error:
        raise PeerError("control message 'viewer': bad base64") from error


def close_fds(fds: Sequence[int]) -> None:
    """Closes descriptors, whatever each close says."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)


@dataclass(frozen=True)
class SessionConfig:
    """What a session is told by ``start``."""

    name: str
    max_outputs: int  # 1..16
    resolution: tuple[int, int]  # width, height in pixels
    max_hostmem: int  # bytes
    poll_us: int  # microseconds
    log_level: str  # debug, info, warning, error
    log_format: str = "auto"  # auto, text, journal
    virgl: bool = False  # 3D through virglrenderer
    render_node: str | None = None  # of the GPU that renders; None: the first that works, else software
    trace: str | None = None  # a file for every command; {name} in it is the session's

    def to_fields(self) -> Message:
        return {
            "name": self.name,
            "max_outputs": self.max_outputs,
            "resolution": list(self.resolution),
            "max_hostmem": self.max_hostmem,
            "poll_us": self.poll_us,
            "log_level": self.log_level,
            "log_format": self.log_format,
            "virgl": self.virgl,
            "render_node": self.render_node,
            "trace": self.trace,
        }

    @classmethod
    def from_message(cls, message: Message) -> SessionConfig:
        """Raises ``PeerError``."""
        resolution = field(message, "resolution", list)
        if len(resolution) != 2 or not all(type(side) is int for side in resolution):
            raise PeerError("control message 'start': bad field 'resolution'")
        return cls(
            name=field(message, "name", str),
            max_outputs=field(message, "max_outputs", int),
            resolution=(resolution[0], resolution[1]),
            max_hostmem=field(message, "max_hostmem", int),
            poll_us=field(message, "poll_us", int),
            log_level=field(message, "log_level", str),
            log_format=field(message, "log_format", str),
            virgl=field(message, "virgl", bool),
            render_node=None if message.get("render_node") is None else field(message, "render_node", str),
            trace=None if message.get("trace") is None else field(message, "trace", str),
        )


class StateStore:
    """The newest description of each part of a session, as JSON texts, put together from ``state`` messages."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._parts: dict[str, list[str]] = {}

    def accept(self, message: Message) -> str:
        """Takes one ``state`` message and returns its key; raises ``PeerError``."""
        key = known_key(message)
        if "parts" not in message:
            self._texts[key] = json.dumps(message.get("value"), separators=(",", ":"))
            self._parts.pop(key, None)
            return key
        index, count = field(message, "part", int), field(message, "parts", int)
        # A newer description may begin while the older one's parts are still missing: part 0 starts afresh.
        parts = [] if index == 0 else self._parts.get(key, [])
        if not 0 < count <= MAX_STATE_PARTS or index != len(parts) or index >= count:
            raise PeerError(f"control message 'state': part {index} of {count} out of place")
        parts.append(field(message, "text", str))
        self._parts[key] = parts
        if len(parts) == count:
            self._texts[key] = "".join(self._parts.pop(key))
        return key

    def describe(self) -> dict[str, Any]:
        """The parts by key; one that isn't JSON after all is left out."""
        described = {}
        for key, text in self._texts.items():
            with contextlib.suppress(ValueError, RecursionError):
                described[key] = json.loads(text)
        return described

    def sizes(self) -> dict[str, int]:
        """Characters per key, for the log."""
        return {key: len(text) for key, text in self._texts.items()}


def known_key(message: Message) -> str:
    """The ``key`` of a ``hold`` or ``state`` message; raises ``PeerError`` for one outside ``KEYS``."""
    key = field(message, "key", str)
    if key not in KEYS:
        raise PeerError(f"control message {message['type']!r}: unknown key")
    return key
