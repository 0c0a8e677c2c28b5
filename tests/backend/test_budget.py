"""The byte budget: what is charged, what comes back, what is refused."""

import pytest

from backend._core import lib
from tests.backend.devicekit import ERR_OUT_OF_MEMORY, MIB, OK, Device

SIDE = 256
BYTES = SIDE * SIDE * 4
WHOLE = (0, 0, SIDE, SIDE)


def test_resources_stop_at_the_budget() -> None:
    with Device(hostmem=MIB) as device:
        created = [device.create(id_, SIDE, SIDE) for id_ in range(1, 6)]
        assert created == [OK, OK, OK, ERR_OUT_OF_MEMORY, ERR_OUT_OF_MEMORY]
        assert 3 * BYTES < device.used <= MIB
        assert device.unref(2) == OK
        assert device.create(9, SIDE, SIDE) == OK


def test_a_device_without_budget_refuses_everything() -> None:
    with Device(hostmem=0) as device:
        assert device.create(1, 1, 1) == ERR_OUT_OF_MEMORY


def test_a_shown_resource_costs_a_second_image() -> None:
    with Device() as device:
        device.create(1, SIDE, SIDE)
        alone = device.used
        device.set_scanout(0, 1, WHOLE)
        assert device.used >= alone + BYTES
        device.unref(1)
        assert device.used == 0


def test_scanout_without_room_for_the_second_image_is_refused() -> None:
    with Device(hostmem=BYTES + BYTES // 2) as device:
        device.create(1, SIDE, SIDE)
        assert device.set_scanout(0, 1, WHOLE) == ERR_OUT_OF_MEMORY
        assert device.frame().resource == 0
        device.unref(1)
        assert device.used == 0


def test_spare_images_make_way_for_new_resources() -> None:
    with Device(hostmem=5 * BYTES) as device:
        for id_ in (1, 2):
            device.create(id_, SIDE, SIDE)
            assert device.set_scanout(0, id_, WHOLE) == OK
        assert device.create(3, SIDE // 2, SIDE) == OK
        # Resource 1 is off the scanout: its second image is only a cache.
        assert device.create(4, SIDE, SIDE) == OK
        assert len(device.retired()) == 1
        # Resource 2 is shown: it keeps what its next write needs.
        assert device.create(5, SIDE, SIDE) == ERR_OUT_OF_MEMORY
        assert device.retired() == []
        device.attach(2)
        device.fill(2, SIDE, WHOLE, b"abcd")
        assert device.flush(2, WHOLE) == OK
        assert device.shown() == b"abcd" * SIDE * SIDE


def test_a_sum_that_never_fits_costs_no_spare_image() -> None:
    with Device(hostmem=8 * BYTES) as device:
        for id_ in (1, 2):
            device.create(id_, SIDE, SIDE)
            device.set_scanout(0, id_, WHOLE)
        assert device.create(3, 4096, 4096) == ERR_OUT_OF_MEMORY
        assert device.retired() == []


@pytest.mark.parametrize("reset", [False, True])
def test_held_images_stay_charged_until_released(reset: bool) -> None:
    with Device() as device:
        device.create(1, SIDE, SIDE)
        device.set_scanout(0, 1, WHOLE)
        image = device.frame().image
        assert device.hold(image) == 0
        if reset:
            lib.vg_device_reset(device.dev)
        else:
            device.unref(1)
        assert device.used >= BYTES
        assert image not in device.retired()
        assert len(device.image_bytes(image)) == BYTES
        device.release(image)
        assert device.used == 0
        assert device.retired() == [image]
