"""Resources of the renderer: made and charged, guest memory lent and taken back, pictures on scanouts, cursors."""

import mmap
import struct

import pytest

from backend._core import ffi, lib
from tests.backend.fake_renderer import fake
from tests.backend.renderkit import (
    RenderKit,
    create_3d,
    ctx_create,
    detach_backing,
    fence,
    fill,
    submit,
    transfer_3d,
    unref,
)
from tests.backend.ringkit import (
    ERR_INVALID_PARAMETER,
    ERR_INVALID_RESOURCE_ID,
    ERR_OUT_OF_MEMORY,
    ERR_UNSPEC,
    OK,
    RAM_GPA,
    attach_backing,
    create_2d,
    flush,
    header,
    move_cursor,
    set_scanout,
    transfer,
    update_cursor,
)

MIB = 1 << 20
RED, BLUE = 0x11223344, 0x55667788
CURSOR = 64


def pixel(value: int, count: int = 1) -> bytes:
    return struct.pack("<I", value) * count


def frame(kit: RenderKit, scanout: int = 0) -> object:
    out = ffi.new("vg_frame *")
    assert lib.vg_scanout_frame(kit.core, scanout, out) == 0
    return out


def shown(kit: RenderKit, scanout: int = 0) -> bytes:
    """The scanout's pixels, rows packed, as a sink sees them."""
    f, image = frame(kit, scanout), ffi.new("vg_image_info *")
    assert lib.vg_image_describe(kit.core, f.image, image) == 0
    with mmap.mmap(image.fd, image.size, mmap.MAP_SHARED, mmap.PROT_READ) as view:
        starts = (row * image.stride + f.x * 4 for row in range(f.y, f.y + f.height))
        return b"".join(view[start : start + f.width * 4] for start in starts)


def cursor(kit: RenderKit) -> object:
    out = ffi.new("vg_cursor *")
    assert lib.vg_cursor_describe(kit.core, 0, out) == 0
    return out


# ---- making


def test_a_resource_is_charged_and_all_is_returned() -> None:
    with RenderKit() as kit:
        used = kit.hostmem_used()
        backing = kit.alloc(4096)
        assert kit.do(create_3d(5, 32, 32), attach_backing(5, [(backing, 4096)])) == [OK, OK]
        assert kit.hostmem_used() >= used + 4096
        assert kit.do(submit(1), unref(5)) == [0x1204, OK]
        assert fake.fake_num_resources() == 0
        assert kit.hostmem_used() - used <= 0x10000  # what streams are copied to


def test_a_thousand_turns_of_a_resource_leave_nothing() -> None:
    with RenderKit(ram_size=8 * MIB) as kit:
        turn = [create_3d(5, 4, 4), attach_backing(5, [(RAM_GPA, 64)]), transfer_3d(5, 4, 4), unref(5)]
        kit.do(*turn)
        used = kit.hostmem_used()
        for _ in range(250):
            assert kit.do_at_once(*turn) == [OK] * 4
        assert kit.hostmem_used() == used


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (create_3d(0, 4, 4), ERR_INVALID_RESOURCE_ID),
        (create_3d(5, 0, 4), ERR_INVALID_PARAMETER),
        (create_3d(5, 4, 4, target=99), ERR_INVALID_PARAMETER),
        (create_3d(5, 1 << 16, 1 << 16), ERR_OUT_OF_MEMORY),
        (create_3d(5, 2**32 - 1, 2**32 - 1, depth=2**32 - 1, array_size=2**32 - 1), ERR_OUT_OF_MEMORY),
    ],
)
def test_resources_that_cannot_be(request_: bytes, response: int) -> None:
    with RenderKit() as kit:
        used = kit.hostmem_used()
        assert kit.do(request_) == [response]
        assert kit.hostmem_used() == used
        assert kit.calls("resource_create") == []


def test_an_id_is_used_once_whatever_its_kind() -> None:
    with RenderKit() as kit:
        kit.do(create_3d(5, 4, 4), create_2d(6, 4, 4))
        again = [create_3d(5, 4, 4), create_3d(6, 4, 4), create_2d(5, 4, 4), create_2d(6, 4, 4)]
        assert kit.do(*again) == [ERR_INVALID_RESOURCE_ID] * 4


