"""vhost-gpu-trace: records put together, lines for people, filters, damaged files, exit codes."""

import io
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import PeerError
from protocol.trace import Record, RecordKind, TraceHeader
from protocol.virgl import CommandStream
from protocol.virtio_gpu import (
    Command,
    CommandType,
    HeaderFlag,
    Rect,
    ResourceAttachBacking,
    ResourceFlush,
    ResponseType,
)
from protocol.virtio_gpu_3d import CtxCreate, ResourceCreate3d, Submit3d
from vhost_gpu import trace
from vhost_gpu.trace import MAX_PENDING, assemble, lines, main

BEGUN = 5_000_000_000
OK = ResponseType.OK_NODATA
FLUSH = ResourceFlush(Rect(0, 0, 640, 480), 7)


def taken(command: Command | bytes, chain: int = 0, ns: int = 0, queue: int = 0, **header: int) -> Record:
    data = command if isinstance(command, bytes) else command.encode(**header)
    return Record(RecordKind.TAKEN, queue, chain, 24, len(data), BEGUN + ns, data[:96])


def answered(chain: int = 0, ns: int = 0, kind: int = OK, queue: int = 0) -> Record:
    return Record(RecordKind.ANSWERED, queue, chain, kind, 0, BEGUN + ns)


def returned(chain: int = 0, ns: int = 0, queue: int = 0) -> Record:
    return Record(RecordKind.RETURNED, queue, chain, 24, 0, BEGUN + ns)


def streamed(data: bytes, chain: int = 0) -> Record:
    return Record(RecordKind.STREAM, 0, chain, 0, 0, BEGUN, data)


def file_of(*records: Record) -> io.BytesIO:
    day = 1_700_000_000 * 10**9
    return io.BytesIO(TraceHeader(day, BEGUN).encode() + b"".join(record.encode() for record in records))


def printed(*records: Record, only: Sequence[int] = (), streams: bool = True) -> list[str]:
    first, *rest = lines(file_of(*records), frozenset(only), streams)
    assert first == "trace begun 2023-11-14 22:13:20 UTC"
    return rest


def stream() -> bytes:
    commands = CommandStream()
    commands.set_sub_context(3)
    return bytes(commands.data)


def test_a_command_in_a_line() -> None:
    assert printed(taken(FLUSH, ns=1_500_000), answered(ns=1_542_500), returned(ns=1_543_000)) == [
        "    0.001500 control RESOURCE_FLUSH rect=0,0+640x480 resource_id=7 [48+24 bytes] -> OK_NODATA in 42.5 us"
    ]


def test_a_submission_with_its_stream_and_a_fence_that_took_its_time() -> None:
    flags = HeaderFlag.FENCE | HeaderFlag.INFO_RING_IDX
    command = taken(Submit3d(stream()), flags=flags, fence_id=12, ctx_id=2, ring_idx=1)
    assert printed(command, streamed(stream()), answered(ns=1000), returned(ns=3_000_000)) == [
        "    0.000000 control SUBMIT_3D ctx=2 ring=1 fence=12 size=8 [40+24 bytes]"
        " -> OK_NODATA in 1.0 us, returned after 3.00 ms\n"
        "                  0 SET_SUB_CTX [1] number=3"
    ]


def test_numbers_of_3d_have_names() -> None:
    (line,) = printed(taken(ResourceCreate3d(7, 2, 1, 0x40002, 64, 64, flags=1)))
    assert "target=TEXTURE_2D format=B8G8R8A8_UNORM bind=RENDER_TARGET|SCANOUT" in line
    assert "flags=Y_0_TOP" in line


def test_a_contexts_name_is_text() -> None:
    (line,) = printed(taken(CtxCreate(b"b\xffalls"), ctx_id=1))
    assert "CTX_CREATE ctx=1 debug_name='b\ufffdalls' context_init=0 " in line


def test_the_variable_part_of_a_command_is_left_out() -> None:
    (line,) = printed(taken(ResourceAttachBacking(7, 20, bytes(320))), answered(), returned())
    assert "RESOURCE_ATTACH_BACKING resource_id=7 nr_entries=20 [352+24 bytes] -> OK_NODATA in 0.0 us" in line


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (taken(b"abc"), "no command: 3 bytes"),
        (taken(FLUSH.encode()[:30]), "RESOURCE_FLUSH malformed='30 bytes are too few"),
        (taken(Submit3d(b"").encode()[:26]), "SUBMIT_3D [26+24 bytes]"),
        (taken(struct.pack("<IIQII", 0x777, 4, 0, 0, 0)), "command 0x777 flags=0x4 [24+24 bytes]"),
        (taken(FLUSH, queue=1), "cursor "),
        (taken(FLUSH, queue=9), "queue 9"),
    ],
    ids=["short", "shorter", "submission", "unknown", "cursor", "queue"],
)
def test_what_is_no_ordinary_command(record: Record, words: str) -> None:
    (line,) = printed(record)
    assert words in line
    assert line.endswith("-> not answered")


