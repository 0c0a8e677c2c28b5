"""The eight pixel formats: the same colour through each, on the scanout's side and on the cursor's."""

import pytest

from backend._core import ffi, lib
from tests.backend.devicekit import OK, Device

# Bytes in memory of (red 1, green 2, blue 3, alpha 4), from the format names of virtio_gpu.h.
ORDERS = {1: "BGRA", 2: "BGRX", 3: "ARGB", 4: "XRGB", 67: "RGBA", 68: "XBGR", 121: "ABGR", 134: "RGBX"}


def pack(order: str, red: int, green: int, blue: int, alpha: int) -> bytes:
    return bytes({"R": red, "G": green, "B": blue, "A": alpha, "X": alpha}[letter] for letter in order)


def colours(count: int) -> list[tuple[int, int, int, int]]:
    return [(i * 3 % 256, i * 5 % 256, i * 7 % 256, i * 11 % 256) for i in range(count)]


@pytest.mark.parametrize(("format_", "order"), ORDERS.items())
@pytest.mark.parametrize("width", [1, 3, 16, 61])
def test_images_as_xrgb(format_: int, order: str, width: int) -> None:
    height = 5
    pixels = colours(width * height)
    with Device() as device:
        device.create(1, width, height, format_)
        device.attach(1)
        device.ram[: width * height * 4] = b"".join(pack(order, *pixel) for pixel in pixels)
        device.transfer(1, (0, 0, width, height))
        assert device.set_scanout(0, 1, (0, 0, width, height)) == OK
        image = device.frame().image
        stride = width * 4 + 7
        out = ffi.new("uint8_t[]", b"\xee" * (stride * height))
        assert lib.vg_image_read_xrgb(device.dev, image, 0, 0, width, height, out, stride) == 0
        data = bytes(ffi.buffer(out))
        for row in range(height):
            line = pixels[row * width : (row + 1) * width]
            start = row * stride
            assert data[start : start + width * 4] == b"".join(bytes((b, g, r, 0)) for r, g, b, _ in line)
            assert set(data[start + width * 4 : start + stride]) == {0xEE}


@pytest.mark.parametrize(("format_", "order"), ORDERS.items())
def test_cursors_as_argb(format_: int, order: str) -> None:
    pixels = colours(64 * 64)
    with Device() as device:
        device.create(1, 64, 64, format_)
        device.attach(1)
        device.ram[:16384] = b"".join(pack(order, *pixel) for pixel in pixels)
        device.transfer(1, (0, 0, 64, 64))
        assert lib.vg_update_cursor(device.dev, 0, 0, 0, 1, 0, 0) == OK
        out = ffi.new("vg_cursor *")
        lib.vg_cursor_describe(device.dev, 0, out)
        # The X of a format is alpha here: Linux makes its cursors' buffers in such a format.
        expected = b"".join(bytes((b, g, r, a)) for r, g, b, a in pixels)
        assert bytes(ffi.buffer(out.pixels)) == expected


@pytest.mark.parametrize("rect", [(0, 0, 17, 1), (16, 16, 1, 1), (0, 15, 1, 2), (0xFFFFFFFF, 0, 2, 1)])
def test_rectangles_outside_the_image(rect: tuple[int, int, int, int]) -> None:
    with Device() as device:
        device.create(1, 16, 16)
        device.set_scanout(0, 1, (0, 0, 16, 16))
        out = ffi.new("uint8_t[]", 4096)
        assert lib.vg_image_read_xrgb(device.dev, device.frame().image, *rect, out, 64) < 0
        assert lib.vg_image_read_xrgb(device.dev, 999, 0, 0, 1, 1, out, 64) < 0