def test_the_renderer_refuses_one() -> None:
    with RenderKit() as kit:
        used = kit.hostmem_used()
        fake.fake_fail(b"resource_create", -12)
        assert kit.do(create_3d(5, 4, 4)) == [ERR_OUT_OF_MEMORY]
        fake.fake_fail(b"resource_create", -22)
        assert kit.do(create_3d(5, 4, 4)) == [ERR_INVALID_PARAMETER]
        assert kit.hostmem_used() == used
        fake.fake_fail(b"resource_create", 0)
        assert kit.do(create_3d(5, 4, 4)) == [OK]


# ---- guest memory


def test_transfers_go_both_ways() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 4, 2))
        first, second = kit.place(pixel(RED, 4)), kit.alloc(16)
        assert kit.do(attach_backing(5, [(first, 16), (second, 16)])) == [OK]
        assert kit.do(transfer_3d(5, 4, 1, ctx=1)) == [OK]
        assert kit.pixels(5, 4) == pixel(RED, 4)
        assert kit.do(submit(1, fill(5, BLUE)), transfer_3d(5, 4, 2, to_host=False)) == [OK, OK]
        assert kit.read(first, 16) + kit.read(second, 16) == pixel(BLUE, 8)
        assert kit.calls("transfer") == ["transfer 5 1 1 0 0 0 4x1@0,0 0", "transfer 5 0 0 0 0 0 4x2@0,0 0"]


def test_a_transfer_from_a_new_resource_brings_zeros() -> None:
    with RenderKit() as kit:
        backing = kit.place(b"\xff" * 64)
        kit.do(create_3d(5, 4, 4), attach_backing(5, [(backing, 64)]))
        assert kit.do(transfer_3d(5, 4, 4, to_host=False)) == [OK]
        assert kit.read(backing, 64) == bytes(64)


def test_transfers_that_cannot_be() -> None:
    with RenderKit() as kit:
        kit.do(create_3d(5, 4, 4))
        assert kit.do(transfer_3d(5, 4, 4)) == [ERR_UNSPEC]  # no backing
        kit.do(attach_backing(5, [(RAM_GPA, 64)]))
        assert kit.do(transfer_3d(5, 5, 4), transfer_3d(5, 2**32 - 1, 2**32 - 1)) == [ERR_INVALID_PARAMETER] * 2
        assert kit.do(detach_backing(5), transfer_3d(5, 4, 4), detach_backing(5)) == [OK, ERR_UNSPEC, ERR_UNSPEC]


def test_wrong_backings() -> None:
    with RenderKit() as kit:
        kit.do(create_3d(5, 4, 4))
        used = kit.hostmem_used()
        assert kit.do(attach_backing(5, []), attach_backing(9, [(RAM_GPA, 64)])) == [0x1205, ERR_INVALID_RESOURCE_ID]
        assert kit.do(attach_backing(5, [(1 << 50, 64)])) == [ERR_UNSPEC]
        assert kit.do(attach_backing(5, [(RAM_GPA, 64)], count=2**32 - 1)) == [ERR_INVALID_PARAMETER]
        fake.fake_fail(b"attach_iov", -5)
        assert kit.do(attach_backing(5, [(RAM_GPA, 64)])) == [ERR_UNSPEC]
        fake.fake_fail(b"attach_iov", 0)
        assert kit.hostmem_used() - used <= 0x10000
        assert kit.do(attach_backing(5, [(RAM_GPA, 64)]), attach_backing(5, [(RAM_GPA, 64)])) == [OK, ERR_UNSPEC]
        assert fake.fake_num_iovs() == 1


def test_pieces_across_regions_become_more() -> None:
    with RenderKit() as kit:
        end = kit.ram.gpa + kit.ram.size
        kit.add_ram(end, 4096)
        kit.write(end, pixel(BLUE, 8))
        kit.write(end - 32, pixel(RED, 8))
        kit.do(create_3d(5, 4, 4))
        assert kit.do(attach_backing(5, [(end - 32, 64)]), transfer_3d(5, 4, 4)) == [OK, OK]
        assert kit.calls("attach_iov") == ["attach_iov 5 2"]
        assert kit.pixels(5, 16) == pixel(RED, 8) + pixel(BLUE, 8)