def test_answers() -> None:
    (line,) = printed(taken(FLUSH), answered(kind=0x1203), returned())
    assert "-> ERR_INVALID_RESOURCE_ID in" in line
    (line,) = printed(taken(FLUSH), answered(kind=0x7777), returned())
    assert "-> response 0x7777 in" in line
    (line,) = printed(taken(FLUSH), answered(ns=5))
    assert line.endswith("-> OK_NODATA in 0.0 us, not returned")


def test_filters() -> None:
    records = [
        taken(FLUSH),
        answered(),
        returned(),
        taken(Submit3d(stream())),
        streamed(stream()),
        answered(),
        returned(),
    ]
    assert len(printed(*records)) == 2
    (line,) = printed(*records, only=[CommandType.SUBMIT_3D], streams=False)
    assert "SUBMIT_3D" in line
    assert "SET_SUB_CTX" not in line


def test_commands_come_in_the_order_in_which_they_were_taken() -> None:
    records = [taken(FLUSH, 0), taken(FLUSH, 1), taken(FLUSH, 0, queue=1)]
    ends = [answered(1), returned(1), answered(0), returned(0), answered(0, queue=1), returned(0, queue=1)]
    order = [(traced.taken.queue, traced.taken.chain) for traced in assemble([*records, *ends])]
    assert order == [(0, 0), (0, 1), (1, 0)]


def test_an_id_that_comes_again() -> None:
    first, second, third = assemble(
        [taken(FLUSH, ns=1), returned(), taken(FLUSH, ns=2), taken(FLUSH, ns=3), returned()]
    )
    assert first.returned
    assert second.ended, "its queue was started anew"
    assert not second.returned
    assert third.returned


def test_the_end_of_a_command_that_was_never_taken() -> None:
    assert list(assemble([answered(5), streamed(b"", 5), returned(5)])) == []


def test_one_command_that_never_ends_does_not_keep_the_others() -> None:
    def records():
        yield taken(FLUSH, 0xFFFF)
        for number in range(2 * MAX_PENDING):
            yield taken(FLUSH, number % 8)
            yield returned(number % 8)
        raise AssertionError("all were asked for")

    some = assemble(records())
    assert next(some).taken.chain == 0xFFFF
    assert next(some).taken.chain == 0


def test_a_trace_that_ends_inside_a_record() -> None:
    data = file_of(taken(FLUSH), answered(), returned()).getvalue()
    found = list(lines(io.BytesIO(data[:-1])))
    assert found[1].endswith("not returned")
    assert found[2] == "the trace ends inside a record, 31 bytes into it"


@given(st.binary(max_size=300))
def test_noise_after_the_header(noise: bytes) -> None:
    try:
        list(lines(io.BytesIO(TraceHeader(1, 2).encode() + noise)))
    except PeerError:
        return


@given(st.integers(0, 9), st.sampled_from([0, *CommandType]), st.binary(max_size=92), st.binary(max_size=40))
def test_records_of_noise(kind: int, command: int, noise: bytes, more: bytes) -> None:
    first = Record(RecordKind.TAKEN, 0, 1, 0, 0, 0, struct.pack("<I", command) + noise)
    assert list(lines(file_of(first, Record(kind, 0, 1, 0, 0, 0, more), streamed(more, 1))))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "trace"
    path.write_bytes(file_of(taken(FLUSH), answered(), returned()).getvalue())
    return path


def test_the_command_prints_a_file(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(saved), "--only", "resource_flush,SUBMIT_3D", "--no-streams"]) == 0
    assert "RESOURCE_FLUSH" in capsys.readouterr().out
    assert main([str(saved), "--only=SUBMIT_3D"]) == 0
    assert "RESOURCE_FLUSH" not in capsys.readouterr().out


def test_exit_codes(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(saved), "--only", "NOTHING"]) == 2
    assert "NOTHING is no command; they are GET_DISPLAY_INFO" in capsys.readouterr().err
    assert main([str(tmp_path / "missing")]) == 1
    assert "No such file" in capsys.readouterr().err
    saved.write_bytes(b"what is this")
    assert main([str(saved)]) == 1
    assert capsys.readouterr().err == f"vhost-gpu-trace: {saved}: this is no trace\n"


def test_a_reader_that_has_seen_enough(saved: Path) -> None:
    saved.write_bytes(file_of(*[taken(FLUSH), answered(), returned()] * 5000).getvalue())
    with subprocess.Popen([sys.executable, "-m", trace.__name__, str(saved)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"trace begun")
        process.stdout.close()
        assert process.wait(30) == 0
