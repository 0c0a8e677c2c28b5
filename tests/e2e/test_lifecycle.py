"""Interrupts, and everything that starts the device again under a running VMM."""

from __future__ import annotations

import re

from .harness.kms import Kms, pattern
from .harness.pair import Pair
from .harness.picture import difference
from .harness.waiting import wait_until
from .harness.watcher import Watcher

GUEST = {"devices": ["qemu-xhci", "usb-kbd"]}
DRIVER = "/sys/bus/virtio/drivers/virtio_gpu"


def interrupts(pair: Pair) -> dict[str, int]:
    """Counts of MSI-X vectors in our guest, by the name of what they serve."""
    table = pair.ours.run("cat /proc/interrupts; ls /sys/bus/virtio/drivers/virtio_gpu")
    (gpu,) = re.findall(r"^(virtio\d+)$", table, re.MULTILINE)
    counts: dict[str, int] = {}
    for line in table.splitlines():
        found = re.match(r"\s*\d+:((?:\s+\d+)+)\s+PCI-MSI\S*\s+\S+\s+(\S+)$", line)
        if found:
            name = found[2].removeprefix(f"{gpu}-")
            counts[name] = counts.get(name, 0) + sum(map(int, found[1].split()))
    return counts


def show(pair: Pair, seed: int) -> None:
    """Everything still works: a picture through the driver to QEMU's display and to a new viewer."""
    with Kms(pair.ours) as kms:
        kms.do(f"show 0 1024 768 {seed}")
        pair.ours.wait_picture(pattern(1024, 768, seed))
        assert not difference(pair.daemon.screenshot(), pattern(1024, 768, seed))


def test_interrupts_beside_an_xhci_keyboard(pair: Pair) -> None:
    guest = pair.ours
    find = "grep -l 'USB Keyboard' /sys/class/input/event*/device/name || true"
    wait_until(lambda: guest.run(find), 30, "the keyboard: a USB device turns up after the boot")
    keyboard = f"cat /dev/input/{guest.run(find).split('/')[4]}"
    before = interrupts(pair)
    with guest.program("keys", keyboard), Kms(guest) as kms:
        kms.do("show 0 1024 768 1")
        kms.do("cursor 0 1 0 0")
        for step in range(20):
            kms.do(f"flip 0 {step}")
            kms.do(f"move 0 {step} {step}")
            guest.qmp.command("send-key", keys=[{"type": "qcode", "data": "a"}])
        wait_until(lambda: int(guest.run("wc -c </run/bg/keys.log")) >= 20 * 24, 10, "key events")
    after = interrupts(pair)
    grown = {name: after[name] - before.get(name, 0) for name in ("control", "cursor", "xhci_hcd")}
    assert grown["control"] >= 20
    assert grown["cursor"] >= 20
    assert grown["xhci_hcd"] >= 20


def test_stop_and_cont_bring_the_picture_back(pair: Pair) -> None:
    guest = pair.ours
    with Kms(guest) as kms, Watcher(pair.daemon.display) as watcher:
        kms.do("show 0 1024 768 2")
        kms.do("cursor 0 1 0 0")
        kms.do("move 0 50 60")
        expected = pattern(1024, 768, 2)
        watcher.wait_picture(expected)
        for _ in range(3):
            guest.qmp.command("stop")
            guest.qmp.command("cont")
            guest.wait_picture(expected)
        kms.do("flip 0 3")
        watcher.wait_picture(pattern(1024, 768, 3))
        assert watcher.screen().cursor is not None
        guest.wait_picture(pattern(1024, 768, 3))


def test_driver_unbind_and_rebind(pair: Pair) -> None:
    guest = pair.ours
    (device,) = re.findall(r"virtio\d+", guest.run(f"ls {DRIVER}"))
    for seed in range(3):
        guest.run("echo 0 >/sys/class/vtconsole/vtcon1/bind 2>/dev/null; true")
        guest.run(f"echo {device} >{DRIVER}/unbind; test ! -e /dev/dri/card0")
        guest.run(f"echo {device} >{DRIVER}/bind")
        wait_until(lambda: guest.run("ls /dev/dri/card0 2>/dev/null || true"), 10, "the driver")
        show(pair, seed)


def test_reboot(pair: Pair) -> None:
    for seed in (4, 5):
        pair.ours.agent.send("reboot -f")
        pair.ours.wait_boot()
        show(pair, seed)


def test_system_reset(pair: Pair) -> None:
    with Watcher(pair.daemon.display) as watcher:
        for seed in (6, 7):
            pair.ours.qmp.command("system_reset")
            pair.ours.wait_boot()
            show(pair, seed)
        watcher.wait(lambda w: w.screen().enabled, "the guest after its reset")
    pair.reference.qmp.command("system_reset")
    pair.reference.wait_boot()
    # A late word of the kernel's on one of the two consoles would be a difference.
    pair.run("echo 1 >/proc/sys/kernel/printk; printf '\\033c' >/dev/tty1; cat /proc/fb >/dev/tty1")
    pair.wait_same()


def test_the_daemon_serves_the_next_vmm(pair: Pair) -> None:
    """Last of this module: the session ends with its VMM, cleanly, and the log has no traceback."""
    pair.ours.close()
    wait_until(
        lambda: re.search(r"session-1: .*(end|clos|gone)", pair.daemon.log()), 10, "the session's end in the log"
    )
    assert "Traceback" not in pair.daemon.log()
    assert pair.daemon.process.poll() is None