def test_memory_is_taken_back_before_it_goes_and_lent_again() -> None:
    with RenderKit() as kit:
        extra = kit.add_ram(0x4000_0000, 4096)
        extra.write(0x4000_0000, pixel(RED, 16))
        kit.do(ctx_create(1), create_3d(5, 4, 4), attach_backing(5, [(0x4000_0000, 64)]))
        assert extra.remove() == 0
        assert fake.fake_num_iovs() == 0
        lib.vg_render_resume(kit.core)
        assert kit.do(transfer_3d(5, 4, 4), submit(1)) == [ERR_UNSPEC, OK]
        assert extra.add() == 0
        assert kit.do(transfer_3d(5, 4, 4)) == [OK]
        assert kit.pixels(5, 16) == pixel(RED, 16)


def test_memory_that_goes_in_the_middle_of_a_call_waits_for_its_end() -> None:
    with RenderKit() as kit:
        extra = kit.add_ram(0x4000_0000, 4096)
        kit.do(create_3d(5, 4, 4), attach_backing(5, [(0x4000_0000, 64)]))
        with kit.hanging("transfer"):
            kit.post(transfer_3d(5, 4, 4))
            kit.wait_hanging()
            fake.fake_release_soon()
            assert extra.remove() == 0
        assert fake.fake_num_iovs() == 0
        assert kit.collect(1)


# ---- 2D commands


def test_2d_commands_on_resources_of_the_renderer() -> None:
    with RenderKit() as kit:
        backing = kit.place(pixel(RED, 16))
        kit.do(create_3d(5, 4, 4), attach_backing(5, [(backing, 64)]))
        assert kit.do(transfer(5, 4, 4)) == [OK]
        assert kit.calls("transfer") == ["transfer 5 0 1 0 0 0 4x4@0,0 0"]
        assert kit.pixels(5, 16) == pixel(RED, 16)
        assert kit.do(transfer(5, 5, 4), transfer(5, 0, 0), flush(5, 4, 4), flush(5, 5, 5)) == [0x1205, OK, OK, 0x1205]
        assert kit.calls("read_rect") == []


def test_a_3d_transfer_makes_a_plain_resource_the_renderers() -> None:
    with RenderKit() as kit:
        backing = kit.make_resource(4, 4, 4)
        kit.write(backing, pixel(RED, 16))
        assert kit.do(transfer(4, 4, 4), transfer_3d(4, 4, 4, to_host=False)) == [OK, OK]
        assert kit.calls("resource_create") == ["resource_create 4 2 4x4"]
        assert kit.pixels(4, 16) == pixel(RED, 16)


# ---- scanouts


def test_what_is_drawn_comes_to_the_screen_with_a_flush() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 8, 4), submit(1, fill(5, RED)))
        assert kit.do(set_scanout(0, 5, 8, 4)) == [OK]
        kit.wait(lambda: lib.vg_take_dirty(kit.core))
        assert shown(kit) == pixel(RED, 32)
        assert kit.do(submit(1, fill(5, BLUE, 3))) == [OK]
        assert shown(kit) == pixel(RED, 32)
        assert kit.do(flush(5, 8, 4)) == [OK]
        assert shown(kit) == pixel(BLUE, 3) + pixel(RED, 29)


def test_only_the_damage_is_read() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 8, 4), set_scanout(0, 5, 8, 4), submit(1, fill(5, RED)))
        assert kit.do(header(0x104) + struct.pack("<6I", 2, 1, 3, 2, 5, 0)) == [OK]
        assert kit.calls("read_rect") == ["read_rect 5 8x4@0,0", "read_rect 5 3x2@2,1"]
        row = bytes(8) + pixel(RED, 3) + bytes(12)
        assert shown(kit) == bytes(32) + row * 2 + bytes(32)


def test_a_page_flip_is_read_once() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 8, 4), create_3d(6, 8, 4))
        for resource in (5, 6, 5):
            kit.do(submit(1, fill(resource, RED + resource)), set_scanout(0, resource, 8, 4), flush(resource, 8, 4))
            assert shown(kit) == pixel(RED + resource, 32)
        assert kit.calls("read_rect") == ["read_rect 5 8x4@0,0", "read_rect 6 8x4@0,0", "read_rect 5 8x4@0,0"]


