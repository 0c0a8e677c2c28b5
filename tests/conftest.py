"""For every test: the event loop that it runs on, and no exception that vanishes in it.

``VHOST_GPU_TEST_LOOP`` chooses the loop: ``uvloop`` (default, as the daemon) or ``asyncio`` (debug mode).
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvloop

LOOP = os.environ.get("VHOST_GPU_TEST_LOOP", "uvloop")

_lost: list[str] = []


def _note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    loop.default_exception_handler(context)
    _lost.append(f"{context.get('message')}: {context.get('exception')!r}")


def _new_loop() -> asyncio.AbstractEventLoop:
    loop = uvloop.new_event_loop() if LOOP == "uvloop" else asyncio.new_event_loop()
    loop.set_exception_handler(_note)
    return loop


def pytest_configure(config: pytest.Config) -> None:
    if LOOP not in ("uvloop", "asyncio"):
        raise pytest.UsageError(f"VHOST_GPU_TEST_LOOP={LOOP}: uvloop or asyncio")
    if LOOP == "asyncio":
        config.option.asyncio_debug = True


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {LOOP: _new_loop}


@pytest.fixture(autouse=True)
def no_exception_is_lost() -> Iterator[None]:
    """Fails a test in whose event loop an exception reached nobody."""
    _lost.clear()
    yield
    lost, _lost[:] = list(_lost), []
    assert not lost, "exceptions that nobody handled: " + "; ".join(lost)
