"""One QEMU with the guest that scripts/build-guest makes."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from . import picture
from .agent import Agent
from .picture import Picture
from .qmp import Qmp, QmpError
from .waiting import wait_until

REPO = Path(__file__).resolve().parents[3]
BOOT_TIMEOUT = 120.0
_GUEST = {
    "cpu": "Nehalem",  # with -cpu max the guest's llvmpipe finds no code to generate under TCG
    "memory": "1G",
}
_KERNEL_ARGUMENTS = "console=tty0 console=ttyS0 quiet loglevel=4 mitigations=off vt.global_cursor_default=0"


def guest_image() -> Path:
    """Directory with vmlinuz, initrd and root.squashfs; built when missing."""
    built = subprocess.run(
        [REPO / "scripts" / "build-guest", "test"], stdout=subprocess.PIPE, check=True, text=True, cwd=REPO
    )
    return Path(built.stdout.splitlines()[-1])


@dataclass
class Guest:
    """A running guest with one virtio-gpu device, called "gpu" in QMP.

    vhost_user: path of the vhost-user socket of a back-end; None: QEMU's in-process device. gl_display: the in-process
    device is the one with 3D, and this (an Xvfb's name) is where it renders and QEMU has its window.
    outputs: max_outputs of the device. properties: more of them, as on QEMU's command line. kernel: more words for the
    kernel's command line. devices: more -device options. accelerator: QEMU's. With a thread for each of the guest's
    processors a reboot can be QEMU's end, whatever the device ("iotlb_to_section: Assertion failed"; QEMU 10.0, 2 of 70
    reboots on a busy machine, one of them with its own device; with one thread for all none of 80).
    """

    image: Path
    vhost_user: Path | None = None
    gl_display: str = ""
    outputs: int = 1
    properties: str = ""
    kernel: str = ""
    devices: list[str] = field(default_factory=list)
    accelerator: str = "tcg,thread=single"

    def __post_init__(self) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="vhost-gpu-e2e-")
        self.directory = Path(self._scratch.name)
        self._log = open(self.directory / "qemu.log", "wb")  # noqa: SIM115  (closed with the guest)
        self.process = subprocess.Popen(
            self._command(), stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, env=self._environment()
        )
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    def _command(self) -> list[str]:
        words = f"""qemu-system-x86_64 -name guest -M pc,memory-backend=memory -cpu {_GUEST["cpu"]}
            -accel {self.accelerator} -smp 2
            -m {_GUEST["memory"]} -object memory-backend-memfd,id=memory,size={_GUEST["memory"]},share=on
            -nodefaults -no-user-config -display {"sdl,gl=on" if self.gl_display else "none"}
            -kernel {self.image}/vmlinuz -initrd {self.image}/initrd
            -drive file={self.image}/root.squashfs,if=none,id=root,format=raw,readonly=on
            -device virtio-blk-pci,drive=root
            -qmp unix:{self.directory}/qmp,server=on,wait=off
            -chardev file,id=console,path={self.directory}/console.log -serial chardev:console
            -chardev socket,id=agent,path={self.directory}/agent,server=on,wait=off -serial chardev:agent""".split()
        words += ["-append", f"{_KERNEL_ARGUMENTS} {self.kernel}"]
        properties = ",".join(["id=gpu", f"max_outputs={self.outputs}", *filter(None, [self.properties])])
        if self.vhost_user is None:
            words += ["-device", f"virtio-gpu{'-gl' if self.gl_display else ''}-pci,{properties}"]
        else:
            words += ["-chardev", f"socket,id=vgpu,path={self.vhost_user}"]
            words += ["-device", f"vhost-user-gpu-pci,chardev=vgpu,{properties}"]
        for device in self.devices:
            words += ["-device", device]
        return words

    def _environment(self) -> dict[str, str]:
        if not self.gl_display:
            return dict(os.environ)
        return {**os.environ, "DISPLAY": self.gl_display, "LIBGL_ALWAYS_SOFTWARE": "1"}

    def _connect(self) -> None:
        def listening() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"QEMU ended at once:\n{self.qemu_log()}")
            return (self.directory / "qmp").exists() and (self.directory / "agent").exists()

        wait_until(listening, 30, "QEMU's sockets")
        self.agent = Agent(self.directory / "agent")
        self.qmp = Qmp(self.directory / "qmp")

    def wait_boot(self, timeout: float = BOOT_TIMEOUT) -> None:
        """Returns when the guest takes commands: after the start, and after each reboot."""
        try:
            self.agent.wait_ready(timeout)
        except (TimeoutError, EOFError) as error:
            raise RuntimeError(f"{error}\n{self.qemu_log()}\n{self.console_log()}") from error

    def run(self, command: str, timeout: float = 60) -> str:
        """Output of a shell command in the guest; CommandFailed unless its status is 0."""
        return self.agent.run(command, timeout)

    @contextmanager
    def program(self, name: str, command: str) -> Iterator[None]:
        """A program that runs meanwhile; it finds its stdin open and silent, its output is in /run/bg/NAME.log."""
        self.run(f"background start {name} {command}")
        try:
            yield
        finally:
            self.run(f"background stop {name}")

    def screendump(self, head: int = 0) -> Picture:
        """What QEMU's own display shows for an output of the device."""
        target = self.directory / "screendump.ppm"
        self.qmp.command("screendump", filename=str(target), device="gpu", head=head)
        return picture.load(target)

    def wait_picture(self, expected: Picture, head: int = 0, timeout: float = 20) -> None:
        """Returns when QEMU's own display shows a picture: it gets its frames after the guest's commands are done.

        AssertionError with the difference when that does not come.
        """
        last = ""

        def same() -> bool:
            nonlocal last
            last = picture.difference(self.screendump(head), expected)
            return not last

        try:
            wait_until(same, timeout, "the picture")
        except TimeoutError:
            raise AssertionError(f"QEMU's display: {last}") from None

    def console_log(self) -> str:
        return (self.directory / "console.log").read_text(errors="replace")

    def qemu_log(self) -> str:
        return (self.directory / "qemu.log").read_text(errors="replace")

    def processors(self) -> str:
        """Where the guest's processors are, for whoever looks into a failure."""
        try:
            said: str = self.qmp.command("human-monitor-command", command_line="info registers -a")
        except (OSError, EOFError, QmpError) as error:
            return f"QEMU does not say: {error!r}"
        return "\n".join(line for line in said.splitlines() if re.match(r"CPU#|[RE]IP=", line))

    def close(self) -> None:
        """Ends QEMU and removes its files."""
        self.process.kill()
        self.process.wait()
        for name in ("agent", "qmp"):
            connection: Agent | Qmp | None = getattr(self, name, None)
            if connection is not None:
                connection.close()
        self._log.close()
        self._scratch.cleanup()

    def __enter__(self) -> Guest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
