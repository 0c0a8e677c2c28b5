"""The guests: the same image on QEMU's in-process device and on ours, side by side."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from .harness.daemon import Daemon
from .harness.desktop import Desktop
from .harness.guest import Guest, guest_image
from .harness.pair import Pair
from .harness.served import Served


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder boots a guest."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def _state_of(served: object) -> Iterator[tuple[str, str]]:
    daemon, guest = getattr(served, "daemon", None), getattr(served, "guest", None) or getattr(served, "ours", None)
    if isinstance(daemon, Daemon):
        yield "Log of the daemon", daemon.log()
    if isinstance(guest, Guest):
        yield "The guest's processors", guest.processors()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Function) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure tells what both ends of the device were at."""
    report = yield
    if report.failed and report.when == "call":  # later they may be gone
        for served in item.funcargs.values():
            report.sections.extend(_state_of(served))
    return report


@pytest.fixture(scope="session")
def image() -> Path:
    return guest_image()


@pytest.fixture(scope="module")
def pair(image: Path, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """Two booted guests. A module may say GUEST = {...}: keyword arguments of Guest."""
    options: dict[str, Any] = getattr(request.module, "GUEST", {})
    with ExitStack() as stack:
        daemon = Daemon("--max-outputs", str(options.get("outputs", 1)))
        stack.callback(daemon.close)
        guests = []
        for socket in (None, daemon.socket):  # one after the other: an emulated boot takes all of a small machine
            guests.append(stack.enter_context(Guest(image, vhost_user=socket, **options)))
            guests[-1].wait_boot()
        yield Pair(*guests, daemon)


@pytest.fixture(scope="module")
def virgl(image: Path) -> Iterator[Served]:
    """A booted guest with 3D, whose screen is 1024 x 768 (Mesa's programs take the largest mode)."""
    daemon = Daemon("--virgl")
    try:
        with Guest(image, vhost_user=daemon.socket, kernel="drm.edid_firmware=edid/1024x768.bin") as guest:
            guest.wait_boot()
            yield Served(guest, daemon)
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def desktop() -> Iterator[Desktop]:
    with Desktop() as running:
        yield running
