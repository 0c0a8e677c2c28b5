"""The sinks' view of the core: news in order, frames, images, holds."""

from dataclasses import dataclass, field

import pytest

from backend._core import ffi, lib
from backend.region import Rect, Region
from backend.screens import Screens
from tests.backend.devicekit import OK, RAM_GPA, Device


@dataclass
class Recorder:
    frames: list[tuple[int, list[Rect]]] = field(default_factory=list)
    cursors: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)

    def scanout_changed(self, scanout: int, damage: Region) -> None:
        self.frames.append((scanout, damage.rects()))

    def cursor_changed(self, scanout: int) -> None:
        self.cursors.append(scanout)

    def images_retired(self, images: list[int]) -> None:
        self.gone += images

    def relieve(self) -> None:
        raise AssertionError("nobody is starved")


@pytest.fixture
def device():
    with Device(scanouts=16) as device:
        assert device.create(1, 64, 32) == OK
        assert device.attach(1, (RAM_GPA, 64 * 32 * 4)) == OK
        yield device


@pytest.fixture
def screens(device: Device) -> Screens:
    return Screens(device.dev)


@pytest.fixture
def sink(screens: Screens) -> Recorder:
    recorder = Recorder()
    screens.sinks.append(recorder)
    return recorder


def test_no_news(screens: Screens, sink: Recorder) -> None:
    screens.publish()
    assert sink == Recorder()


def test_damage_reaches_every_sink_once(device: Device, screens: Screens, sink: Recorder) -> None:
    other = Recorder()
    screens.sinks.append(other)
    device.set_scanout(15, 1, (0, 0, 64, 32))
    screens.publish()
    device.fill(1, 64, (0, 0, 8, 4), b"1234")
    device.flush(1, (0, 0, 8, 4))
    screens.publish()
    screens.publish()
    assert sink.frames == other.frames == [(15, [Rect(0, 0, 64, 32)]), (15, [Rect(0, 0, 8, 4)])]


def test_a_sink_may_leave_while_it_is_told(device: Device, screens: Screens, sink: Recorder) -> None:
    class Leaver(Recorder):
        def scanout_changed(self, scanout: int, damage: Region) -> None:
            super().scanout_changed(scanout, damage)
            screens.sinks.remove(self)

    leaver = Leaver()
    screens.sinks.insert(0, leaver)
    device.set_scanout(0, 1, (0, 0, 64, 32))
    device.set_scanout(1, 1, (0, 0, 64, 32))
    screens.publish()
    assert len(leaver.frames) == 1
    assert len(sink.frames) == 2


def test_a_frame_and_its_image(device: Device, screens: Screens) -> None:
    device.set_scanout(0, 1, (8, 4, 16, 16))
    frame = screens.frame(0)
    assert (frame.resource_id, frame.x, frame.y, frame.width, frame.height) == (1, 8, 4, 16, 16)
    image = screens.image(frame.image)
    assert (image.id, image.width, image.height, image.stride, image.format) == (frame.image, 64, 32, 256, frame.format)
    assert image.size >= image.stride * image.height


def test_nothing_shown(screens: Screens) -> None:
    frame = screens.frame(3)
    assert (frame.generation, frame.resource_id, frame.image) == (0, 0, 0)


def test_images_that_are_not_there(screens: Screens) -> None:
    with pytest.raises(KeyError):
        screens.image(99)
    with pytest.raises(KeyError):
        screens.hold(99)
    screens.release(99)


def test_images_go_when_nobody_needs_them(device: Device, screens: Screens, sink: Recorder) -> None:
    device.set_scanout(0, 1, (0, 0, 64, 32))
    image = screens.frame(0).image
    screens.hold(image)
    device.unref(1)
    screens.publish()
    assert image not in sink.gone
    screens.release(image)
    screens.publish()
    assert image in sink.gone


def test_more_images_than_one_batch(device: Device, screens: Screens, sink: Recorder) -> None:
    for id_ in range(2, 102):
        assert device.create(id_, 4, 4) == OK
        assert device.set_scanout(0, id_, (0, 0, 4, 4)) == OK
        assert device.unref(id_) == OK
    screens.publish()
    assert len(sink.gone) == len(set(sink.gone)) >= 100


def test_cursors(device: Device, screens: Screens, sink: Recorder) -> None:
    assert not screens.cursor(2).visible
    assert device.create(2, 64, 64) == OK
    assert lib.vg_update_cursor(device.dev, 2, 10, 20, 2, 3, 4) == OK
    screens.publish()
    assert sink.cursors == [2]
    cursor = screens.cursor(2)
    assert (cursor.x, cursor.y, cursor.hot_x, cursor.hot_y, cursor.visible) == (10, 20, 3, 4, True)
    assert cursor.pixels == bytes(64 * 64 * 4)
    assert ffi.sizeof("vg_cursor") > len(cursor.pixels)
