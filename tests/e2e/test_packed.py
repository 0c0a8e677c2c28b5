"""Packed rings: QEMU offers them to the guest with packed=on, and Linux's driver takes them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from .harness.daemon import Daemon
from .harness.guest import Guest
from .harness.kms import Kms, cursor_pixels, pattern
from .harness.moving import wait_same_on_both
from .harness.picture import coverage, difference
from .harness.waiting import wait_until
from .harness.watcher import Watcher

RING_PACKED, IN_ORDER = 34, 35


@dataclass
class Packed:
    """A booted guest whose driver may use packed rings, and the daemon that serves it."""

    guest: Guest
    daemon: Daemon


@pytest.fixture(scope="module")
def packed(image: Path) -> Iterator[Packed]:
    with ExitStack() as stack:
        daemon = Daemon()
        stack.callback(daemon.close)
        guest = stack.enter_context(Guest(image, daemon.socket, properties="packed=on,in_order=on"))
        guest.wait_boot()
        yield Packed(guest, daemon)


def show(packed: Packed, seed: int) -> None:
    """A picture through the driver, to QEMU's display and to a viewer."""
    with Kms(packed.guest) as kms:
        kms.do(f"show 0 1024 768 {seed}")
        packed.guest.wait_picture(pattern(1024, 768, seed))
        assert not difference(packed.daemon.screenshot(), pattern(1024, 768, seed))


def test_the_driver_acknowledged_packed_rings(packed: Packed) -> None:
    """IN_ORDER is QEMU's to offer too, but Linux 6.1 does not know it: its own tests are those of tests/vhost_gpu."""
    bits = packed.guest.run("cat /sys/bus/virtio/drivers/virtio_gpu/virtio*/features").strip()
    assert bits[RING_PACKED] == "1"
    assert bits[IN_ORDER] == "0"


def test_modetest(packed: Packed) -> None:
    guest = packed.guest

    def painted() -> bool:
        return coverage(guest.screendump()) > 0.5

    with guest.program("modetest", "modetest -M virtio_gpu -s Virtual-1:1024x768"):
        wait_until(painted, 30, "modetest's pattern")
        wait_same_on_both(guest, packed.daemon)


def test_flips_and_the_cursor(packed: Packed) -> None:
    """More commands than the rings have entries: 64 (a flip takes several) and 16."""
    with Kms(packed.guest) as kms:
        kms.do("show 0 1024 768 1")
        kms.do("cursor 0 1 3 4")
        for seed in range(2, 32):
            kms.do(f"flip 0 {seed}")
            kms.do(f"move 0 {seed} {2 * seed}")
        packed.guest.wait_picture(pattern(1024, 768, 31))
        with Watcher(packed.daemon.display) as watcher:
            watcher.wait_picture(pattern(1024, 768, 31))
            watcher.wait(lambda w: w.screen().cursor_at == (31, 62), "the cursor")
            cursor = watcher.screen().cursor
            assert cursor is not None
            assert np.array_equal(cursor.pixels, cursor_pixels(1)[:, :, [2, 1, 0, 3]])


def test_stop_and_cont(packed: Packed) -> None:
    """QEMU hands both indices and wrap counters back as it got them."""
    guest = packed.guest
    with Kms(guest) as kms, Watcher(packed.daemon.display) as watcher:
        kms.do("show 0 1024 768 3")
        for seed in range(4, 9):
            guest.qmp.command("stop")
            guest.qmp.command("cont")
            kms.do(f"flip 0 {seed}")
            expected = pattern(1024, 768, seed)
            watcher.wait_picture(expected)
            guest.wait_picture(expected)


def test_system_reset(packed: Packed) -> None:
    for seed in (10, 11):
        packed.guest.qmp.command("system_reset")
        packed.guest.wait_boot()
        show(packed, seed)
    assert "Traceback" not in packed.daemon.log()
    assert "stopped" not in packed.daemon.log()
