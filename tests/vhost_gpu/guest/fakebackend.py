"""A back-end that records what a VMM sends and answers as told: for the order of messages and for misbehaviour."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from protocol.vhost_user import (
    U64,
    Config,
    Decoder,
    Message,
    Payload,
    ProtocolFeature,
    Request,
    VringFd,
    VringState,
    encode_reply,
)

OFFERED = 1 << 1 | 1 << 28 | 1 << 29 | 1 << 30 | 1 << 32
PROTOCOL = sum(
    1 << bit
    for bit in (
        ProtocolFeature.MQ,
        ProtocolFeature.REPLY_ACK,
        ProtocolFeature.BACKEND_REQ,
        ProtocolFeature.CONFIG,
        ProtocolFeature.RESET_DEVICE,
        ProtocolFeature.CONFIGURE_MEM_SLOTS,
    )
)
CONFIG_SPACE = bytes((0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0))


class FakeBackend:
    """``log``: names of the requests in order; ``messages``: the requests. ``bases``: what GET_VRING_BASE answers."""

    def __init__(self, *, features: int = OFFERED, protocol: int = PROTOCOL) -> None:
        self.features = features
        self.protocol = protocol
        self.log: list[str] = []
        self.messages: list[Message] = []
        self.bases = [0, 0]
        self.ack = 0
        self.override: dict[int, Callable[[Message], bytes | None]] = {}
        """Answers of a test's own: bytes to send, None to close."""
        self.vmm, self._sock = socket.socketpair()
        self._sock.setblocking(False)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> FakeBackend:
        self._task = asyncio.get_running_loop().create_task(self._serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.wait([self._task])
        self._sock.close()
        self.vmm.close()

    def hang_up(self) -> None:
        """Closes the connection."""
        self._sock.shutdown(socket.SHUT_RDWR)

    async def _serve(self) -> None:
        decoder = Decoder()
        while True:
            await self._readable()
            data, fds, _, _ = socket.recv_fds(self._sock, decoder.wants(), 8)
            if not data:
                return
            message = decoder.feed(data, fds)
            if message is not None and not await self._handle(message):
                self.hang_up()
                return

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_reader(self._sock, ready.set)
        try:
            await ready.wait()
        finally:
            loop.remove_reader(self._sock)

    async def _handle(self, message: Message) -> bool:
        self.messages.append(message)
        self.log.append(_label(message))
        for fd in message.fds:
            os.close(fd)
        answer = self.override.get(message.request, self._answer)(message)
        if answer:
            await asyncio.get_running_loop().sock_sendall(self._sock, answer)
        return answer is not None

    def _answer(self, message: Message) -> bytes:
        payload = self._payload(message)
        if payload is None and message.need_reply:
            payload = U64(self.ack)
        return b"" if payload is None else encode_reply(message.request, payload)

    def _payload(self, message: Message) -> Payload | None:
        match message.request, message.payload:
            case Request.GET_FEATURES, _:
                return U64(self.features)
            case Request.GET_PROTOCOL_FEATURES, _:
                return U64(self.protocol)
            case Request.GET_QUEUE_NUM, _:
                return U64(2)
            case Request.GET_MAX_MEM_SLOTS, _:
                return U64(509)
            case Request.GET_VRING_BASE, VringState(index, _):
                return VringState(index, self.bases[index])
            case Request.GET_CONFIG, Config(offset, size, flags, _):
                return Config(offset, size, flags, CONFIG_SPACE[offset : offset + size])
        return None


def _label(message: Message) -> str:
    """A request's name, with the queue's number where it has one: SET_VRING_CALL.1."""
    name = message.request.name if isinstance(message.request, Request) else str(message.request)
    if isinstance(message.payload, VringState | VringFd) or name == "SET_VRING_ADDR":
        return f"{name}.{message.payload.index}"  # type: ignore[attr-defined]
    return name