def test_two_scanouts_of_one_resource() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 8, 4), submit(1, fill(5, RED)))
        left = header(0x103) + struct.pack("<6I", 0, 0, 4, 4, 0, 5)
        right = header(0x103) + struct.pack("<6I", 4, 0, 4, 4, 1, 5)
        assert kit.do(left, right, submit(1, fill(5, BLUE)), flush(5, 8, 4)) == [OK] * 4
        assert shown(kit, 0) == shown(kit, 1) == pixel(BLUE, 16)


def test_a_frame_in_a_sinks_hands_does_not_change() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 8, 4), submit(1, fill(5, RED)), set_scanout(0, 5, 8, 4))
        held, image = frame(kit).image, ffi.new("vg_image_info *")
        assert lib.vg_image_hold(kit.core, held) == 0
        assert lib.vg_image_describe(kit.core, held, image) == 0
        with mmap.mmap(image.fd, image.size, mmap.MAP_SHARED, mmap.PROT_READ) as view, kit.hanging("read_rect"):
            kit.post(submit(1, fill(5, BLUE)), flush(5, 8, 4))
            kit.wait_hanging()
            assert shown(kit) == pixel(RED, 32)
            fake.fake_release()
            kit.collect(2)
            assert view[:128] == pixel(RED, 32)
        assert shown(kit) == pixel(BLUE, 32)
        lib.vg_image_release(kit.core, held)


def test_a_release_in_the_middle_of_reading_shows_nothing_half_done() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 8, 4))
        kit.do(set_scanout(0, 5, 8, 4))
        held = [frame(kit).image]
        lib.vg_image_hold(kit.core, held[0])
        for colour in range(4):  # until every image is held and a frame waits
            kit.do(submit(1, fill(5, RED + colour)), flush(5, 8, 4))
            if frame(kit).image not in held:
                held.append(frame(kit).image)
                lib.vg_image_hold(kit.core, held[-1])
        before = frame(kit).sequence
        with kit.hanging("read_rect"):
            kit.post(submit(1, fill(5, BLUE)), flush(5, 8, 4))
            kit.wait_hanging()
            for image in held:
                lib.vg_image_release(kit.core, image)
            assert frame(kit).sequence == before
        kit.collect(2)
        assert shown(kit) == pixel(BLUE, 32)


@pytest.mark.parametrize("format_", [31, 64, 130])
def test_what_has_no_pixels_is_not_shown(format_: int) -> None:
    with RenderKit() as kit:
        kit.do(create_3d(5, 64, 64, format_))
        assert kit.do(set_scanout(0, 5, 64, 64)) == [ERR_INVALID_PARAMETER]
        kit.move_cursor(update_cursor(0, 1, 2, 5))
        assert not cursor(kit).visible


@pytest.mark.parametrize(("format_", "seen"), [(1, 1), (100, 1), (101, 2), (67, 67), (104, 67)])
def test_formats_as_sinks_know_them(format_: int, seen: int) -> None:
    with RenderKit() as kit:
        kit.do(create_3d(5, 8, 4, format_), set_scanout(0, 5, 8, 4))
        assert frame(kit).format == seen


def test_a_read_that_fails_shows_nothing_new() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, 8, 4), submit(1, fill(5, RED)), set_scanout(0, 5, 8, 4))
        fake.fake_fail(b"read_rect", -5)
        kit.do(submit(1, fill(5, BLUE)))
        assert kit.do(flush(5, 8, 4)) == [ERR_UNSPEC]
        assert shown(kit) == pixel(RED, 32)
        fake.fake_fail(b"read_rect", 0)
        assert kit.do(flush(5, 8, 4)) == [OK]
        assert shown(kit) == pixel(BLUE, 32)


def test_a_shown_plain_resource_becomes_the_renderers_and_stays_shown() -> None:
    with RenderKit() as kit:
        backing = kit.make_resource(4, 8, 4)
        kit.write(backing, pixel(RED, 32))
        kit.do(transfer(4, 8, 4), set_scanout(0, 4, 8, 4), flush(4, 8, 4))
        kit.do(ctx_create(1), transfer_3d(4, 8, 4, to_host=False))
        assert kit.do(submit(1, fill(4, BLUE)), flush(4, 8, 4)) == [OK, OK]
        assert shown(kit) == pixel(BLUE, 32)
        assert kit.do(unref(4)) == [OK]
        assert frame(kit).resource_id == 0


# ---- cursors


