"""--trace: what the core writes for a guest's commands, on every kind of ring, and when the file cannot be had."""

import os
import stat
from pathlib import Path

import pytest

from backend._core import lib
from backend.device import Device
from protocol.trace import HEADER_SIZE, Record, RecordDecoder, RecordKind, TraceHeader
from protocol.virgl import CommandStream
from protocol.virtio_gpu import CommandType, ControlHeader, Format, ResponseType, Unknown
from protocol.virtio_gpu_3d import Submit3d
from tests.vhost_gpu.guestkit import guest_on, own_device
from tests.vhost_gpu.sessionkit import running, shown
from vhost_gpu import trace_file
from vhost_gpu.displays import Displays
from vhost_gpu.guest.driver import F_IN_ORDER, F_RING_PACKED, LINUX_FEATURES, GuestError
from vhost_gpu.guest.driver3d import VIRGL_FEATURES, Gpu3d
from vhost_gpu.guest.framebuffer import define_cursor
from vhost_gpu.trace import Traced, assemble, lines
from vhost_gpu.trace_file import TraceFile


def records_of(path: Path) -> list[Record]:
    data = path.read_bytes()
    TraceHeader.decode(data)
    return RecordDecoder().feed(data[HEADER_SIZE:])


def commands_of(path: Path) -> list[Traced]:
    return list(assemble(records_of(path)))


@pytest.fixture
def device() -> Device:
    return Device(1, 1 << 20, Displays(1, (640, 480)))


@pytest.mark.parametrize(
    "features", [LINUX_FEATURES, LINUX_FEATURES | F_RING_PACKED, LINUX_FEATURES | F_IN_ORDER], ids=hex
)
async def test_every_command_is_in_the_trace(tmp_path: Path, features: int) -> None:
    path = tmp_path / "trace"
    async with running(trace=str(path), features=features) as kit:
        await kit.gpu.display_info()
        await shown(kit.gpu)
        with pytest.raises(GuestError):
            await kit.gpu.command(Unknown(0x777))
        assert len(commands_of(path)) == 7, "they are there while the session runs"
    commands = commands_of(path)
    assert [command.type for command in commands if command.taken.queue == 0] == [
        CommandType.GET_DISPLAY_INFO,
        CommandType.RESOURCE_CREATE_2D,
        CommandType.RESOURCE_ATTACH_BACKING,
        CommandType.SET_SCANOUT,
        CommandType.TRANSFER_TO_HOST_2D,
        CommandType.RESOURCE_FLUSH,
        0x777,
    ]
    for command in commands:
        assert command.answered
        assert command.returned
        assert (command.answered.value == ResponseType.ERR_UNSPEC) == (command.type == 0x777)
        assert command.taken.ns <= command.answered.ns <= command.returned.ns


async def test_cursor_commands_have_their_queue(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    async with running(trace=str(path)) as kit:
        await define_cursor(kit.gpu, bytes(64 * 64 * 4), 0, 0)
    cursors = [command for command in commands_of(path) if command.taken.queue == 1]
    assert [command.type for command in cursors] == [CommandType.UPDATE_CURSOR]


async def test_nothing_is_written_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with running() as kit:
        await shown(kit.gpu)
    assert list(tmp_path.iterdir()) == []


async def test_streams_and_fences_are_in_the_trace(tmp_path: Path) -> None:
    stream = CommandStream()
    stream.string_marker("here it is")
    async with own_device("--virgl", "--trace", str(tmp_path / "{name}.trace")) as device:
        async with guest_on(device, features=VIRGL_FEATURES) as gpu:
            context = await Gpu3d(gpu).context("traced")
            await context.submit(stream.data)
            with pytest.raises(GuestError):
                await gpu.command(Submit3d(bytes(7)), ctx=context.ctx_id)
        assert await device.wait() == 0
    (path,) = tmp_path.iterdir()
    assert path.name == "session-1.trace"
    good, bad = (command for command in commands_of(path) if command.type == CommandType.SUBMIT_3D)
    assert good.stream == stream.data
    assert ControlHeader.decode(good.taken.data).fence_id
    assert good.returned
    assert bad.stream is None
    with path.open("rb") as file:
        assert "SEND_STRING_MARKER [4] text='here it is'" in "\n".join(lines(file))


def test_the_file_is_its_owners(tmp_path: Path, device: Device) -> None:
    trace = TraceFile(device.core, str(tmp_path / "trace-{name}"), "vm")
    path = tmp_path / "trace-vm"
    assert trace.path == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    trace.close()
    trace.close()
    assert records_of(path) == []


def test_an_older_file_stays_with_the_session_that_writes_it(tmp_path: Path, device: Device) -> None:
    path = tmp_path / "trace"
    path.write_bytes(b"older")
    with path.open("rb") as older:
        trace = TraceFile(device.core, str(path), "vm")
        assert older.read() == b"older"
    trace.close()
    assert path.stat().st_size == HEADER_SIZE
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_can_not_be_made(tmp_path: Path, device: Device, caplog: pytest.LogCaptureFixture) -> None:
    assert trace_file.start(device.core, str(tmp_path / "missing" / "trace"), "vm") is None
    assert "no trace" in caplog.text
    assert "No such file or directory" in caplog.text


def test_a_place_where_a_folder_is(tmp_path: Path, device: Device) -> None:
    (tmp_path / "trace").mkdir()
    assert trace_file.start(device.core, str(tmp_path / "trace"), "vm") is None
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]


async def test_a_full_disk_ends_the_trace_and_nothing_else() -> None:
    async with running() as kit:
        full = os.open("/dev/full", os.O_WRONLY)
        lib.vg_trace_start(kit.session.device.core, full)
        await shown(kit.gpu, 64, 48, format_=Format.B8G8R8X8_UNORM)
        assert lib.vg_trace_stop(kit.session.device.core) == 28
        os.close(full)


def test_a_trace_that_is_not_whole_is_told(
    tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    trace = TraceFile(device.core, str(tmp_path / "trace"), "vm")
    monkeypatch.setattr(trace_file, "lib", type("Full", (), {"vg_trace_stop": staticmethod(lambda _core: 28)}))
    trace.close()
    assert "is not whole: No space left on device" in caplog.text


async def test_the_commands_of_a_session_that_dies_are_there(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    async with own_device("--trace", str(path)) as device, guest_on(device) as gpu:
        await gpu.display_info()
        device.process.kill()
        await device.wait()
    kinds = [record.kind for record in records_of(path)]
    assert kinds == [RecordKind.TAKEN, RecordKind.ANSWERED, RecordKind.RETURNED]
