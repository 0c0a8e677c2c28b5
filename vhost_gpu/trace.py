"""The command `vhost-gpu-trace`: prints what `vhost-gpu --trace FILE` wrote, one line a command, in order.

A line has the time since the trace began, the command with its fields, and its answer with how long that took; where a
fence held the command back, also when the guest got it. Below SUBMIT_3D comes its stream.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import struct
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from protocol.errors import ConfigError, PeerError
from protocol.trace import HEADER_SIZE, Record, RecordDecoder, RecordKind, TraceHeader
from protocol.virgl_const import Bind, ResourceFlag, Target
from protocol.virgl_decode import decode_stream, show
from protocol.virgl_format import VirglFormat
from protocol.virgl_state import named
from protocol.virtio_gpu import HEADER_SIZE as COMMAND_HEADER_SIZE
from protocol.virtio_gpu import CommandType, ControlHeader, Format, HeaderFlag, ResponseType, Unknown
from protocol.virtio_gpu_3d import decode_any_command
from vhost_gpu import __version__

PROGRAM = "vhost-gpu-trace"
MAX_PENDING = 4096
"""Commands that wait for their end before the oldest is printed without."""
_CHUNK = 1 << 20
_QUEUES = ("control", "cursor ")

# Commands with a variable part, which the trace leaves out: their fixed members.
_HEADS: dict[int, tuple[str, tuple[str, ...]]] = {
    CommandType.SUBMIT_3D: ("<I", ("size",)),
    CommandType.RESOURCE_ATTACH_BACKING: ("<II", ("resource_id", "nr_entries")),
    CommandType.RESOURCE_CREATE_BLOB: (
        "<IIIIQQ",
        ("resource_id", "blob_mem", "blob_flags", "nr_entries", "blob_id", "size"),
    ),
}
_KINDS: dict[tuple[int, str], type[Any]] = {
    (CommandType.RESOURCE_CREATE_2D, "format"): Format,
    (CommandType.SET_SCANOUT_BLOB, "format"): Format,
    (CommandType.RESOURCE_CREATE_3D, "format"): VirglFormat,
    (CommandType.RESOURCE_CREATE_3D, "target"): Target,
    (CommandType.RESOURCE_CREATE_3D, "bind"): Bind,
    (CommandType.RESOURCE_CREATE_3D, "flags"): ResourceFlag,
}


@dataclass(slots=True)
class Traced:
    """One command, put together from its records."""

    taken: Record
    stream: bytes | None = None
    answered: Record | None = None
    returned: Record | None = None
    ended: bool = False
    """Nothing more comes of it."""

    @property
    def type(self) -> int:
        """The type in its header; 0 where there is none."""
        return int.from_bytes(self.taken.data[:4], "little")


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a trace. Exit codes: 0 printed, 1 the file can't be read, 2 usage."""
    arguments = parser().parse_args(argv)
    try:
        only = _types(arguments.only)
        with open(arguments.file, "rb") as file:
            for line in lines(file, only, arguments.streams):
                print(line)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever read has seen enough
    except ConfigError as error:
        return _fail(str(error), 2)
    except PeerError as error:
        return _fail(f"{arguments.file}: {error}", 1)
    except OSError as error:
        return _fail(f"can't read {arguments.file}: {error.strerror or error}", 1)
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        PROGRAM, description="Prints the trace of a session: what the daemon wrote.", allow_abbrev=False
    )
    result.add_argument("file", type=Path, help="the trace")
    result.add_argument("--no-streams", dest="streams", action="store_false", help="leave the streams of SUBMIT_3D out")
    result.add_argument(
        "--only", action="append", default=[], metavar="TYPE", help="only these commands, say SUBMIT_3D,RESOURCE_FLUSH"
    )
    result.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    return result


def _types(only: Sequence[str]) -> frozenset[int]:
    """Types by their names; raises ConfigError for one that is none. Empty: all."""
    names = [name for group in only for name in group.upper().split(",") if name]
    for name in names:
        if name not in CommandType.__members__:
            raise ConfigError(f"{name} is no command; they are {', '.join(CommandType.__members__)}")
    return frozenset(CommandType[name] for name in names)


def _fail(text: str, code: int) -> int:
    print(f"{PROGRAM}: {text}", file=sys.stderr)
    return code


def lines(file: BinaryIO, only: frozenset[int] = frozenset(), streams: bool = True) -> Iterator[str]:
    """The lines for a trace, as far as it goes. PeerError where the file is none or is damaged."""
    header = TraceHeader.decode(file.read(HEADER_SIZE))
    yield f"trace begun {datetime.fromtimestamp(header.day_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
    decoder = RecordDecoder()
    for traced in assemble(_records(file, decoder)):
        if not only or traced.type in only:
            yield describe(traced, header.ns, streams)
    if decoder.rest:
        yield f"the trace ends inside a record, {decoder.rest} bytes into it"


