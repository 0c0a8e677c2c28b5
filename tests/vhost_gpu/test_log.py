"""The log: line format, priorities, one line per event, rate limits."""

import logging
import os
import re

import pytest

from vhost_gpu import log


def record(level=logging.INFO, text="text", name="session-1", exc_info=None):
    return logging.LogRecord(name, level, __file__, 1, text, None, exc_info)


@pytest.fixture
def root():
    """The root logger as it was before."""
    logger = logging.getLogger()
    handlers, level = list(logger.handlers), logger.level
    yield logger
    for handler in list(logger.handlers):
        if isinstance(handler, log.LimitedHandler):
            logger.removeHandler(handler)
    assert logger.handlers == handlers
    logger.setLevel(level)
    logging.getLogger("asyncio").setLevel(logging.NOTSET)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_text_line():
    line = log.LineFormatter(journal=False).format(record(logging.WARNING, "queue stopped"))
    assert re.fullmatch(r"\d\d:\d\d:\d\d warning session-1: queue stopped", line)


@pytest.mark.parametrize(
    ("level", "priority"),
    [(logging.DEBUG, 7), (logging.INFO, 6), (logging.WARNING, 4), (logging.ERROR, 3), (logging.CRITICAL, 2)],
)
def test_journal_line_has_the_priority_and_no_time(level, priority):
    assert log.LineFormatter(journal=True).format(record(level)) == f"<{priority}>session-1: text"


def test_a_given_name_replaces_the_loggers():
    assert (
        log.LineFormatter(journal=True, name="session-9").format(record(name="backend.device")) == "<6>session-9: text"
    )


def test_an_event_is_one_line_whatever_a_guest_writes():
    line = log.LineFormatter(journal=True).format(record(text="a\nb\x1b[31m\u2028c" + "x" * 5000))
    assert line.startswith("<6>session-1: a\\nb\\x1b[31m\\u2028c")
    assert len(line.splitlines()) == 1
    assert len(line) < 2100


def test_every_line_of_a_traceback_has_its_priority():
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        info = (RuntimeError, error, error.__traceback__)
    lines = log.LineFormatter(journal=True).format(record(logging.ERROR, exc_info=info)).splitlines()
    assert len(lines) > 2
    assert all(line.startswith("<3>session-1: ") for line in lines)
    assert lines[-1].endswith("RuntimeError: boom")


def test_rate_limit_refills_with_time():
    limit = log.RateLimit(rate=2.0, burst=3)
    assert [limit.admit(0.0) for _ in range(5)] == [True, True, True, False, False]
    assert limit.take_suppressed() == 2
    assert limit.take_suppressed() == 0
    assert limit.admit(0.5)
    assert not limit.admit(0.5)
    assert [limit.admit(100.0) for _ in range(4)] == [True, True, True, False]


def test_rate_limit_survives_a_clock_that_goes_back():
    limit = log.RateLimit(rate=1.0, burst=1)
    assert limit.admit(10.0)
    assert not limit.admit(5.0)


def test_suppressed_lines_are_counted_per_name(capsys):
    clock = Clock()
    handler = log.LimitedHandler(lambda: log.RateLimit(rate=1.0, burst=2), clock)
    handler.setFormatter(log.LineFormatter(journal=True))
    for index in range(5):
        handler.emit(record(text=f"line {index}"))
    handler.emit(record(name="session-2", text="other"))
    clock.now += 1
    handler.emit(record(text="later"))
    assert capsys.readouterr().err.splitlines() == [
        "<6>session-1: line 0",
        "<6>session-1: line 1",
        "<6>session-2: other",
        "<4>session-1: 3 similar lines suppressed",
        "<6>session-1: later",
    ]


def test_the_rest_is_told_at_the_end(capsys):
    handler = log.LimitedHandler(lambda: log.RateLimit(rate=1.0, burst=1), Clock())
    handler.setFormatter(log.LineFormatter(journal=True))
    handler.emit(record())
    handler.emit(record())
    handler.close()
    assert capsys.readouterr().err.splitlines()[-1] == "<4>session-1: 1 similar line suppressed"


def test_names_are_bounded():
    handler = log.LimitedHandler(log.RateLimit, Clock())
    limits = {id(handler._limit_of(f"session-{index}")) for index in range(300)}
    assert len(limits) >= 256
    assert len(handler._limits) <= 256


def test_setup_filters_by_level_and_replaces_itself(root, capsys):
    log.setup("info", "journal")
    log.setup("warning", "journal", "session-3")
    logging.getLogger("anything").info("hidden")
    logging.getLogger("anything").warning("shown")
    assert capsys.readouterr().err == "<4>session-3: shown\n"
    assert sum(isinstance(handler, log.LimitedHandler) for handler in root.handlers) == 1


def test_a_session_process_has_one_limit_for_all_loggers(root, capsys):
    log.setup("info", "journal", "session-3")
    for index in range(200):
        logging.getLogger(f"part{index % 5}").info("x")
    assert 20 <= len(capsys.readouterr().err.splitlines()) < 60
    assert root.handlers


def test_under_journal_compares_device_and_inode(tmp_path):
    with open(tmp_path / "log", "w") as stream:
        status = os.fstat(stream.fileno())
        matching = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert log.under_journal(stream.fileno(), matching)
        assert not log.under_journal(stream.fileno(), {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino + 1}"})
        for bad in ({}, {"JOURNAL_STREAM": "x:y"}, {"JOURNAL_STREAM": "5"}):
            assert not log.under_journal(stream.fileno(), bad)
    assert not log.under_journal(10_000, matching)
