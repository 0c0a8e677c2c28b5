"""Files of screenshots."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from frontend.saving import save_png, save_screenshot

PIXELS = np.array([[[1, 2, 3, 255], [4, 5, 6, 255]]], np.uint8)


def test_a_png_is_opaque_and_whole(tmp_path: Path) -> None:
    save_png(PIXELS, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == "RGB"
        assert np.array_equal(np.asarray(image), PIXELS[..., :3])
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"]


def test_names_are_safe_and_new(tmp_path: Path) -> None:
    paths = {save_screenshot(PIXELS, "../../x y\n", 1, tmp_path) for _ in range(3)}
    assert len(paths) == 3
    for path in paths:
        assert path.parent == tmp_path
        assert path.name.startswith("vhost-gpu-x-y-screen2-")


def test_the_pictures_folder_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert save_screenshot(PIXELS, "", 0).parent == tmp_path
    (tmp_path / "Pictures").mkdir()
    assert save_screenshot(PIXELS, "", 0).parent == tmp_path / "Pictures"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        save_png(PIXELS, tmp_path / "none" / "out.png")
