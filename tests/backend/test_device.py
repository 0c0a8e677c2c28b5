"""The device's answers: every command, every misuse, one response each."""

import struct
from collections.abc import Callable

import pytest

from backend.device import Device
from protocol import virtio_gpu as vg
from protocol.edid import edid
from protocol.virtio_gpu import Command, CommandType, Format, Rect, ResponseType

OK = ResponseType.OK_NODATA
UNSPEC = ResponseType.ERR_UNSPEC
NO_MEMORY = ResponseType.ERR_OUT_OF_MEMORY
BAD_SCANOUT = ResponseType.ERR_INVALID_SCANOUT_ID
BAD_RESOURCE = ResponseType.ERR_INVALID_RESOURCE_ID
BAD_PARAMETER = ResponseType.ERR_INVALID_PARAMETER
MIB = 1 << 20


class Displays:
    """Answers at once, or keeps the answers back."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[bytes], None]] = []
        self.late = False

    def display_info(self, answer: Callable[[bytes], None]) -> None:
        modes = [vg.DisplayOne(Rect(0, 0, 800, 600))]
        if self.late:
            self.waiting.append(answer)
        else:
            answer(vg.display_info_payload(modes))

    def edid(self, scanout: int, answer: Callable[[bytes], None]) -> None:
        answer(edid(f"display {scanout}", 800, 600, serial=1))


@pytest.fixture
def displays() -> Displays:
    return Displays()


@pytest.fixture
def device(displays: Displays) -> Device:
    device = Device(2, 16 * MIB, displays)
    assert run(device, vg.ResourceCreate2d(1, Format.B8G8R8X8_UNORM, 64, 64))[0] == OK
    return device


def run(device: Device, command: Command | bytes) -> tuple[int, bytes]:
    answers: list[tuple[int, bytes]] = []
    data = command if isinstance(command, bytes) else command.encode()
    device.execute(data, lambda response, payload: answers.append((response, payload)))
    assert len(answers) == 1
    return answers[0]


def entries(*pieces: tuple[int, int]) -> bytes:
    return b"".join(vg.MemEntry(*piece).encode() for piece in pieces)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (vg.ResourceCreate2d(2, Format.R8G8B8A8_UNORM, 1, 1), OK),
        (vg.ResourceCreate2d(1, Format.R8G8B8A8_UNORM, 1, 1), BAD_RESOURCE),
        (vg.ResourceCreate2d(0, Format.R8G8B8A8_UNORM, 1, 1), BAD_RESOURCE),
        (vg.ResourceCreate2d(2, 0, 1, 1), BAD_PARAMETER),
        (vg.ResourceCreate2d(2, 5, 1, 1), BAD_PARAMETER),
        (vg.ResourceCreate2d(2, 0xFFFFFFFF, 1, 1), BAD_PARAMETER),
        (vg.ResourceCreate2d(2, 1, 0, 1), BAD_PARAMETER),
        (vg.ResourceCreate2d(2, 1, 1, 0), BAD_PARAMETER),
        (vg.ResourceCreate2d(2, 1, 0x40000001, 4), NO_MEMORY),
        (vg.ResourceCreate2d(2, 1, 0xFFFFFFFF, 0xFFFFFFFF), NO_MEMORY),
        (vg.ResourceCreate2d(2, 1, 4096, 4096), NO_MEMORY),
        (vg.ResourceUnref(1), OK),
        (vg.ResourceUnref(0), BAD_RESOURCE),
        (vg.ResourceUnref(7), BAD_RESOURCE),
        (vg.ResourceAttachBacking(7, 1, entries((0, 4096))), BAD_RESOURCE),
        (vg.ResourceAttachBacking(1, 0, b""), BAD_PARAMETER),
        (vg.ResourceDetachBacking(7), BAD_RESOURCE),
        (vg.SetScanout(Rect(0, 0, 64, 64), 0, 1), OK),
        (vg.SetScanout(Rect(0, 0, 64, 64), 2, 1), BAD_SCANOUT),
        (vg.SetScanout(Rect(0, 0, 64, 64), 0xFFFFFFFF, 1), BAD_SCANOUT),
        (vg.SetScanout(Rect(0, 0, 64, 64), 0, 7), BAD_RESOURCE),
        (vg.SetScanout(Rect(0, 0, 65, 64), 0, 1), BAD_PARAMETER),
        (vg.SetScanout(Rect(1, 0, 64, 64), 0, 1), BAD_PARAMETER),
        (vg.SetScanout(Rect(0xFFFFFFFF, 0, 2, 64), 0, 1), BAD_PARAMETER),
        (vg.SetScanout(Rect(0, 0, 0, 64), 0, 1), BAD_PARAMETER),
        (vg.SetScanout(Rect(0, 0, 0, 0), 0, 0), OK),
        (vg.SetScanout(Rect(9, 9, 9, 9), 2, 0), BAD_SCANOUT),
        (vg.UpdateCursor(0, 0, 0, 1, 0, 0), OK),
        (vg.UpdateCursor(2, 0, 0, 1, 0, 0), BAD_SCANOUT),
        (vg.UpdateCursor(0, 0, 0, 7, 0, 0), BAD_RESOURCE),
        (vg.UpdateCursor(0, 0, 0, 0, 0, 0), OK),
        (vg.GetEdid(2), BAD_SCANOUT),
        (vg.GetEdid(0xFFFFFFFF), BAD_SCANOUT),
        (vg.GetCapsetInfo(0), BAD_PARAMETER),
        (vg.GetCapsetInfo(0xFFFFFFFF), BAD_PARAMETER),
        (vg.GetCapset(1, 1), BAD_PARAMETER),
        (vg.GetCapset(0xFFFFFFFF, 0xFFFFFFFF), BAD_PARAMETER),
        (vg.Unknown(0), UNSPEC),
        (vg.Unknown(0x110), UNSPEC),
        (vg.Unknown(0xFFFFFFFF), UNSPEC),
        (vg.Unknown(OK), UNSPEC),
    ],
    ids=str,
)
def test_responses(device: Device, command: Command, expected: ResponseType) -> None:
    response, payload = run(device, command)
    assert (response, payload) == (expected, b"")


@pytest.mark.parametrize("kind", [t for t in CommandType if t >= 0x200 and t < 0x300] + [0x10B, 0x10C, 0x10D])
def test_commands_of_other_devices_are_unknown(device: Device, kind: int) -> None:
    assert run(device, vg.ControlHeader(kind).encode() + bytes(64)) == (UNSPEC, b"")


@pytest.mark.parametrize("kind", [t for t in CommandType if t < 0x10B and t not in (0x100,)])
def test_commands_that_are_too_short(device: Device, kind: int) -> None:
    assert run(device, vg.ControlHeader(kind).encode()) == (BAD_PARAMETER, b"")


def test_entries_that_did_not_come(device: Device) -> None:
    command = vg.ControlHeader(CommandType.RESOURCE_ATTACH_BACKING).encode() + struct.pack("<II", 1, 0xFFFFFFFF)
    assert run(device, command) == (BAD_PARAMETER, b"")


def test_display_information(device: Device) -> None:
    response, payload = run(device, vg.GetDisplayInfo())
    assert response == ResponseType.OK_DISPLAY_INFO
    modes = vg.parse_display_info(payload)
    assert modes[0] == vg.DisplayOne(Rect(0, 0, 800, 600))
    assert not any(mode.enabled for mode in modes[1:])


def test_display_information_that_comes_later(device: Device, displays: Displays) -> None:
    displays.late = True
    answers: list[int] = []
    device.execute(vg.GetDisplayInfo().encode(), lambda response, _payload: answers.append(response))
    assert not answers
    displays.waiting[0](b"")
    assert answers == [ResponseType.OK_DISPLAY_INFO]


def test_edid_of_each_scanout(device: Device) -> None:
    blobs = []
    for scanout in range(2):
        response, payload = run(device, vg.GetEdid(scanout))
        assert response == ResponseType.OK_EDID
        blobs.append(vg.parse_edid(payload))
    assert blobs[0] != blobs[1]


def test_a_device_has_up_to_sixteen_scanouts(displays: Displays) -> None:
    device = Device(16, MIB, displays)
    assert run(device, vg.ResourceCreate2d(1, 1, 8, 8))[0] == OK
    assert run(device, vg.SetScanout(Rect(0, 0, 8, 8), 15, 1))[0] == OK
    assert run(device, vg.SetScanout(Rect(0, 0, 8, 8), 16, 1))[0] == BAD_SCANOUT


def test_configuration_space(device: Device) -> None:
    assert device.config() == vg.GpuConfig(0, 0, 2, 0)


def test_the_budget_comes_back(device: Device) -> None:
    before = device.hostmem_used
    for _ in range(50):
        assert run(device, vg.ResourceCreate2d(2, 1, 1024, 1024))[0] == OK
        assert run(device, vg.SetScanout(Rect(0, 0, 1024, 1024), 0, 2))[0] == OK
        assert device.hostmem_used > before + 4 * MIB
        assert run(device, vg.ResourceUnref(2))[0] == OK
    assert device.hostmem_used == before


def test_a_reset_ends_everything_and_ids_are_free_again(device: Device) -> None:
    run(device, vg.SetScanout(Rect(0, 0, 64, 64), 0, 1))
    device.reset()
    assert device.hostmem_used == 0
    assert device.screens.frame(0).resource_id == 0
    assert run(device, vg.ResourceCreate2d(1, 1, 64, 64))[0] == OK
