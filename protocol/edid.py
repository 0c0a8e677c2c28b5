"""Our own EDID (VESA E-EDID 1.4, with a DisplayID 1.3 extension for large modes), when no VMM supplies one.

The preferred mode's timing comes from VESA CVT 1.2's reduced blanking (version 1), for the exact size: CVT would round
the width down to a multiple of 8, a virtual screen need not.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

BLOCK = 128
"""Bytes of a block."""
MIN_SIDE = 64
"""Smaller widths and heights are raised to this: below it a reduced-blanking timing is all rounding error."""
MAX_SIDE = 16384
"""Larger widths and heights are lowered to this."""

_VENDOR = "VGP"
_PRODUCT = 0x0001
_YEAR = 2024
_DPI = 96
_MIN_MM, _MAX_MM = 100, 2550  # the base block has one byte for centimetres, and readers doubt less than 10

# CVT 1.2, section 3.4.2: reduced blanking version 1.
_H_BLANK, _H_FRONT, _H_SYNC = 160, 48, 32
_V_FRONT, _MIN_V_BACK = 3, 6
_MIN_V_BLANK_US = 460
_CLOCK_STEP_KHZ = 250
_V_SYNC = {(4, 3): 4, (16, 9): 5, (16, 10): 6, (5, 4): 7, (15, 9): 7}
_V_SYNC_OTHER = 10

# Limits of a detailed timing descriptor: 12 bits for sizes, 16 bits of 10 kHz for the clock.
_DTD_MAX_SIDE = 4095
_DTD_MAX_CLOCK_KHZ = 655350
_MIN_CLOCK_KHZ = 10_000  # readers take a slower descriptor for a damaged one

# Usual smaller modes, as VESA DMT 1.3 has them: width, height, line rate in kHz, clock in kHz, and their place in the
# base block: byte and bit of an established timing, aspect bits of a standard timing.
_ESTABLISHED = (
    (640, 480, 31.469, 25175, 0, 0x20),
    (800, 600, 37.879, 40000, 0, 0x01),
    (1024, 768, 48.363, 65000, 1, 0x08),
)
_STANDARD = (
    (1920, 1200, 74.556, 193250, 0),
    (1920, 1080, 67.5, 148500, 3),
    (1680, 1050, 65.29, 146250, 0),
    (1600, 900, 60.0, 108000, 3),
    (1440, 900, 55.935, 106500, 0),
    (1280, 1024, 63.981, 108000, 2),
    (1280, 800, 49.702, 83500, 0),
    (1280, 720, 45.0, 74250, 3),
)
_SRGB = bytes.fromhex("ee91a3544c99260f5054")
_DISPLAYID_ASPECTS = ((1, 1), (5, 4), (4, 3), (15, 9), (16, 9), (16, 10), (64, 27), (256, 135))
_ASPECT_UNDEFINED = 8


@dataclass(frozen=True, slots=True)
class Timing:
    """A mode with its blanking. Sync is positive for lines and negative for frames, as reduced blanking wants."""

    width: int
    """Visible pixels in a line."""
    height: int
    """Visible lines."""
    v_sync: int
    """Lines of the vertical sync pulse."""
    v_blank: int
    """Lines of the vertical blanking."""
    clock_khz: int
    """Pixel clock."""

    @property
    def line_khz(self) -> float:
        """Lines per millisecond."""
        return self.clock_khz / (self.width + _H_BLANK)

    @property
    def frame_hz(self) -> float:
        """Frames per second."""
        return self.line_khz * 1000 / (self.height + self.v_blank)

    @property
    def fits_descriptor(self) -> bool:
        """Whether an 18-byte detailed timing descriptor can say it."""
        return max(self.width, self.height) <= _DTD_MAX_SIDE and self.clock_khz <= _DTD_MAX_CLOCK_KHZ


def timing(width: int, height: int, refresh_hz: int) -> Timing:
    """CVT with reduced blanking, version 1; sizes in pixels. Tiny modes get more blanking, for a believable clock."""
    v_sync = next((lines for (x, y), lines in _V_SYNC.items() if width * y == height * x), _V_SYNC_OTHER)
    line_us = (1_000_000 / refresh_hz - _MIN_V_BLANK_US) / height
    v_blank = max(int(_MIN_V_BLANK_US / line_us) + 1, _V_FRONT + v_sync + _MIN_V_BACK)
    slowest = _MIN_CLOCK_KHZ + _CLOCK_STEP_KHZ
    v_blank = max(v_blank, -(-slowest * 1000 // (refresh_hz * (width + _H_BLANK))) - height)
    clock_khz = refresh_hz * (height + v_blank) * (width + _H_BLANK) // 1000
    return Timing(width, height, v_sync, v_blank, clock_khz // _CLOCK_STEP_KHZ * _CLOCK_STEP_KHZ)


def edid(name: str, width: int, height: int, refresh_hz: int = 60, serial: int = 0) -> bytes:
    """An EDID whose preferred mode has this size in pixels: 128 bytes, or 256 with a DisplayID extension.

    name: shown by guests; its first 13 characters, those outside printable ASCII replaced. Sizes are clamped to
    MIN_SIDE..MAX_SIDE, the refresh rate to 24..120, serial to 32 bits. The size in millimetres says 96 dpi.
    """
    width, height = (min(max(side, MIN_SIDE), MAX_SIDE) for side in (width, height))
    preferred = timing(width, height, min(max(refresh_hz, 24), 120))
    if preferred.fits_descriptor:
        return _sealed(_base(name, preferred, preferred, serial, extensions=0))
    return _sealed(_base(name, preferred, _smaller(preferred), serial, extensions=1)) + _sealed(
        _displayid(preferred, serial)
    )


def _smaller(large: Timing) -> Timing:
    """What the base block names in place of a mode that it cannot say: the same shape, halved until it fits."""
    width, height = large.width, large.height
    while not (half := timing(width, height, 60)).fits_descriptor:
        width, height = max(width // 2, MIN_SIDE), max(height // 2, MIN_SIDE)
    return half


def _millimetres(mode: Timing) -> tuple[int, int]:
    width, height = (side * 254 // (_DPI * 10) for side in (mode.width, mode.height))
    scale = max(1.0, _MIN_MM / min(width, height)) * min(1.0, _MAX_MM / max(width, height))
    return _clamp_mm(width * scale), _clamp_mm(height * scale)


def _clamp_mm(side: float) -> int:
    return min(max(int(side), _MIN_MM), _MAX_MM)


def _base(name: str, largest: Timing, first: Timing, serial: int, extensions: int) -> bytes:
    """The base block without its checksum; first: the mode of its first descriptor, largest: that of the screen."""
    width_mm, height_mm = _millimetres(largest)
    letters = [ord(letter) - ord("A") + 1 for letter in _VENDOR]
    vendor = letters[0] << 10 | letters[1] << 5 | letters[2]
    block = b"\0\xff\xff\xff\xff\xff\xff\0"
    block += struct.pack(">H", vendor) + struct.pack("<HI", _PRODUCT, serial & 0xFFFFFFFF)
    block += bytes((0, _YEAR - 1990, 1, 4))
    # Digital with 8 bits per colour; gamma 2.2; sRGB, the preferred mode is the native one. Not continuous-frequency:
    # Linux would add every DMT mode in the limits, at refresh rates that a virtual screen has no use for.
    block += bytes((0xA0, (width_mm + 5) // 10, (height_mm + 5) // 10, 120, 0x06))
    block += _SRGB + _established(largest) + _standard(largest)
    block += _detailed(first, width_mm, height_mm) + _text(0xFC, name)
    block += _range_limits(largest, first) + _DUMMY
    return block + bytes((extensions,))


_DUMMY = b"\0\0\0\x10" + bytes(14)


def _established(largest: Timing) -> bytes:
    bits = bytearray(3)
    for width, height, _, _, byte, bit in _ESTABLISHED:
        if width <= largest.width and height <= largest.height:
            bits[byte] |= bit
    return bytes(bits)


def _standard(largest: Timing) -> bytes:
    codes = b"".join(
        bytes((width // 8 - 31, aspect << 6))
        for width, height, _, _, aspect in _STANDARD
        if width <= largest.width and height <= largest.height
    )
    return codes.ljust(16, b"\x01")


def _detailed(mode: Timing, width_mm: int, height_mm: int) -> bytes:
    """A detailed timing descriptor (E-EDID 1.4 section 3.10.2)."""
    return struct.pack(
        "<H16B",
        mode.clock_khz // 10,
        mode.width & 0xFF,
        _H_BLANK,
        mode.width >> 8 << 4,
        mode.height & 0xFF,
        mode.v_blank & 0xFF,
        mode.height >> 8 << 4 | mode.v_blank >> 8,
        _H_FRONT,
        _H_SYNC,
        _V_FRONT << 4 | mode.v_sync,
        0,
        width_mm & 0xFF,
        height_mm & 0xFF,
        width_mm >> 8 << 4 | height_mm >> 8,
        0,
        0,
        0x1A,  # digital separate syncs, lines positive, frames negative
    )


def _text(tag: int, text: str) -> bytes:
    """A display descriptor with 1 to 13 characters (section 3.10.3)."""
    data = "".join(char if " " <= char <= "~" else "?" for char in text)[:13].encode().strip() or b"?"
    padded = data if len(data) == 13 else (data + b"\n").ljust(13)
    return bytes((0, 0, 0, tag, 0)) + padded


def _range_limits(largest: Timing, first: Timing) -> bytes:
    """Display range limits (section 3.10.3.3) around all modes; a dummy when they are outside what it can say."""
    usual = [mode for mode in (*_ESTABLISHED, *_STANDARD) if mode[0] <= largest.width and mode[1] <= largest.height]
    lines = [largest.line_khz, first.line_khz, *(mode[2] for mode in usual)]
    frames = [50, 75, largest.frame_hz, first.frame_hz]
    clock = -(-max(largest.clock_khz, first.clock_khz, *(mode[3] for mode in usual)) // 10_000)
    top = math.ceil(max(lines))
    if top > 510 or clock > 255:
        return _DUMMY
    offset = 0x08 if top > 255 else 0
    slowest_line = min(math.floor(min(lines)), 255)
    limits = (math.floor(min(frames)), math.ceil(max(frames)), slowest_line, top - 255 if offset else top)
    return bytes((0, 0, 0, 0xFD, offset, *limits, clock, 1, 0x0A)) + b" " * 6


def _displayid(mode: Timing, serial: int) -> bytes:
    """A DisplayID 1.3 section as an extension block, without the block's checksum."""
    # No vendor: the base block names it, and readers look this field up among IEEE's, not PNP's.
    product = bytes(3) + struct.pack("<HIBBB", _PRODUCT, serial & 0xFFFFFFFF, 0, _YEAR - 2000, 0)
    interface = bytes((0x02, 0, 0, 0, 0, 0, 0, 0x01, 0, 0))  # RGB with 8 bits per colour, sRGB
    blocks = ((0x00, product), (0x01, _parameters(mode)), (0x0F, interface), (0x03, _type_one(mode)))
    data = b"".join(bytes((tag, 0, len(content))) + content for tag, content in blocks)
    section = bytes((0x13, 121, 0x03, 0)) + data.ljust(121, b"\0")
    return b"\x70" + section + bytes((-sum(section) & 0xFF,))


