"""Processes that play VMs: each in a session of its own, as service managers and libvirt start them.

Linux makes a scheduling group of each session (sched(7), the autogroup feature). Of threads of one group that wake each
other its load balancer leaves one CPU with a few and another with many for seconds; groups it keeps apart better.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Thread
from typing import Any

from vhost_gpu.bench.model import BenchError
from vhost_gpu.bench.queueloop import Stop, Tally

_SLOT = 128  # bytes, for each process, and for all: no two write to the same cache line
_CONTEXT = multiprocessing.get_context("forkserver")  # none of our threads' locks are in it
_CONTEXT.set_forkserver_preload(["vhost_gpu.bench.sharing"])
_PATIENCE_SECONDS = 30.0


class Shared:
    """What processes have in common: that they are to end, and how far each of ``count`` has come."""

    def __init__(self, count: int) -> None:
        self._memory = _CONTEXT.RawArray(ctypes.c_ubyte, (count + 1) * _SLOT)

    def _slot(self, index: int) -> memoryview:
        return memoryview(self._memory).cast("B")[index * _SLOT : (index + 1) * _SLOT]

    def stop(self) -> Stop:
        """The same for all."""
        return Stop(self._slot(0))

    def tally(self, index: int) -> Tally:
        """That of the process with this number, from 0 on."""
        return Tally(self._slot(1 + index))


class Descriptor:
    """A file descriptor that goes along to a process that is started."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _arrived, (reduction.DupFd(self.fd),)


def _arrived(carried: Any) -> Descriptor:
    return Descriptor(carried.detach())


class Apart:
    """A process of ours that has begun. It runs in turns: ``go``, and ``wait`` for the end of the turn."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        """Takes a process as it is: :func:`running` is for callers."""
        self._process = process
        self._connection = connection

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid or 0

    def go(self) -> None:
        """Begins a turn."""
        self._connection.send("")

    def wait(self) -> None:
        """Waits until it is ready, the first time, or the turn has ended. Raises BenchError when something failed."""
        try:
            words = self._connection.recv() if self._connection.poll(_PATIENCE_SECONDS) else "it does not answer"
        except EOFError:
            words = "it is gone"
        if words:
            raise BenchError(f"a process that plays a VM: {words}")


Play = Callable[..., Iterator[None]]
"""A generator: ready at its first yield, a turn from each to the next. An argument may be a Shared or a Descriptor."""


@contextmanager
def running(play: Play, *arguments: object, own_session: bool = True) -> Iterator[Apart]:
    """A process that runs ``play``, a function of a module, with ``arguments``; it is ready, and killed on leaving."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=_main, args=(theirs, own_session, play, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        apart = Apart(process, ours)
        apart.wait()
        yield apart
    finally:
        process.kill()
        process.join()
        ours.close()


def _main(connection: Connection, own_session: bool, play: Play, arguments: tuple[object, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who has started it
    if own_session:
        os.setsid()
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        for _ in play(*arguments):
            connection.send("")
            connection.recv()
    except EOFError:
        return
    except BenchError as error:
        connection.send(str(error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
