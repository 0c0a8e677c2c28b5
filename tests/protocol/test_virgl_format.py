"""Formats: anchors of virgl_hw.h, and what virtio-gpu calls the same."""

import pytest

from protocol.virgl_format import VirglFormat
from protocol.virtio_gpu import Format


@pytest.mark.parametrize("shown", list(Format), ids=lambda shown: shown.name)
def test_formats_of_scanouts_have_virtio_gpus_numbers(shown: Format) -> None:
    assert VirglFormat[shown.name] == shown


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("Z24_UNORM_S8_UINT", 19),
        ("R32_FLOAT", 28),
        ("R32G32B32A32_FLOAT", 31),
        ("R16G16B16A16_SSCALED", 63),
        ("R8G8B8A8_SNORM", 77),
        ("R8G8B8A8_SSCALED", 85),
        ("R16G16B16A16_FLOAT", 94),
        ("R8G8B8A8_SRGB", 104),
        ("RGTC2_SNORM", 116),
        ("Z32_FLOAT_S8X24_UINT", 126),
        ("R32G32B32A32_SINT", 200),
        ("R8G8B8X8_SINT", 232),
        ("R32G32B32X32_SINT", 241),
        ("BPTC_RGB_UFLOAT", 258),
        ("ETC2_RG11_SNORM", 278),
        ("R8G8_SRGB", 313),
    ],
)
def test_the_last_of_each_group_has_its_number(name: str, number: int) -> None:
    assert VirglFormat[name] == number
