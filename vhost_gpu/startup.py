"""The daemon's start, in the order that answers a VMM soonest.

Sockets first, then the first session process, and only then the supervisor's own event loop: both processes import
their parts at the same time. Nothing here imports asyncio.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import signal
from collections.abc import Sequence

from protocol.errors import ConfigError
from vhost_gpu import listen, log, no_tls
from vhost_gpu.listen import DISPLAY, VHOST_USER, Listener
from vhost_gpu.notify import Notifier
from vhost_gpu.options import Options
from vhost_gpu.spawn import SessionProcess, seal_descriptors, session_command, spawn

_log = logging.getLogger("supervisor")


def serve(options: Options, command: Sequence[str] | None = None) -> int:
    """Runs the daemon and returns its exit code; raises ``ConfigError``. ``command``: the program of a session."""
    command = session_command() if command is None else command
    # A signal that comes before the loop can handle it waits, so that sockets never stay behind.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    seal_descriptors()
    raise_descriptor_limit()
    listeners: dict[str, Listener] = {}
    spare: SessionProcess | None = None
    try:
        check_renderer(options)
        check_trace(options)
        connection = None if options.fd is None else listen.connection(options.fd)
        log.setup(options.log_level, options.log_format)
        open_listeners(options, listeners)
        spare = spawn(command)
        log_listeners(listeners)
        notifier = Notifier()

        no_tls.install()
        from vhost_gpu import supervisor  # here, and not above: it takes as long as the session's own start

        resources = supervisor.Resources(listeners, connection, spare)
        spare = None
        try:
            return supervisor.run(options, resources, notifier, command)
        finally:
            resources.close()
            notifier.close()
    finally:
        for listener in listeners.values():
            listener.close()
        if spare is not None:
            spare.kill()
            spare.reap(wait=True)
        log.teardown()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def check_renderer(options: Options) -> None:
    """Raises ``ConfigError`` when 3D is asked for that can't be had here. Opening it is each session's own business."""
    if not options.virgl and options.render_node is None:
        return
    from backend import renderer

    if options.virgl:
        renderer.check()
    if options.render_node is not None:
        renderer.check_node(options.render_node)


def check_trace(options: Options) -> None:
    """Raises ``ConfigError`` when sessions could not make the trace's file."""
    if options.trace is None:
        return
    folder = os.path.dirname(os.path.abspath(options.trace))
    if os.path.isdir(options.trace) or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"--trace: no file can be made at {options.trace}")


def open_listeners(options: Options, listeners: dict[str, Listener]) -> None:
    """Fills ``listeners`` with the sockets that options and environment ask for; raises ``ConfigError``."""
    inherited = listen.inherited()
    listeners.update(inherited)
    if VHOST_USER in inherited and (options.socket_path is not None or options.fd is not None):
        raise ConfigError("a vhost-user socket is passed by socket activation, and another one by the command line")
    if options.socket_path is None and options.fd is None and VHOST_USER not in inherited:
        raise ConfigError("one of --socket-path, --fd or socket activation is needed")
    if options.socket_path is not None:
        listeners[VHOST_USER] = listen.bind(VHOST_USER, options.socket_path)
    if DISPLAY not in inherited:
        _open_display(options, listeners)


def _open_display(options: Options, listeners: dict[str, Listener]) -> None:
    if options.display_socket is not None:
        listeners[DISPLAY] = listen.bind(DISPLAY, options.display_socket)
    elif options.socket_path is not None:
        listeners[DISPLAY] = listen.bind(DISPLAY, listen.display_path_beside(options.socket_path))
    elif options.fd is not None:
        try:
            listeners[DISPLAY] = listen.bind(DISPLAY, listen.runtime_display_path())
        except ConfigError as error:
            # The management layer may run us where there is no such place: the guest has its display all the same.
            _log.warning("no viewers: %s", error)


def log_listeners(listeners: dict[str, Listener]) -> None:
    for kind, who in ((VHOST_USER, "VMMs"), (DISPLAY, "viewers")):
        if kind in listeners:
            where = listeners[kind].path or "the socket that systemd passed"
            _log.info("listening on %s for %s", where, who)


def raise_descriptor_limit() -> None:
    """The soft limit of open descriptors up to the hard one: many sessions with many memory regions each."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it: its limit has to do
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
