"""Drives tests/e2e/guest/kms.c, or glkms.c, inside the guest, and computes what they draw."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .guest import Guest
from .picture import Picture

CURSOR_SIDE = 64


def pattern(width: int, height: int, seed: int) -> Picture:
    """The pattern of fill_pattern() in kms.c."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([x * 3 + seed * 40, y * 5 + x, (x ^ y) + seed * 17], axis=2).astype(np.uint8)


def cursor_pixels(seed: int) -> npt.NDArray[np.uint8]:
    """64 x 64 x 4 bytes B G R A: the picture of cursor() in kms.c."""
    y, x = np.mgrid[0:CURSOR_SIDE, 0:CURSOR_SIDE]
    pixels = np.stack([np.full_like(x, seed * 90), y * 4, x * 4 + seed * 50, np.full_like(x, 255)], axis=2)
    pixels[x + y >= CURSOR_SIDE] = 0
    return pixels.astype(np.uint8)


class Kms:
    """The program (kms, or glkms on the renderer), running in a guest; commands as its source lists them."""

    def __init__(self, guest: Guest, program: str = "kms") -> None:
        self._guest = guest
        self._commands = 0
        self._name = program
        self._program = guest.program(program, program)

    def do(self, command: str) -> None:
        """Runs one command; RuntimeError with the program's words when it fails."""
        self._commands += 1
        said = self._guest.run(
            f"cd /run/bg; echo '{command}' >{self._name}.in; n=0; "
            f"until [ $(wc -l <{self._name}.log) -ge {self._commands} ] || [ $n -ge 200 ]; "
            f"do sleep 0.05; n=$((n+1)); done; tail -n 1 {self._name}.log"
        ).strip()
        if said != "ok":
            raise RuntimeError(f"{self._name} {command}: {said}")

    def __enter__(self) -> Kms:
        self._program.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._program.__exit__(None, None, None)
