"""Writes the programs that the fuzz targets begin with: frames, cursors, memory that goes, 3D. Argument: the folder.

The encoding is that of ``step`` and ``build`` in fuzz_ring.c; what a change there breaks is only the head start.
"""

import sys
from pathlib import Path

TRANSFER, FLUSH, CREATE, ATTACH, SCANOUT, MOVE, UPDATE_CURSOR, UNREF, DETACH, BLOB, BLOB_SCANOUT = range(11)
CONTEXT, END_CONTEXT, JOIN, LEAVE, CREATE_3D, TO_HOST, FROM_HOST, SUBMIT = range(0x78, 0x80)
"""Of fuzz_render alone."""
CONTROL, CURSOR = 0x00, 0x10
DRAIN, HOLD, ANSWER, LOOK, RESTART, MEMORY, SHRINK, RESET = 4, 6, 7, 10, 12, 13, 14, 15
FEATURES = {"split": 1, "plain": 0, "packed": 3, "order": 5, "packed-order": 7}
"""Kinds of rings by the first byte: 1 event index, 2 packed, 4 in order."""


def command(kind: int, resource: int, queue: int = CONTROL, indirect: bool = False, which: int = 0) -> bytes:
    """A well-formed command for resource 1 (5x5), 2 (64x64) or 3 (300x300), with room for its reply.

    ``which``: of a blob's pictures.
    """
    return bytes([queue, kind, {1: 12, 2: 4, 3: 8}[resource] | which, 0x14 if indirect else 0x04, 24])


def setup(resource: int) -> bytes:
    return b"".join(command(kind, resource, indirect=True) for kind in (CREATE, ATTACH, SCANOUT)) + bytes([DRAIN])


def frame(resource: int) -> bytes:
    return command(TRANSFER, resource, indirect=True) + command(FLUSH, resource, indirect=True) + bytes([DRAIN])


def flip(resource: int, which: int = 0) -> bytes:
    show = command(BLOB_SCANOUT, resource, indirect=True, which=which)
    return show + command(FLUSH, resource, indirect=True) + bytes([DRAIN])


def blob(resource: int) -> bytes:
    return command(BLOB, resource, indirect=True) + flip(resource)


def render(resource: int, *kinds: int, fenced: bool = True) -> bytes:
    sent = b"".join(command(kind, resource, indirect=True, which=fenced) for kind in kinds)
    return sent + bytes([DRAIN])


def drawn(resource: int) -> bytes:
    """A 3D resource with backing in a context, drawn, transferred and shown."""
    made = render(resource, CONTEXT, CREATE_3D, ATTACH, JOIN, SUBMIT) + render(resource, TO_HOST, FROM_HOST)
    return made + render(resource, SCANOUT, FLUSH) + bytes([LOOK])


def late(program: bytes) -> bytes:
    """With fences that are told of afterwards."""
    return bytes([SHRINK, 1]) + program + bytes([SHRINK, 0, DRAIN])


PROGRAMS = {
    "3d": drawn(2) + drawn(1) + render(2, SUBMIT, FLUSH) + bytes([LOOK]) + render(2, LEAVE, UNREF, END_CONTEXT),
    "3d-late": late(drawn(2))
    + late(render(2, SUBMIT, SUBMIT, FLUSH))
    + late(render(2, SUBMIT, END_CONTEXT))
    + drawn(2),
    "3d-reset": drawn(2)
    + bytes([SHRINK, 1])
    + render(2, SUBMIT, SUBMIT)
    + bytes([RESET])
    + drawn(2)
    + bytes([RESTART]),
    "3d-memory": drawn(2) + bytes([MEMORY | CURSOR, 0]) + render(2, TO_HOST, SUBMIT) + bytes([MEMORY, 1]) + drawn(3),
    "3d-cursor": drawn(2) + command(UPDATE_CURSOR, 2, CURSOR) + bytes([DRAIN | CURSOR, DRAIN, LOOK]) + drawn(2),
    "3d-of-2d": setup(1)
    + frame(1)
    + render(1, CONTEXT, JOIN, SUBMIT, TRANSFER, FLUSH, TO_HOST)
    + render(1, DETACH, UNREF),
    "3d-fails": drawn(1) + b"".join(bytes([SHRINK, 4 * n | 2]) + drawn(2) + render(2, UNREF) for n in range(6)),
    "blob": blob(1) + flip(1) + command(FLUSH, 1) + bytes([DRAIN, LOOK]) + command(UNREF, 1) + bytes([DRAIN]),
    "blobs": blob(1) + blob(3) + flip(1) + flip(3) + bytes([LOOK]) + flip(1) + bytes([LOOK, RESET]) + blob(3),
    "blob-pictures": blob(2) + b"".join(flip(2, n) + bytes([LOOK]) for n in (1, 2, 3, 0, 2, 1, 0)) + bytes([RESET]),
    "blob-cursor": command(BLOB, 2, indirect=True) + command(UPDATE_CURSOR, 2, CURSOR) + bytes([DRAIN, DRAIN | CURSOR]),
    "blob-memory": blob(3) + bytes([MEMORY | CURSOR, 0]) + flip(3) + blob(1) + bytes([SHRINK | CURSOR]) + flip(1),
    "blob-backing": blob(2) + command(DETACH, 2) + command(FLUSH, 2) + command(ATTACH, 2) + bytes([DRAIN]) + flip(2),
    "frame": setup(1) + frame(1) + bytes([LOOK]) + frame(1) * 3 + bytes([LOOK, RESET]),
    "large": setup(3) + frame(3) + command(MOVE, 3, CURSOR) + frame(3) + bytes([LOOK]) + frame(3) * 6 + bytes([LOOK]),
    "cursor": setup(2) + frame(2) + command(UPDATE_CURSOR, 2, CURSOR) + bytes([DRAIN | CURSOR]),
    "two": setup(1) + setup(2) + frame(1) + frame(2) + command(UNREF, 1) + command(DETACH, 2) + bytes([DRAIN, LOOK]),
    "held": command(CREATE, 1) + command(ATTACH, 1) + bytes([HOLD, ANSWER, DRAIN, RESTART]) + frame(1),
    "memory": setup(2) + frame(2) + bytes([MEMORY | CURSOR, 0]) + frame(2) + bytes([RESTART, MEMORY, 1]) + frame(2),
    "shrunk": setup(1) + bytes([SHRINK | CURSOR]) + frame(1) + bytes([SHRINK]) + frame(1),
}


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in PROGRAMS.items():
        for kind, features in FEATURES.items():
            (folder / f"{name}-{kind}").write_bytes(bytes([features]) + program)


if __name__ == "__main__":
    main()