def _parameters(mode: Timing) -> bytes:
    """Display parameters (DisplayID 1.3 section 4.2)."""
    width_mm, height_mm = _millimetres(mode)
    ratio = max(mode.width, mode.height) / min(mode.width, mode.height)
    sizes = struct.pack("<4H", width_mm * 10, height_mm * 10, mode.width, mode.height)
    return sizes + bytes((0, 120, min(round((ratio - 1) * 100), 255), 0x77))


def _type_one(mode: Timing) -> bytes:
    """A type I detailed timing (DisplayID 1.3 section 4.4.1), preferred."""
    aspects = (n for n, (x, y) in enumerate(_DISPLAYID_ASPECTS) if mode.width * y == mode.height * x)
    clock = mode.clock_khz // 10 - 1
    lines = (mode.width - 1, _H_BLANK - 1, _H_FRONT - 1 | 0x8000, _H_SYNC - 1)
    frames = (mode.height - 1, mode.v_blank - 1, _V_FRONT - 1, mode.v_sync - 1)
    flags = 0x80 | next(aspects, _ASPECT_UNDEFINED)
    return struct.pack("<HBB8H", clock & 0xFFFF, clock >> 16, flags, *lines, *frames)


def _sealed(block: bytes) -> bytes:
    """The block with the checksum that makes its sum 0."""
    return block + bytes((-sum(block) & 0xFF,))
