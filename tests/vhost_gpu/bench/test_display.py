"""The display that is drained in C."""

import socket
import struct

import pytest

from protocol.vhost_user_gpu import (
    CursorPos,
    CursorUpdate,
    DisplayInfoReply,
    EdidReply,
    GetDisplayInfo,
    GetEdid,
    GetProtocolFeatures,
    ProtocolFeaturesReply,
    ReplyDecoder,
    Scanout,
    SetProtocolFeatures,
    Update,
)
from vhost_gpu.bench.display import DrainedDisplay
from vhost_gpu.guest.display import plain_edid


@pytest.fixture
def display():
    """A display of one output."""
    display = DrainedDisplay([(800, 600)])
    yield display
    display.close()


def drawn_after(display, *messages):
    """What the display has counted when it has read all of these."""
    with display.open() as sock:
        sock.sendall(b"".join(message.encode() for message in messages))
        answer(sock, GetProtocolFeatures())
    return display.drawn()


def answer(sock, question):
    """The answer to a question: whole, and nothing more."""
    sock.sendall(question.encode())
    data = sock.recv(4096)
    decoder = ReplyDecoder()
    (reply,) = decoder.feed(data)
    return reply


def test_questions_are_answered(display):
    with display.open() as sock:
        assert answer(sock, GetProtocolFeatures()) == ProtocolFeaturesReply(1)
        reply = answer(sock, GetDisplayInfo())
        assert isinstance(reply, DisplayInfoReply)
        assert (reply.modes[0].rect.width, reply.modes[0].rect.height) == (800, 600)
        assert [mode.enabled for mode in reply.modes[:2]] == [True, False]
        assert answer(sock, GetEdid(0)) == EdidReply(plain_edid())


def test_pixels_are_counted(display):
    drawn = drawn_after(
        display,
        SetProtocolFeatures(1),
        Scanout(0, 20, 10),
        Update(0, 0, 0, 20, 10, bytes(800)),
        Update(0, 19, 9, 1, 1, bytes(4)),
    )
    assert (drawn.updates, drawn.pixel_bytes, drawn.violations) == (2, 804, 0)


def test_cursors_are_counted(display):
    drawn = drawn_after(
        display, CursorPos(0, 1, 2), CursorPos(0, 1, 2, False), CursorUpdate(0, 1, 2, 0, 0, bytes(16384))
    )
    assert (drawn.cursor_moves, drawn.cursor_updates, drawn.violations) == (2, 1, 0)


@pytest.mark.parametrize(
    "update",
    [
        Update(0, 1, 0, 20, 10, bytes(800)),
        Update(0, 0, 1, 20, 10, bytes(800)),
        Update(0, 2**32 - 1, 0, 20, 10, bytes(800)),
        Update(1, 0, 0, 1, 1, bytes(4)),
        Update(99, 0, 0, 1, 1, bytes(4)),
        Update(0, 0, 0, 2, 2, bytes(12)),
    ],
)
def test_drawing_outside_is_noted(display, update):
    drawn = drawn_after(display, Scanout(0, 20, 10), update)
    assert (drawn.updates, drawn.violations) == (0, 1)


@pytest.mark.parametrize("size", [(16385, 1), (1, 16385)])
def test_sizes_that_no_vmm_holds_are_noted(display, size):
    assert drawn_after(display, Scanout(0, *size)).violations == 1


def test_an_unknown_message_is_noted(display):
    class Odd:
        def encode(self):
            return struct.pack("=III", 77, 0, 3) + b"abc"

    assert drawn_after(display, Odd()).violations == 1


def test_a_new_socket_ends_the_old_one(display):
    with display.open() as first, display.open() as second:
        assert first.recv(1) == b""
        assert answer(second, GetProtocolFeatures()) == ProtocolFeaturesReply(1)


def test_the_other_end_may_close_first(display):
    with display.open() as sock:
        sock.shutdown(socket.SHUT_RDWR)
    display.close()
    assert display.drawn().messages == 0