def _records(file: BinaryIO, decoder: RecordDecoder) -> Iterator[Record]:
    while chunk := file.read(_CHUNK):
        yield from decoder.feed(chunk)


def assemble(records: Iterable[Record]) -> Iterator[Traced]:
    """Commands in the order in which they were taken, each when nothing more comes of it."""
    waiting: dict[tuple[int, int], Traced] = {}
    order: deque[Traced] = deque()
    for record in records:
        key = (record.queue, record.chain)
        if record.kind == RecordKind.TAKEN:
            if key in waiting:  # its queue was started anew
                waiting[key].ended = True
            waiting[key] = Traced(record)
            order.append(waiting[key])
        elif key in waiting:
            _note(waiting[key], record)
            if waiting[key].ended:
                del waiting[key]
        while order and (order[0].ended or len(order) > MAX_PENDING):
            yield order.popleft()
    yield from order


def _note(traced: Traced, record: Record) -> None:
    if record.kind == RecordKind.STREAM:
        traced.stream = record.data
    elif record.kind == RecordKind.ANSWERED:
        traced.answered = record
    elif record.kind == RecordKind.RETURNED:
        traced.returned, traced.ended = record, True


def describe(traced: Traced, begun_ns: int, streams: bool = True) -> str:
    """The lines for one command."""
    taken = traced.taken
    queue = _QUEUES[taken.queue] if taken.queue < len(_QUEUES) else f"queue {taken.queue}"
    line = f"{(taken.ns - begun_ns) / 1e9:12.6f} {queue} {_request(taken)} -> {_outcome(traced)}"
    if traced.stream is None or not streams:
        return line
    return "\n".join([line, *(_indented(str(command)) for command in decode_stream(traced.stream))])


def _indented(text: str) -> str:
    return "\n".join(f"             {line}" for line in text.splitlines())


def _request(taken: Record) -> str:
    data = taken.data
    if len(data) < COMMAND_HEADER_SIZE:
        return f"no command: {taken.extra} bytes"
    header = ControlHeader.decode(data)
    kind = named(CommandType, header.type)
    name = kind.name if isinstance(kind, CommandType) else f"command {header.type:#x}"
    parts = [name, *_header_fields(header), *(f"{key}={show(value)}" for key, value in _fields(header.type, data))]
    return " ".join(parts) + f" [{taken.extra}+{taken.value} bytes]"


def _header_fields(header: ControlHeader) -> Iterator[str]:
    if header.ctx_id:
        yield f"ctx={header.ctx_id}"
    if header.flags & HeaderFlag.INFO_RING_IDX:
        yield f"ring={header.ring_idx}"
    if header.flags & HeaderFlag.FENCE:
        yield f"fence={header.fence_id}"
    if rest := header.flags & ~int(HeaderFlag.INFO_RING_IDX | HeaderFlag.FENCE):
        yield f"flags={rest:#x}"


def _fields(kind: int, data: bytes) -> Iterator[tuple[str, Any]]:
    if kind in _HEADS:
        layout, names = _HEADS[kind]
        body = data[COMMAND_HEADER_SIZE : COMMAND_HEADER_SIZE + struct.calcsize(layout)]
        if len(body) == struct.calcsize(layout):
            yield from zip(names, struct.unpack(layout, body), strict=True)
        return
    try:
        command = decode_any_command(data)
    except PeerError as error:
        yield "malformed", str(error)
        return
    if isinstance(command, Unknown):
        return
    for field in dataclasses.fields(command):  # type: ignore[arg-type]
        value = getattr(command, field.name)
        if field.name == "debug_name":
            value = value.decode(errors="replace")
        yield field.name, named(_KINDS[kind, field.name], value) if (kind, field.name) in _KINDS else value


def _outcome(traced: Traced) -> str:
    if traced.answered is None:
        return "not answered"
    kind = named(ResponseType, traced.answered.value)
    name = kind.name if isinstance(kind, ResponseType) else f"response {traced.answered.value:#x}"
    took = traced.answered.ns - traced.taken.ns
    parts = [f"{name} in {_time(took)}"]
    if traced.returned is None:
        parts.append("not returned")
    elif traced.returned.ns - traced.answered.ns > max(took, 10_000):
        parts.append(f"returned after {_time(traced.returned.ns - traced.taken.ns)}")
    return ", ".join(parts)


def _time(ns: int) -> str:
    return f"{ns / 1e3:.1f} us" if ns < 1_000_000 else f"{ns / 1e6:.2f} ms"


if __name__ == "__main__":
    sys.exit(main())
