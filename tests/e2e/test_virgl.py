"""The guest's OpenGL on the device's renderer, straight on its screen (KMS): Mesa's virgl driver under real programs.

What glkms draws is known to the pixel. kmscube's pictures are compared with those that the guest's own software
renderer makes, glmark2 checks its own.
"""

from __future__ import annotations

import re
from functools import partial

import numpy as np
import pytest

from .harness.kms import Kms, cursor_pixels, pattern
from .harness.moving import covered
from .harness.picture import Picture
from .harness.served import Served
from .harness.watcher import Watcher

SILENT = "mkfifo -m 600 /tmp/silence 2>/dev/null; "  # kmscube ends when it can read something
IN_SOFTWARE = "env MESA_LOADER_DRIVER_OVERRIDE=kms_swrast"
GLMARK2 = "glmark2-es2-drm --visual-config alpha=0"  # the primary plane has no visual with alpha
CHECKED_SCENES = [
    "build:use-vbo=false",
    "build:use-vbo=true",
    "shading:shading=gouraud",
    "shading:shading=phong",
    "bump:bump-render=high-poly",
    "bump:bump-render=normals",
    "bump:bump-render=height",
]


def show(virgl: Served, seed: int) -> None:
    """3D works: a picture of the renderer on both displays, and the next one."""
    with Kms(virgl.guest, "glkms") as kms:
        kms.do(f"show 0 1024 768 {seed}")
        virgl.check_shows(pattern(1024, 768, seed))
        kms.do(f"flip 0 {seed + 1}")
        virgl.check_shows(pattern(1024, 768, seed + 1))


def test_kernel_and_egl_say_virgl(virgl: Served) -> None:
    said = virgl.guest.run("dmesg | grep '\\[drm\\]'")
    assert "+virgl" in said
    assert re.search(r"cap set 0: id 1, max-version 1", said)
    assert re.search(r"cap set 1: id 2, max-version 2", said)
    assert "EGL driver name: virtio_gpu" in virgl.guest.run("eglinfo 2>/dev/null | grep -m 1 'EGL driver name'")


def test_pictures_are_what_the_shader_says(virgl: Served) -> None:
    with Kms(virgl.guest, "glkms") as kms, Watcher(virgl.daemon.display) as watcher:
        kms.do("show 0 1024 768 3")
        virgl.check_shows(pattern(1024, 768, 3))
        for seed in range(4, 10):
            kms.do(f"flip 0 {seed}")
            watcher.wait_picture(pattern(1024, 768, seed))
        virgl.check_shows(pattern(1024, 768, 9))


def shows_cursor(seed: int, place: tuple[int, int], watcher: Watcher) -> bool:
    cursor = watcher.screen().cursor
    return (
        cursor is not None
        and np.array_equal(cursor.pixels, cursor_pixels(seed)[:, :, [2, 1, 0, 3]])
        and watcher.screen().cursor_at == place
    )


def test_a_cursor_that_the_renderer_drew(virgl: Served) -> None:
    with Kms(virgl.guest, "glkms") as kms, Watcher(virgl.daemon.display) as watcher:
        kms.do("show 0 1024 768 1")
        for seed, place in ((1, (100, 120)), (2, (-10, 700))):
            kms.do(f"cursor 0 {seed} 3 5")
            kms.do(f"move 0 {place[0]} {place[1]}")

            watcher.wait(partial(shows_cursor, seed, place), f"cursor {seed}")
        virgl.check_shows(pattern(1024, 768, 1))


def distance(picture: Picture, others: list[Picture]) -> float:
    """Mean difference of a channel to the nearest of other pictures of the same size."""
    return min(float(np.abs(picture.astype(np.int16) - other).mean()) for other in others)


def cubes(virgl: Served, environment: str, count: int) -> list[Picture]:
    """What viewers see of the first frames of kmscube, every other row and column."""
    frames = virgl.record(f"{environment} kmscube -c {count}", lambda p: bool(np.all(abs(p[0, 0] - 127.5) < 2)))
    return [frame[::2, ::2] for frame in frames if 0.05 < covered(frame) < 0.5]


def test_kmscube(virgl: Served) -> None:
    """Its frames follow from their number: each that virgl shows is one of the software renderer, not turned."""
    with virgl.guest.program("kmscube", "kmscube"):
        virgl.check_moves("kmscube", 0.05)
    hardware = cubes(virgl, "", 30)
    software = cubes(virgl, IN_SOFTWARE, 30)
    assert hardware
    assert len(software) > 5
    for frame in hardware:
        assert distance(frame, software) < 0.5
        assert distance(frame[::-1], software) > 2
        assert distance(frame[:, ::-1], software) > 2


def test_kmscube_says_virgl_with_legacy_and_atomic_modesetting(virgl: Served) -> None:
    for option in ("", "--atomic"):
        said = virgl.guest.run(f"{SILENT} timeout 30 kmscube {option} -c 30 <>/tmp/silence 2>&1")
        assert re.search(r'renderer: "virgl', said)
        assert re.search(r"Rendered 29 frames", said)


def test_glmark2_finds_its_scenes_right(virgl: Served) -> None:
    said = virgl.guest.run(f"{GLMARK2} --validate " + " ".join(f"-b {scene}" for scene in CHECKED_SCENES))
    assert re.search(r"GL_RENDERER: +virgl", said)
    results = re.findall(r"^\[\w+\] .*: Validation: (\w+)", said, re.MULTILINE)
    assert results == ["Success"] * len(CHECKED_SCENES)


@pytest.mark.parametrize("scene", ["build", "texture", "texture:texture-filter=linear", "shading:shading=phong"])
def test_glmark2_moves(virgl: Served, scene: str) -> None:
    with virgl.guest.program("glmark2", f"{GLMARK2} -b {scene}:duration=120"):
        virgl.check_moves("glmark2", 0.02)


def test_stop_and_cont_in_the_middle_of_it(virgl: Served) -> None:
    with virgl.guest.program("kmscube", "kmscube"):
        virgl.check_moves("kmscube", 0.05)
        for _ in range(3):
            virgl.guest.qmp.command("stop")
            virgl.guest.qmp.command("cont")
            virgl.check_moves("kmscube", 0.05)
    show(virgl, 10)


@pytest.mark.parametrize("how", ["reboot", "system_reset"])
def test_reboot_in_the_middle_of_it(virgl: Served, how: str) -> None:
    guest = virgl.guest
    guest.run("background start kmscube kmscube")
    virgl.check_moves("kmscube", 0.05)
    if how == "reboot":
        guest.agent.send("reboot -f")
    else:
        guest.qmp.command("system_reset")
    guest.wait_boot()
    assert "+virgl" in guest.run("dmesg")
    show(virgl, 20)
    with guest.program("kmscube", "kmscube"):
        virgl.check_moves("kmscube", 0.05)


def test_nothing_went_wrong_on_the_way(virgl: Served) -> None:
    """Last of this module."""
    virgl.check_ends_well()
