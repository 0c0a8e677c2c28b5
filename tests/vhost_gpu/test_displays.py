"""Who answers for the displays: the VMM, or our own configuration."""

from collections.abc import Callable

import pytest

from protocol import virtio_gpu as vg
from protocol.virtio_gpu import DisplayOne, Rect
from vhost_gpu.displays import Displays


class Vmm:
    def __init__(self, modes: tuple[DisplayOne, ...] | None, edid: bytes | None) -> None:
        self.modes, self.blob = modes, edid

    def ask_display_info(self, answer: Callable[[tuple[DisplayOne, ...] | None], None]) -> None:
        answer(self.modes)

    def ask_edid(self, scanout: int, answer: Callable[[bytes | None], None]) -> None:
        assert scanout == 1
        answer(self.blob)


def info(displays: Displays) -> tuple[DisplayOne, ...]:
    answers: list[bytes] = []
    displays.display_info(answers.append)
    (payload,) = answers
    return vg.parse_display_info(payload)


def edid(displays: Displays, scanout: int) -> bytes:
    answers: list[bytes] = []
    displays.edid(scanout, answers.append)
    (blob,) = answers
    return blob


@pytest.mark.parametrize("outputs", [1, 3, 16])
def test_our_own_modes_lie_side_by_side(outputs: int) -> None:
    modes = info(Displays(outputs, (800, 600)))
    assert [mode.rect for mode in modes if mode.enabled] == [Rect(n * 800, 0, 800, 600) for n in range(outputs)]


def test_every_output_has_an_edid_of_its_own() -> None:
    displays = Displays(16, (1920, 1080))
    blobs = [edid(displays, n) for n in range(16)]
    assert len(set(blobs)) == 16
    for blob in blobs:
        assert blob.startswith(b"\0\xff\xff\xff\xff\xff\xff\0")
        assert all(sum(blob[at : at + 128]) % 256 == 0 for at in range(0, len(blob), 128))


def test_the_vmms_answers_come_first() -> None:
    displays = Displays(1, (800, 600))
    displays.vmm = Vmm((DisplayOne(Rect(1, 2, 3, 4)),), b"edid")
    assert info(displays)[0].rect == Rect(1, 2, 3, 4)
    assert edid(displays, 1) == b"edid"


def test_ours_where_the_vmm_has_none() -> None:
    displays = Displays(1, (800, 600))
    alone = info(displays), edid(displays, 1)
    displays.vmm = Vmm(None, None)
    assert (info(displays), edid(displays, 1)) == alone
