"""The supervisor's side of one session process: its life, what it holds for it, whether it still answers."""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import socket
from collections.abc import Callable

from protocol.errors import PeerError
from vhost_gpu.control import ControlChannel, Message, SessionConfig, StateStore, close_fds, field, known_key
from vhost_gpu.spawn import SessionProcess

PING_TIMEOUT = 5.0  # seconds a started session may take to answer
START_TIMEOUT = 30.0  # seconds from ``start`` to ``ready``: a loaded host, a cold disk
EXIT_TIMEOUT = 3.0  # seconds from ``stop``, or from a closed control channel, to the end of the process
MAX_HELD = 1024  # descriptors of one session, 509 memory regions among them
MAX_VIEWERS = 1000  # what is believed of a session's own count

_tokens = itertools.count(1)


class HeldDescriptors:
    """Descriptors that outlive the session process, by key. Owned here."""

    def __init__(self) -> None:
        self._fds: dict[str, list[int]] = {}

    def accept(self, message: Message, fds: list[int]) -> None:
        """Takes one ``hold`` message and its descriptors; raises ``PeerError`` (they are closed then)."""
        try:
            key = known_key(message)
            more = message.get("more", False) is True
            before = 0 if more else len(self._fds.get(key, []))
            if len(self) - before + len(fds) > MAX_HELD:
                raise PeerError("holds too many descriptors")
        except PeerError:
            close_fds(fds)
            raise
        if not more:
            close_fds(self._fds.pop(key, []))
        if fds:
            self._fds.setdefault(key, []).extend(fds)

    def __len__(self) -> int:
        return sum(len(fds) for fds in self._fds.values())

    def sizes(self) -> dict[str, int]:
        """Descriptors per key."""
        return {key: len(fds) for key, fds in self._fds.items()}

    def close(self) -> None:
        for fds in self._fds.values():
            close_fds(fds)
        self._fds.clear()


