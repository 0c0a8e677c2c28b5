"""Reads VirGL streams for tests: nothing but headers and words."""

import struct

from protocol.virgl_const import Command


def commands(stream):
    """Each command: its name, the kind of object, the words after its header."""
    found, at = [], 0
    while at < len(stream):
        command, kind, words = struct.unpack_from("<BBH", stream, at)
        found.append((Command(command), kind, struct.unpack_from(f"<{words}I", stream, at + 4)))
        at += 4 + 4 * words
    assert at == len(stream)
    return found
