"""Pictures as numpy arrays: height x width x 3 bytes, red green blue."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture: TypeAlias = npt.NDArray[np.uint8]


def load(path: Path) -> Picture:
    """Any file that Pillow reads."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def save(picture: Picture, path: Path) -> None:
    Image.fromarray(picture).save(path)


def difference(first: Picture, second: Picture) -> str:
    """Why two pictures are not the same, in words for an assertion; empty when they are."""
    if first.shape != second.shape:
        return f"sizes differ: {first.shape[1::-1]} and {second.shape[1::-1]}"
    differ = np.any(first != second, axis=2)
    count = int(differ.sum())
    if not count:
        return ""
    y, x = (int(value[0]) for value in np.nonzero(differ))
    return f"{count} of {differ.size} pixels differ, first at ({x}, {y}): {first[y, x]} and {second[y, x]}"


def coverage(picture: Picture) -> float:
    """Share of the pixels that are not black."""
    return float(np.any(picture != 0, axis=2).mean())
