"""Our EDID: what edid-decode says about it, and what Linux needs to find in it."""

import subprocess

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.edid import BLOCK, MAX_SIDE, MIN_SIDE, edid, timing

LANDSCAPE = [
    (640, 480),
    (800, 600),
    (1024, 768),
    (1280, 720),
    (1280, 800),
    (1280, 1024),
    (1366, 768),
    (1600, 900),
    (1680, 1050),
    (1920, 1080),
    (1920, 1200),
    (2560, 1440),
    (2560, 1600),
    (3440, 1440),
    (3840, 2160),
    (4096, 2160),
    (5120, 2160),
    (5120, 2880),
    (7680, 4320),
]
ODD = [
    (1, 1),
    (64, 64),
    (161, 121),
    (320, 200),
    (641, 481),
    (1365, 767),
    (1000, 1000),
    (4095, 4095),
    (16384, 100),
    (64, 2160),
]
SIZES = LANDSCAPE + [(height, width) for width, height in LANDSCAPE] + ODD + [(MAX_SIDE, MAX_SIDE)]


def check(blob: bytes) -> str:
    """The report of edid-decode, all of it."""
    run = subprocess.run(["edid-decode", "--check"], input=blob, capture_output=True, check=False)
    return run.stdout.decode()


@pytest.mark.parametrize("refresh", [60, 75])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_edid_decode_finds_no_fault(width: int, height: int, refresh: int) -> None:
    report = check(edid("vhost-gpu", width, height, refresh, serial=7))
    assert "EDID conformity: PASS" in report
    assert "Warnings:" not in report, report
    assert "Failures:" not in report, report


@given(
    st.integers(-1, 20000), st.integers(-1, 20000), st.integers(0, 300), st.text(max_size=20), st.integers(0, 1 << 40)
)
@example(0, 0, 0, "", 0)
@example(0, 2021, 120, "", 0)  # nothing but fast lines
def test_any_input_gives_whole_blocks_with_checksums(w: int, h: int, refresh: int, name: str, serial: int) -> None:
    blob = edid(name, w, h, refresh, serial)
    blocks = [blob[at : at + BLOCK] for at in range(0, len(blob), BLOCK)]
    assert len(blob) == BLOCK * (1 + blob[126])
    assert [sum(block) & 0xFF for block in blocks] == [0] * len(blocks)
    if len(blocks) == 2:
        assert sum(blocks[1][1:-1]) & 0xFF == 0


def first_mode(blob: bytes) -> tuple[int, int]:
    """Width and height of the first detailed timing descriptor."""
    return blob[56] | blob[58] >> 4 << 8, blob[59] | blob[61] >> 4 << 8


@given(st.integers(MIN_SIDE, 2560), st.integers(MIN_SIDE, 2560))
def test_the_first_descriptor_is_exactly_the_wanted_size(width: int, height: int) -> None:
    assert first_mode(edid("x", width, height)) == (width, height)


@pytest.mark.parametrize(("width", "height"), [(4096, 2160), (5120, 2160), (7680, 4320), (2160, 5120)])
def test_a_large_mode_is_preferred_in_the_extension(width: int, height: int) -> None:
    blob = edid("x", width, height)
    report = check(blob)
    assert blob[126] == 1
    assert f"DTD:  {width}x{height}" in report
    assert "preferred" in report
    small_width, small_height = first_mode(blob)
    assert small_width * height == small_height * width


@pytest.mark.parametrize(("width", "height"), [(640, 480), (800, 600), (1280, 800), (1920, 1080)])
def test_no_mode_is_larger_than_the_preferred_one(width: int, height: int) -> None:
    modes = [line.split()[2].split("x") for line in check(edid("x", width, height)).splitlines() if "  DMT 0x" in line]
    assert modes
    assert all(int(w) <= width and int(h) <= height for w, h in modes)


# Pixel clocks and totals as VESA's CVT spreadsheet gives them for reduced blanking.
@pytest.mark.parametrize(
    ("width", "height", "clock_khz", "total_height"),
    [
        (1920, 1080, 138500, 1111),
        (1920, 1200, 154000, 1235),
        (1680, 1050, 119000, 1080),
        (1280, 800, 71000, 823),
        (2560, 1600, 268500, 1646),
        (1440, 900, 88750, 926),
    ],
)
def test_timings_are_those_of_cvt_reduced_blanking(width: int, height: int, clock_khz: int, total_height: int) -> None:
    mode = timing(width, height, 60)
    assert (mode.clock_khz, mode.height + mode.v_blank) == (clock_khz, total_height)


def test_name_serial_and_identity() -> None:
    blob = edid("säule 0", 1280, 800, serial=0x01020304)
    assert blob[12:16] == bytes((4, 3, 2, 1))
    assert b"\0\0\0\xfc\0s?ule 0\n     " in blob
    report = check(edid("a very long name", 1280, 800))
    assert "'a very long n'" in report


@pytest.mark.parametrize("name", ["", "   ", " x ", "x" * 13, "x" * 12 + " y", "\n", "\0"])
def test_no_name_makes_a_fault(name: str) -> None:
    report = check(edid(name, 1280, 800))
    assert "Warnings:" not in report, report
    assert "Failures:" not in report, report


def test_a_size_is_about_96_dpi() -> None:
    blob = edid("x", 1920, 1080)
    assert (blob[21], blob[22]) == (51, 29)
    assert (blob[66] | blob[68] >> 4 << 8, blob[67] | (blob[68] & 15) << 8) == (508, 285)
