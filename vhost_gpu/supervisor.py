"""The supervisor: accepts, starts one session process per VMM connection, routes viewers, watches and cleans up.

It parses nothing of a guest's, so it lives on whatever becomes of a session.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import uvloop

from vhost_gpu.listen import DISPLAY, VHOST_USER, Listener
from vhost_gpu.notify import Notifier
from vhost_gpu.options import Options
from vhost_gpu.sessions import Session
from vhost_gpu.spawn import SessionProcess, spawn
from vhost_gpu.viewers import ViewerRouter

ACCEPT_PAUSE = 1.0  # seconds without accepting after it failed: for want of descriptors or memory, mostly
_ACCEPT_BATCH = 16

_log = logging.getLogger("supervisor")


@dataclass
class Resources:
    """What startup opened before there was a loop. ``spare``: a session process that waits for its connection."""

    listeners: dict[str, Listener] = field(default_factory=dict)
    connection: socket.socket | None = None  # of --fd
    spare: SessionProcess | None = None

    def close(self) -> None:
        """Closes everything, removes socket paths, ends a spare that was never taken over; idempotent."""
        for listener in self.listeners.values():
            listener.close()
        if self.connection is not None:
            self.connection.close()
        if self.spare is not None:
            self.spare.control.close()
            self.spare.kill()
            self.spare.reap(wait=True)
            self.spare = None


class Supervisor:
    """Serves ``resources`` on the running loop until ``stop()``, or with ``--fd`` until that session ends."""

    def __init__(
        self, options: Options, resources: Resources, notifier: Notifier, session_command: Sequence[str]
    ) -> None:
        self._options = options
        self._resources = resources
        self._notifier = notifier
        self._session_command = session_command
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count(1)
        self._sessions: dict[str, Session] = {}  # started ones, oldest first
        self._spare: Session | None = None
        self._router = ViewerRouter(self.find_session)
        self._stopping = False
        self._done: asyncio.Future[int] = self._loop.create_future()
        self._watchdog: asyncio.TimerHandle | None = None

    async def serve(self) -> int:
        """The exit code of the daemon."""
        if self._resources.spare is not None:
            self._spare = self._new_session(self._resources.spare)
            self._resources.spare = None
        if self._resources.connection is not None:
            self._start_session(self._resources.connection)
        else:
            self._listen(VHOST_USER, self._start_session)
        self._listen(DISPLAY, self._router.add)
        self._notifier.ready(self._status())
        self._tick()
        return await self._done

    def stop(self) -> None:
        """Accepts nothing any more, ends the sessions, then ``serve`` returns; idempotent."""
        if self._stopping:
            return
        self._stopping = True
        self._notifier.stopping()
        self._stop_listening()
        self._router.close()
        for session in self._all_sessions():
            session.stop()
        self._finish_if_last(0)

    def find_session(self, name: str) -> Session | None:
        """The living session of this name, or the newest for the empty one."""
        if name:
            session = self._sessions.get(name)
            return session if session is not None and session.living else None
        return next((session for session in reversed(self._sessions.values()) if session.living), None)

    # ---- sockets

    def _listen(self, kind: str, accepted: Callable[[socket.socket], None]) -> None:
        listener = self._resources.listeners.get(kind)
        if listener is not None and not self._stopping:
            self._loop.add_reader(listener.sock, self._accept, kind, accepted)

    def _stop_listening(self) -> None:
        while self._resources.listeners:
            _, listener = self._resources.listeners.popitem()
            self._loop.remove_reader(listener.sock)
            listener.close()

    def _accept(self, kind: str, accepted: Callable[[socket.socket], None]) -> None:
        listener = self._resources.listeners[kind]
        for _ in range(_ACCEPT_BATCH):
            try:
                connection, _ = listener.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause_accepting(kind, accepted, error)
                return
            accepted(connection)

    def _pause_accepting(self, kind: str, accepted: Callable[[socket.socket], None], error: OSError) -> None:
        """The connection stays in the backlog and would wake us again at once."""
        _log.error("cannot accept a %s connection: %s", kind, error.strerror)
        self._loop.remove_reader(self._resources.listeners[kind].sock)
        self._loop.call_later(ACCEPT_PAUSE, self._listen, kind, accepted)

    # ---- sessions

    def _new_session(self, process: SessionProcess) -> Session:
        return Session(process, self._update_status, self._on_session_end)

    def _start_session(self, connection: socket.socket) -> None:
        """Serves one VMM connection in a process of its own; owns the connection."""
        with connection:
            session, self._spare = self._spare, None
            try:
                if session is None or not session.living:
                    session = self._new_session(spawn(self._session_command))
            except OSError as error:
                _log.error("cannot start a session process: %s", error)
                self._finish_if_last(1)
                return
            config = self._options.session_config(f"session-{next(self._numbers)}")
            session.start(config, connection)
            self._sessions[config.name] = session
        self._router.session_started()
        self._update_status()

    def _on_session_end(self, session: Session) -> None:
        if session is self._spare:
            self._spare = None
        self._sessions.pop(session.name, None)
        self._update_status()
        self._finish_if_last(1 if session.failed else 0)

    def _all_sessions(self) -> list[Session]:
        return list(self._sessions.values()) + ([self._spare] if self._spare is not None else [])

    def _finish_if_last(self, exit_code: int) -> None:
        """With ``--fd`` the daemon's life is its session's; when stopping, it waits for the last."""
        if self._stopping and not self._all_sessions():
            self._finish(0)
        elif self._resources.connection is not None and not self._sessions and not self._stopping:
            self._finish(exit_code)

    def _finish(self, exit_code: int) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
        self._stop_listening()
        self._router.close()
        if not self._done.done():
            self._done.set_result(exit_code)

    # ---- service manager

    def _tick(self) -> None:
        """The watchdog's turn: the only timer of an idle daemon, and only where systemd asked for it."""
        interval = self._notifier.watchdog_interval
        if interval is None:
            return
        for session in self._sessions.values():
            session.ping()
        if not any(session.overdue for session in self._sessions.values()):
            self._notifier.alive()
        self._watchdog = self._loop.call_later(interval, self._tick)

    def _update_status(self) -> None:
        if not self._stopping:
            self._notifier.status(self._status())

    def _status(self) -> str:
        viewers = sum(session.viewers for session in self._sessions.values()) + self._router.waiting
        return f"{_count(len(self._sessions), 'session')}, {_count(viewers, 'viewer')}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def run(options: Options, resources: Resources, notifier: Notifier, session_command: Sequence[str]) -> int:
    """Serves on a new uvloop loop until a signal or the end of the ``--fd`` session; returns the exit code.

    SIGTERM and SIGINT are expected to be blocked: they are let through once they are handled.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(options, resources, notifier, session_command))


async def _serve(options: Options, resources: Resources, notifier: Notifier, session_command: Sequence[str]) -> int:
    supervisor = Supervisor(options, resources, notifier, session_command)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    return await supervisor.serve()