class Session:
    """One session process, spare until ``start``.

    ``on_change`` is called when its number of viewers may have changed, ``on_end(session)`` once, when the process has
    been reaped and everything that was held for it is closed.
    """

    def __init__(
        self, process: SessionProcess, on_change: Callable[[], None], on_end: Callable[[Session], None]
    ) -> None:
        self.name = "spare session"
        self.viewers = 0
        self.state = StateStore()
        self.held = HeldDescriptors()
        self.exit_code: int | None = None
        self.ready = False
        self._log = logging.getLogger(self.name)
        self._loop = asyncio.get_running_loop()
        self._process = process
        self._on_change = on_change
        self._on_end = on_end
        self._ended_reason: str | None = None
        self._verdict: str | None = None  # why we killed it
        self._ping_token: int | None = None
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._spare = True
        self._handlers: dict[str, Callable[[Message, list[int]], None]] = {
            "ready": self._on_ready,
            "pong": self._on_pong,
            "hold": self.held.accept,
            "state": self._on_state,
            "viewers": self._on_viewers,
            "ended": self._on_ended,
        }
        self._channel = ControlChannel(process.control, self._on_message, self._on_channel_closed)
        self._loop.add_reader(process.pidfd, self._on_exit)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def living(self) -> bool:
        """Whether a viewer may be routed to it."""
        if self.exit_code is not None or self._verdict is not None or self._channel.closed:
            return False
        return not self._process.ended  # its death may not have come to the loop yet

    @property
    def overdue(self) -> bool:
        """Whether it was killed for not answering and is still there."""
        return self.exit_code is None and self._verdict is not None

    def start(self, config: SessionConfig, connection: socket.socket) -> None:
        """Gives it its VMM connection; the caller closes its own end of the descriptor."""
        self._spare = False
        self.name = config.name
        self._log = logging.getLogger(self.name)
        self._channel.send_start(config, connection.fileno())
        self._log.info("started, process %d", self.pid)
        if not self.ready:
            self._set_deadline("start", START_TIMEOUT, "did not start in time")

    def add_viewer(self, hello: bytes, connection: socket.socket) -> None:
        """Passes a viewer on; the caller closes its own end of the descriptor."""
        self._channel.send_viewer(hello, connection.fileno())
        self.ping()

    def ping(self) -> None:
        """Asks for a sign of life; a session that gives none in time is killed. One question at a time."""
        if self.living and self.ready and self._ping_token is None:
            self._ping_token = next(_tokens)
            self._channel.send_ping(self._ping_token)
            self._set_deadline("ping", PING_TIMEOUT, "does not answer")

    def stop(self) -> None:
        """Asks it to end; kills it when it takes too long. A spare one holds nothing and is killed at once."""
        if self._spare:
            self.kill("not needed")
        elif self.living:
            self._channel.send_stop()
            self._set_deadline("exit", EXIT_TIMEOUT, "did not stop in time")

    def kill(self, verdict: str) -> None:
        """Ends it with SIGKILL; ``verdict`` is what the log says."""
        if self.exit_code is None:
            self._verdict = self._verdict or verdict
            self._process.kill()

    def _set_deadline(self, name: str, seconds: float, verdict: str) -> None:
        self._clear_deadline(name)
        self._deadlines[name] = self._loop.call_later(seconds, self.kill, verdict)

    def _clear_deadline(self, name: str) -> None:
        deadline = self._deadlines.pop(name, None)
        if deadline is not None:
            deadline.cancel()

    # ---- messages

    def _on_message(self, message: Message, fds: list[int]) -> None:
        handler = self._handlers.get(message["type"])
        if handler is None or (fds and message["type"] != "hold"):
            close_fds(fds)
            raise PeerError(f"unexpected control message {message['type'][:32]!r} with {len(fds)} descriptors")
        handler(message, fds)

    def _on_ready(self, _message: Message, _fds: list[int]) -> None:
        self.ready = True
        self._clear_deadline("start")

    def _on_pong(self, message: Message, _fds: list[int]) -> None:
        if field(message, "token", int) == self._ping_token:
            self._ping_token = None
            self._clear_deadline("ping")

    def _on_state(self, message: Message, _fds: list[int]) -> None:
        self.state.accept(message)

    def _on_viewers(self, message: Message, _fds: list[int]) -> None:
        self.viewers = min(max(0, field(message, "count", int)), MAX_VIEWERS)
        self._on_change()

    def _on_ended(self, message: Message, _fds: list[int]) -> None:
        self._ended_reason = field(message, "reason", str)[:512]

    # ---- the end

    def _on_channel_closed(self, error: Exception | None) -> None:
        if error is not None:
            self.kill(f"broke the control channel: {error}")
        elif self.exit_code is None:
            # EOF: it is on its way out, or gone already and about to be reaped.
            self._set_deadline("exit", EXIT_TIMEOUT, "closed its control channel and stayed")

    def _on_exit(self) -> None:
        exit_code = self._process.reap()
        if exit_code is None:
            return
        self._loop.remove_reader(self._process.pidfd)
        self.exit_code = exit_code
        for name in list(self._deadlines):
            self._clear_deadline(name)
        self._channel.drain()
        self._log_end()
        self.held.close()
        self.viewers = 0
        self._on_end(self)

    @property
    def failed(self) -> bool:
        """Whether it ended in another way than by its own decision or ours."""
        return self.exit_code != 0

    def _log_end(self) -> None:
        if self._spare and self._verdict is not None:
            return
        if self.exit_code == 0 and self._verdict is None:
            self._log.info("ended: %s", self._ended_reason or "no reason given")
            return
        why = self._verdict or self._ended_reason
        details = f" ({why})" if why else ""
        self._log.error("%s%s; %s", describe_exit(self.exit_code), details, self._summary())

    def _summary(self) -> str:
        held = ", ".join(f"{key} {count}" for key, count in self.held.sizes().items()) or "nothing"
        described = ", ".join(f"{key} {size} B" for key, size in self.state.sizes().items()) or "nothing"
        return f"held descriptors: {held}; described state: {described}"


def describe_exit(exit_code: int | None) -> str:
    """An exit code, or a negative signal number, in words."""
    if exit_code is not None and exit_code < 0:
        try:
            return f"killed by {signal.Signals(-exit_code).name}"
        except ValueError:
            return f"killed by signal {-exit_code}"
    return f"exited with code {exit_code}"
