"""Images: sealed for everybody else, never changed while seen, bounded in number, held frames and waiting flushes."""

import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backend._core import lib
from tests.backend.devicekit import ERR_OUT_OF_MEMORY, MIB, OK, Device, Rect, open_fds

SIDE = 64
WHOLE = (0, 0, SIDE, SIDE)
PIXELS = SIDE * SIDE


def pixel(value: int) -> bytes:
    return bytes((value & 255, value >> 8 & 255, 7, 0))


@pytest.fixture
def device() -> Iterator[Device]:
    """Resource 1 on scanout 0."""
    with Device() as device:
        device.create(1, SIDE, SIDE)
        device.attach(1)
        device.set_scanout(0, 1, WHOLE)
        yield device


def draw(device: Device, value: int, id_: int = 1) -> None:
    """One whole frame, flushed."""
    device.fill(id_, SIDE, WHOLE, pixel(value))
    assert device.flush(id_, WHOLE) == OK


# ---- sealing ----


def test_nobody_else_can_write(device: Device) -> None:
    info = device.describe(device.frame().image)
    assert info.size == PIXELS * 4
    for path in (None, f"/proc/self/fd/{info.fd}"):
        fd = os.dup(info.fd) if path is None else os.open(path, os.O_RDWR)
        with pytest.raises(PermissionError):
            mmap.mmap(fd, info.size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        for size in (0, info.size - 1, info.size + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        os.close(fd)


def test_a_read_only_mapping_cannot_be_made_writable(device: Device) -> None:
    info = device.describe(device.frame().image)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    view = libc.mmap(None, info.size, mmap.PROT_READ, mmap.MAP_SHARED, info.fd, 0)
    assert libc.mprotect(view, info.size, mmap.PROT_READ | mmap.PROT_WRITE) == -1
    assert ctypes.get_errno() == errno.EACCES
    assert libc.munmap(view, info.size) == 0


def test_description(device: Device) -> None:
    frame = device.frame()
    info = device.describe(frame.image)
    assert (info.id, info.width, info.height, info.stride, info.format) == (frame.image, SIDE, SIDE, SIDE * 4, 2)
    assert lib.vg_image_describe(device.dev, 12345, info) < 0
    assert not os.get_inheritable(info.fd)


# ---- who may be held ----


def test_only_what_is_seen_can_be_held(device: Device) -> None:
    first = device.frame().image
    draw(device, 1)
    assert device.frame().image != first
    assert device.hold(first) < 0
    assert device.hold(999) < 0
    assert device.hold(device.frame().image) == 0


def test_holds_are_counted(device: Device) -> None:
    image = device.frame().image
    assert [device.hold(image), device.hold(image)] == [0, 0]
    draw(device, 1)
    device.release(image)
    draw(device, 2)
    draw(device, 3)
    assert device.image_bytes(image) == bytes(PIXELS * 4)
    device.release(image)
    device.release(image)
    device.release(999)
    draw(device, 4)
    draw(device, 5)
    assert device.image_bytes(image) != bytes(PIXELS * 4)


# ---- writing and publishing ----


def test_two_images_do_without_holds(device: Device) -> None:
    images = set()
    for value in range(20):
        draw(device, value)
        images.add(device.frame().image)
        assert device.shown() == pixel(value) * PIXELS
    assert len(images) == 2


def test_what_a_frame_did_not_write_is_there_all_the_same(device: Device) -> None:
    model = bytearray(PIXELS * 4)
    for value in range(1, 30):
        x, y = value * 7 % 50, value * 13 % 50
        rect = (x, y, 1 + value % 14, 1 + value % 11)
        device.fill(1, SIDE, rect, pixel(value))
        paint(model, rect, value)
        device.flush(1, rect)
        assert device.shown() == model


def test_the_parts_around_a_small_write_are_brought_along(device: Device) -> None:
    model = bytearray(PIXELS * 4)
    for value, rect in enumerate([(5, 5, 50, 50), (20, 25, 6, 7), (0, 0, 64, 10), (30, 0, 4, 64)], 1):
        device.fill(1, SIDE, rect, pixel(value))
        paint(model, rect, value)
        device.flush(1, rect)
        assert device.shown() == model


def paint(model: bytearray, rect: Rect, value: int) -> None:
    x, y, width, height = rect
    for row in range(y, y + height):
        start = (row * SIDE + x) * 4
        model[start : start + width * 4] = pixel(value) * width


def hold_three(device: Device) -> list[int]:
    """Draws and holds until a flush must wait. Frames 1, 2 and 3 were drawn; 3 may wait."""
    held = []
    for value in range(1, 5):
        held.append(device.frame().image)
        assert device.hold(held[-1]) == 0
        draw(device, value)
        if device.starved():
            return held
    raise AssertionError("no flush ever waited")


def test_a_flush_waits_when_every_image_is_held_and_the_newest_wins(device: Device) -> None:
    held = hold_three(device)
    assert len(held) == 3
    shown = device.shown()
    device.dirty()
    draw(device, 50)
    draw(device, 51)
    assert device.shown() == shown
    assert device.dirty() == 0
    device.release(held[0])
    assert not device.starved()
    assert device.dirty() == 1
    assert device.shown() == pixel(51) * PIXELS


def test_release_does_not_publish_what_is_half_drawn(device: Device) -> None:
    held = hold_three(device)
    shown = device.shown()
    device.fill(1, SIDE, (0, 0, 5, 5), pixel(60))
    device.release(held[0])
    assert device.shown() == shown
    assert not device.starved()
    device.flush(1, (0, 0, 5, 5))
    assert device.shown()[:4] == pixel(60)


def test_damage_of_waiting_flushes_adds_up(device: Device) -> None:
    held = hold_three(device)
    device.release(held[0])
    device.hold(device.frame().image)
    device.damage()
    for rect in [(0, 0, 2, 2), (40, 40, 2, 2)]:
        device.fill(1, SIDE, rect, pixel(70))
        device.flush(1, rect)
    assert device.starved()
    assert device.damage() == []
    device.release(held[1])
    assert device.damage() == [(0, 0, 2, 2), (40, 40, 2, 2)]


def test_a_scanout_waits_for_an_image_too(device: Device) -> None:
    """SET_SCANOUT to a resource whose other images are all held: the old frame stays until one is released."""
    held = hold_three(device)
    device.create(2, 32, 32)
    device.set_scanout(0, 2, (0, 0, 32, 32))
    assert device.frame().width == 32
    assert not device.starved()
    device.fill(1, SIDE, WHOLE, pixel(90))
    device.set_scanout(0, 1, WHOLE)
    if device.starved():
        assert device.frame().width == 32
        device.release(held[0])
    assert (device.frame().width, device.starved()) == (SIDE, False)
    assert device.shown() == pixel(90) * PIXELS


@pytest.mark.parametrize("way", ["disable", "unref", "reset"])
def test_an_end_while_a_flush_waits(device: Device, way: str) -> None:
    held = hold_three(device)
    if way == "disable":
        device.set_scanout(0, 0)
    elif way == "unref":
        device.unref(1)
    else:
        lib.vg_device_reset(device.dev)
    assert not device.starved()
    assert device.frame().resource == 0
    for image in held:
        device.release(image)
    assert device.frame().resource == 0
    device.unref(1)
    assert device.used == 0


def test_a_shown_image_outlives_a_resource_that_is_replaced(device: Device) -> None:
    """The frame on show belongs to resource 1, the guest asks for 2, and 2 has no free image."""
    device.create(2, SIDE, SIDE)
    device.attach(2)
    device.set_scanout(1, 2, WHOLE)
    held = []
    while not device.starved():
        held.append(device.frame(1).image)
        device.hold(held[-1])
        draw(device, len(held), 2)
    device.set_scanout(1, 0)
    device.set_scanout(0, 2, WHOLE)
    assert device.starved()
    before = device.frame()
    assert device.unref(1) == OK
    assert device.frame() == before
    assert device.shown() == bytes(PIXELS * 4)
    device.release(held[0])
    assert device.frame().resource == 2
    assert before.image in device.retired()


def test_images_of_one_resource_are_bounded(device: Device) -> None:
    images = set()
    for value in range(200):
        image = device.frame().image
        images.add(image)
        if value % 3 == 0 and device.hold(image) == 0 and len(images) > 3:
            device.release(image)
        draw(device, value)
    assert len(images) <= 4


# ---- bounds over all resources ----


def test_descriptors_are_bounded() -> None:
    before = open_fds()
    with Device() as device:
        count = 700
        for id_ in range(1, count + 1):
            assert device.create(id_, 8, 8) == OK
            device.attach(id_)
            device.fill(id_, 8, (0, 0, 8, 8), pixel(id_))
            assert device.set_scanout(0, id_, (0, 0, 8, 8)) == OK
            assert device.shown() == pixel(id_) * 64
        assert open_fds() - before <= 256 + 8
        for id_ in range(1, count + 1):
            assert device.read(id_, (0, 0, 8, 8)) == pixel(id_) * 64
            assert device.set_scanout(0, id_, (0, 0, 8, 8)) == OK
            assert device.shown() == pixel(id_) * 64
        for id_ in range(1, count + 1):
            device.unref(id_)
        assert device.used == 0
    assert open_fds() <= before + 1


def test_a_scanout_that_finds_no_descriptor_is_refused() -> None:
    with Device() as device:
        for id_ in range(1, 129):
            device.create(id_, 8, 8)
            device.set_scanout(0, id_, (0, 0, 8, 8))
            device.hold(device.frame().image)
        # 256 images, half of them held. An end of the first resource leaves one that is held, and room for one more.
        device.unref(1)
        used = device.used
        device.create(200, 8, 8)
        device.attach(200)
        device.fill(200, 8, (0, 0, 8, 8), pixel(7))
        assert device.set_scanout(0, 200, (0, 0, 8, 8)) == ERR_OUT_OF_MEMORY
        assert device.frame().resource == 128
        assert device.read(200, (0, 0, 8, 8)) == pixel(7) * 64
        device.unref(200)
        assert device.used == used


def test_no_retired_id_is_lost() -> None:
    with Device() as device:
        seen = set()
        for id_ in range(1, 2001):
            device.create(id_, 8, 8)
            device.set_scanout(0, id_, (0, 0, 8, 8))
            seen.add(device.frame().image)
            device.unref(id_)
        retired = device.retired()
        assert len(retired) == len(set(retired))
        assert seen <= set(retired)
        assert device.retired() == []


def test_a_budget_of_two_images_waits_instead_of_failing() -> None:
    with Device(hostmem=PIXELS * 8 + 16384) as device:
        device.create(1, SIDE, SIDE)
        device.attach(1)
        assert device.set_scanout(0, 1, WHOLE) == OK
        image = device.frame().image
        device.hold(image)
        draw(device, 1)
        assert device.starved()
        draw(device, 2)
        device.release(image)
        assert device.shown() == pixel(2) * PIXELS
        assert device.create(2, SIDE, SIDE) == ERR_OUT_OF_MEMORY


# ---- any order of everything ----

WIDTH, HEIGHT = 24, 16


def rects(width: int, height: int) -> st.SearchStrategy[Rect]:
    return st.tuples(st.integers(0, width - 1), st.integers(0, height - 1)).flatmap(
        lambda at: st.tuples(
            st.just(at[0]), st.just(at[1]), st.integers(1, width - at[0]), st.integers(1, height - at[1])
        )
    )


ids = st.integers(1, 2)
outputs = st.integers(0, 1)
spots = st.one_of(st.just((0, 0, WIDTH, HEIGHT)), rects(WIDTH, HEIGHT))


class Model:
    """A resource's pixels as the guest meant them."""

    def __init__(self) -> None:
        self.pixels = bytearray(WIDTH * HEIGHT * 4)

    def cut(self, rect: Rect) -> bytes:
        x, y, width, height = rect
        rows = ((row * WIDTH + x) * 4 for row in range(y, y + height))
        return b"".join(bytes(self.pixels[start : start + width * 4]) for start in rows)


class Screen:
    """What a sink that applies nothing but damage has on its screen."""

    def __init__(self) -> None:
        self.generation = -1
        self.width = 0
        self.pixels = bytearray()

    def update(self, device: Device, scanout: int) -> None:
        frame, damage = device.frame(scanout), device.damage(scanout)
        if frame.generation != self.generation:
            self.generation, self.width = frame.generation, frame.width
            self.pixels = bytearray(b"\xee" * (frame.width * frame.height * 4))
        if frame.resource == 0:
            return
        shown = device.shown(scanout)
        for x, y, width, height in damage:
            for row in range(y, y + height):
                start = (row * self.width + x) * 4
                self.pixels[start : start + width * 4] = shown[start : start + width * 4]


class Images(RuleBasedStateMachine):
    """Random guests and sinks. Frames in view never change, damage tells of every change, nothing is left behind."""

    hostmem = 64 * MIB

    def __init__(self) -> None:
        super().__init__()
        self.device = Device(hostmem=self.hostmem)
        self.models: dict[int, Model] = {}
        self.wishes: dict[int, tuple[int, Rect]] = {}
        self.unflushed: set[int] = set()
        self.holds: list[int] = []
        self.seen: dict[int, bytes] = {}
        self.screens = [Screen(), Screen()]
        self.value = 0

    def teardown(self) -> None:
        device = self.device
        for image in self.holds:
            device.release(image)
        # What is flushed already needs nothing but the releases.
        for id_ in self.unflushed:
            device.flush(id_, (0, 0, WIDTH, HEIGHT))
        assert not device.starved()
        for scanout, (id_, rect) in self.wishes.items():
            assert device.shown(scanout) == self.models[id_].cut(rect)
        for id_ in list(self.models):
            assert device.unref(id_) == OK
        assert device.used == 0
        self.device.__exit__(None, None, None)

    @initialize(rect=spots)
    def start(self, rect: Rect) -> None:
        self.create(1)
        self.set_scanout(0, 1, (0, 0, WIDTH, HEIGHT))
        self.set_scanout(1, 1, rect)

    @rule(id_=ids)
    def create(self, id_: int) -> None:
        if id_ not in self.models and self.device.create(id_, WIDTH, HEIGHT) == OK:
            self.models[id_] = Model()
            assert self.device.attach(id_) in (OK, ERR_OUT_OF_MEMORY)

    @rule(id_=ids)
    def unref(self, id_: int) -> None:
        if self.models.pop(id_, None):
            assert self.device.unref(id_) == OK
            self.unflushed.discard(id_)
            self.wishes = {scanout: wish for scanout, wish in self.wishes.items() if wish[0] != id_}

    @rule(id_=ids, rect=spots)
    def transfer(self, id_: int, rect: Rect) -> None:
        if id_ not in self.models:
            return
        self.value += 1
        x, y, width, height = rect
        line = pixel(self.value) * width
        for row in range(y, y + height):
            start = (row * WIDTH + x) * 4
            self.device.ram[start : start + width * 4] = line
            self.models[id_].pixels[start : start + width * 4] = line
        assert self.device.transfer(id_, rect, (y * WIDTH + x) * 4) == OK
        self.unflushed.add(id_)

    @rule(id_=ids, rect=spots)
    def flush(self, id_: int, rect: Rect) -> None:
        if id_ in self.models:
            assert self.device.flush(id_, rect) == OK
            if rect == (0, 0, WIDTH, HEIGHT):
                self.unflushed.discard(id_)

    @rule(id_=ids, rect=spots)
    def draw(self, id_: int, rect: Rect) -> None:
        clean = id_ not in self.unflushed
        self.transfer(id_, rect)
        self.flush(id_, rect)
        if clean:
            self.unflushed.discard(id_)

    @rule(scanout=outputs, id_=ids, rect=spots)
    def set_scanout(self, scanout: int, id_: int, rect: Rect) -> None:
        if id_ not in self.models:
            return
        answer = self.device.set_scanout(scanout, id_, rect)
        assert answer in ((OK,) if self.hostmem > MIB else (OK, ERR_OUT_OF_MEMORY))
        if answer == OK:
            self.wishes[scanout] = (id_, rect)

    @rule(scanout=outputs)
    def disable(self, scanout: int) -> None:
        assert self.device.set_scanout(scanout, 0) == OK
        self.wishes.pop(scanout, None)

    @rule(scanout=outputs)
    def hold(self, scanout: int) -> None:
        image = self.device.frame(scanout).image
        if image:
            assert self.device.hold(image) == 0
            self.holds.append(image)

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        image = self.holds.pop(data.draw(st.integers(0, len(self.holds) - 1)))
        self.device.release(image)

    @rule(scanout=outputs)
    def sink(self, scanout: int) -> None:
        self.screens[scanout].update(self.device, scanout)
        if self.device.frame(scanout).resource:
            assert self.screens[scanout].pixels == self.device.shown(scanout)

    @invariant()
    def frames_in_view_do_not_change(self) -> None:
        frames = [self.device.frame(scanout) for scanout in (0, 1)]
        in_view = {*self.holds, *(frame.image for frame in frames if frame.image)}
        for image in [*self.seen]:
            if image not in in_view:
                del self.seen[image]
        for image in in_view:
            data = self.device.image_bytes(image)
            assert self.seen.setdefault(image, data) == data

    @invariant()
    def budget_is_kept(self) -> None:
        assert self.device.used <= self.hostmem

    @invariant()
    def only_holds_make_a_flush_wait(self) -> None:
        if not self.holds:
            assert not self.device.starved()

    @invariant()
    def no_id_retires_in_view(self) -> None:
        assert not set(self.device.retired()) & set(self.holds)


class TightImages(Images):
    """The same with room for few images."""

    hostmem = 3 * (WIDTH * HEIGHT * 4 + 2048) + 4 * (WIDTH * HEIGHT * 4 + 4096)


TestAnyOrder = Images.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyOrderTight = TightImages.TestCase
TestAnyOrderTight.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
