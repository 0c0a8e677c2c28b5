"""The log: one line per event on standard error, for a terminal or for journald.

On a terminal a line is ``HH:MM:SS level name: text``; under systemd it has no time (journald has its own) and begins
with the ``<N>`` priority of sd-daemon(3). ``name`` is the session's, or ``supervisor``. A peer's words can't break a
line, and each name may only write so many lines a second, so that no guest or viewer can fill a disk.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FORMATS = ("auto", "text", "journal")

# sd-daemon(3): syslog priorities.
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG_PRIORITY = 7
_MAX_LINE = 2000
_MAX_NAMES = 256


class RateLimit:
    """A token bucket: ``burst`` lines at once, then ``rate`` a second. Time is passed in, in seconds."""

    def __init__(self, rate: float = 1.0, burst: int = 20) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._last: float | None = None
        self._suppressed = 0

    def admit(self, now: float) -> bool:
        """Whether a line may be written now; one that may not is counted."""
        if self._last is not None:
            self._tokens = min(float(self._burst), self._tokens + max(0.0, now - self._last) * self._rate)
        self._last = now
        if self._tokens < 1.0:
            self._suppressed += 1
            return False
        self._tokens -= 1.0
        return True

    def take_suppressed(self) -> int:
        """How many lines were refused since last asked."""
        count, self._suppressed = self._suppressed, 0
        return count


def under_journal(stream_fd: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this descriptor is journald's, by ``JOURNAL_STREAM`` (device:inode, systemd.exec(5))."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream_fd)
        return (int(device), int(inode)) == (status.st_dev, status.st_ino)
    except (OSError, ValueError):
        return False


def one_line(text: str) -> str:
    """The text with everything unprintable escaped and its length bounded: safe for a terminal and the journal."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= _MAX_LINE else text[:_MAX_LINE] + "..."


class LineFormatter(logging.Formatter):
    """Formats as the module's docstring says. ``name``: used for every line (a session process), else the logger's."""

    def __init__(self, journal: bool, name: str | None = None) -> None:
        super().__init__()
        self.journal = journal
        self.name = name

    def format(self, record: logging.LogRecord) -> str:
        prefix = self._prefix(record)
        lines = [one_line(record.getMessage())]
        if record.exc_info:
            # Our own bugs: a line of the traceback is a line of the log, each with its own priority.
            lines += [one_line(line) for line in self.formatException(record.exc_info).splitlines()]
        return "\n".join(prefix + line for line in lines)

    def _prefix(self, record: logging.LogRecord) -> str:
        name = self.name or record.name
        if self.journal:
            return f"<{_priority(record.levelno)}>{name}: "
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        return f"{clock} {record.levelname.lower()} {name}: "


def _priority(level: int) -> int:
    return next((priority for floor, priority in _PRIORITIES if level >= floor), _DEBUG_PRIORITY)


class LimitedHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Writes to standard error, with a rate limit for each logger name."""

    def __init__(
        self,
        new_limit: Callable[[], RateLimit] = RateLimit,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(sys.stderr)
        self._new_limit = new_limit
        self._clock = clock
        self._limits: dict[str, RateLimit] = {}

    def emit(self, record: logging.LogRecord) -> None:
        limit = self._limit_of(record.name)
        if not limit.admit(self._clock()):
            return
        suppressed = limit.take_suppressed()
        if suppressed:
            super().emit(_suppressed_record(record.name, suppressed))
        super().emit(record)

    def _limit_of(self, name: str) -> RateLimit:
        limit = self._limits.get(name)
        if limit is None:
            if len(self._limits) >= _MAX_NAMES:  # the oldest name: sessions' names only ever grow
                del self._limits[next(iter(self._limits))]
            limit = self._limits[name] = self._new_limit()
        return limit

    def report_suppressed(self) -> None:
        """Writes what is still untold: for the end of a process."""
        for name, limit in self._limits.items():
            suppressed = limit.take_suppressed()
            if suppressed:
                super().emit(_suppressed_record(name, suppressed))

    def close(self) -> None:
        self.report_suppressed()
        super().close()


def _suppressed_record(name: str, count: int) -> logging.LogRecord:
    text = f"{count} similar lines suppressed" if count > 1 else "1 similar line suppressed"
    return logging.LogRecord(name, logging.WARNING, __file__, 0, text, None, None)


def setup(level: str = "info", log_format: str = "auto", name: str | None = None) -> None:
    """Sends every logger's lines to standard error.

    ``level``: a key of ``LEVELS``. ``log_format``: one of ``FORMATS``. ``name``: the session's, in a session process;
    may be called again when it gets known. Use ``logging.getLogger(name)`` afterwards, as anywhere.
    """
    journal = under_journal(2) if log_format == "auto" else log_format == "journal"
    # A session process is one guest's: all its loggers share one limit, whatever they are called.
    handler = LimitedHandler(new_limit=_shared_limit() if name is not None else RateLimit)
    handler.setFormatter(LineFormatter(journal, name))
    teardown()
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(LEVELS[level])
    # asyncio's own chatter ("Using selector ...") is no event of ours.
    logging.getLogger("asyncio").setLevel(max(LEVELS[level], logging.WARNING))


def teardown() -> None:
    """Tells what was suppressed and undoes ``setup``; harmless without one."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, LimitedHandler):
            root.removeHandler(handler)
            handler.close()


def _shared_limit() -> Callable[[], RateLimit]:
    limit = RateLimit()
    return lambda: limit