def test_a_cursor_of_the_renderer() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, CURSOR, CURSOR), submit(1, fill(5, RED)))
        kit.move_cursor(update_cursor(0, 10, 20, 5))
        kit.wait(lambda: cursor(kit).visible)
        assert (cursor(kit).x, cursor(kit).y, cursor(kit).resource_id) == (10, 20, 5)
        assert bytes(ffi.buffer(cursor(kit).pixels)) == pixel(RED, CURSOR * CURSOR)


def test_a_cursor_waits_for_the_renderer_and_its_queue_does_not() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, CURSOR, CURSOR))
        kit.make_resource(4, CURSOR, CURSOR)
        with kit.hanging("submit"):
            kit.post(submit(1, fill(5, RED)))
            kit.wait_hanging()
            kit.move_cursor(update_cursor(0, 10, 20, 5))
            kit.move_cursor(move_cursor(0, 11, 21))
            assert (cursor(kit).x, cursor(kit).visible) == (11, 0)
            kit.move_cursor(update_cursor(0, 12, 22, 4))
            assert (cursor(kit).x, cursor(kit).resource_id) == (12, 4)
        kit.collect(1)
        kit.settle_down()
        assert cursor(kit).resource_id == 4  # what came last


def test_a_cursor_hidden_before_its_picture_is_there_stays_hidden() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, CURSOR, CURSOR))
        with kit.hanging("submit"):
            kit.post(submit(1, fill(5, RED)))
            kit.wait_hanging()
            kit.move_cursor(update_cursor(0, 10, 20, 5))
            kit.move_cursor(header(0x301) + struct.pack("<8I", 0, 3, 4, 0, 0, 0, 0, 0))
        kit.collect(1)
        kit.wait(lambda: cursor(kit).resource_id == 5)
        assert not cursor(kit).visible


def test_a_cursor_whose_resource_is_gone_is_no_cursor() -> None:
    with RenderKit() as kit:
        kit.do(ctx_create(1), create_3d(5, CURSOR, CURSOR))
        with kit.hanging("submit"):
            kit.post(submit(1), unref(5))
            kit.wait_hanging()
            kit.move_cursor(update_cursor(0, 10, 20, 5))
            fake.fake_fail(b"read_rect", -5)
        kit.collect(2)
        kit.settle_down()
        assert not cursor(kit).visible


# ---- numbers


def test_a_resource_has_one_uuid_for_life() -> None:
    with RenderKit() as kit:
        kit.do(create_3d(5, 4, 4), create_2d(6, 4, 4))
        uuids = [ffi.new("uint8_t[16]") for _ in range(3)]
        assert [lib.vg_resource_uuid(kit.core, n, out) for n, out in zip((5, 5, 6), uuids, strict=True)] == [OK] * 3
        first, again, other = (bytes(ffi.buffer(uuid)) for uuid in uuids)
        assert first == again != other
        assert first[6] >> 4 == 4
        assert lib.vg_resource_uuid(kit.core, 7, uuids[0]) == ERR_INVALID_RESOURCE_ID


def test_a_resource_of_the_renderer_is_described_and_not_read_here() -> None:
    with RenderKit() as kit:
        kit.do(create_3d(5, 4, 4), attach_backing(5, [(RAM_GPA, 64)]))
        out = ffi.new("vg_resource_info *")
        assert lib.vg_resource_next(kit.core, 0, out) == 1
        assert (out.id, out.width, out.nr_entries, out.entries[0]) == (5, 4, 1, RAM_GPA)
        assert lib.vg_resource_read(kit.core, 5, 0, 0, 1, 1, ffi.new("uint8_t[4]"), 4) == -95


def test_reset_takes_everything_and_3d_works_again() -> None:
    with RenderKit(hold=True) as kit:
        used = kit.hostmem_used()
        for _ in range(3):
            kit.do(ctx_create(1), create_3d(5, 8, 4), attach_backing(5, [(RAM_GPA, 128)]), set_scanout(0, 5, 8, 4))
            kit.post(submit(1, fill(5, RED), **fence(1, 1)))
            kit.settle_down()
            lib.vg_device_reset(kit.core)
            assert (fake.fake_num_resources(), fake.fake_num_contexts()) == (0, 0)
            assert kit.hostmem_used() - used <= 0x10000
            assert frame(kit).resource_id == 0
            kit.collect(1)
