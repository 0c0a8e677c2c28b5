"""Sink 1: the VMM's own display, over the vhost-user-gpu socket that it handed over (GPU_SET_SOCKET).

A rectangle is sent as one UPDATE message, which a VMM draws as a whole: nobody sees half of it. A VMM reads a
message's rest blockingly, so it is a thread's whole business to send it (``vhost_gpu.display_stream``). While the
messages of one frame go out, its image is held; what changes meanwhile adds up and makes the next frame. A VMM that
does not read just gets fewer frames.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from backend._core import lib
from backend.region import Region
from backend.screens import Frame, Screens
from protocol import vhost_user_gpu as dp
from protocol.errors import PeerError
from protocol.virtio_gpu import DisplayOne
from vhost_gpu.display_requests import DisplayRequests
from vhost_gpu.display_stream import DisplayStream
from vhost_gpu.frame_rate import FrameRate
from vhost_gpu.pacer import MAX_REST_NS, SHORTEST_WAIT, Pacer

_READ_SIZE = 4096
_TURN_NS = 300_000
"""After so long the guest's commands get their turn."""

_log = logging.getLogger("vhost_gpu.display")


@dataclass(slots=True)
class _Scanout:
    generation: int = 0
    """Last SCANOUT sent; 0: none."""
    damage: Region = field(default_factory=Region)
    cursor_generation: int = 0
    cursor_visible: bool = False
    cursor_position: tuple[int, int] = (0, 0)


class VmmDisplay:
    """Feeds one display socket and asks it about its outputs, from ``start`` on.

    Args:
        loop: the session's event loop.
        connection: the stream socket; owned from here on.
        screens: what is shown.
        pacer: says when there is time to send.
        num_scanouts: scanouts that the VMM has, 1 to 16.
        on_closed: called once when the VMM has closed it: nothing unusual, a stop or reset does so.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: socket.socket,
        screens: Screens,
        pacer: Pacer,
        num_scanouts: int,
        on_closed: Callable[["VmmDisplay"], None],
    ) -> None:
        self._loop = loop
        self._socket = connection
        self._screens = screens
        self._pacer = pacer
        self._on_closed = on_closed
        self._encoder = dp.DisplayEncoder(num_scanouts)
        self._decoder = dp.ReplyDecoder()
        self._requests = DisplayRequests(loop)
        self._scanouts = [_Scanout() for _ in range(num_scanouts)]
        self._dirty = set(range(num_scanouts))
        self._dirty_cursors = set(range(num_scanouts))
        self._last = -1
        self._queue: list[bytes] = []
        self._writing = False
        self._closed = False
        self._broken_peer = False
        connection.setblocking(False)
        self._stream = DisplayStream(loop, connection, screens, self._pump)
        self._rate = FrameRate(pacer)
        self._waiting: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins. The VMM may have closed its end already: ``on_closed`` is called in here then."""
        self._loop.add_reader(self._socket, self._readable)
        self._screens.sinks.append(self)
        self._ask(self._encoder.get_protocol_features(), dp.ProtocolFeaturesReply, self._features_answered)
        self._pump()

    def close(self) -> None:
        """Ends it; open questions are answered with None, holds given back."""
        if self._closed:
            return
        self._closed = True
        self._screens.sinks.remove(self)
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._stream.close()
        self._socket.close()
        self._end_wait()
        self._requests.close()
        self._on_closed(self)

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._socket.fileno()

    # ---- questions (vhost_gpu.displays.VmmDisplays)

    def ask_display_info(self, answer: Callable[[tuple[DisplayOne, ...] | None], None]) -> None:
        """Asks for the modes of all outputs."""

        def answered(reply: dp.DisplayInfoReply | None) -> None:
            if reply is not None:
                self._encoder.note_display_info(reply.modes)
            answer(None if reply is None else reply.modes)

        self._ask(self._encoder.get_display_info(), dp.DisplayInfoReply, answered)

    def ask_edid(self, scanout: int, answer: Callable[[bytes | None], None]) -> None:
        """Asks for an output's EDID, where the VMM has one to give.

        Whether it has is known from its display information, and Linux asks for the EDID first.
        """
        if self._encoder.has_edid(scanout):
            self._ask_known_edid(scanout, answer)
        else:
            self.ask_display_info(lambda _: self._ask_known_edid(scanout, answer))

    def give_up(self) -> None:
        """Whoever waits for an answer gets None now."""
        self._requests.give_up()

    def _ask_known_edid(self, scanout: int, answer: Callable[[bytes | None], None]) -> None:
        if not self._encoder.has_edid(scanout):
            answer(None)
            return

        def answered(reply: dp.EdidReply | None) -> None:
            # An empty EDID is none.
            answer(reply.edid if reply is not None and len(reply.edid) >= 128 else None)

        self._ask(self._encoder.edid(scanout), dp.EdidReply, answered)

    def _ask(self, message: bytes, reply: type, callback: Callable) -> None:  # type: ignore[type-arg]
        if self._closed or self._broken_peer or self._requests.mute:
            callback(None)
            return
        self._queue.append(message)
        self._requests.ask(reply, callback)
        self._pump()

    def _features_answered(self, reply: dp.ProtocolFeaturesReply | None) -> None:
        if reply is not None:
            self._queue.append(self._encoder.set_protocol_features(reply.features))
            self._pump()

    # ---- Sink

    def scanout_changed(self, scanout: int, damage: Region) -> None:
        """Adds damage; it goes out when the VMM has read what came before."""
        if scanout < len(self._scanouts):
            state = self._scanouts[scanout]
            state.damage.update(damage)
            self._dirty.add(scanout)
            self._rate.note_news()
            if not self._stream.has_picture:  # else its end is the time to look
                self._pump()

    def cursor_changed(self, scanout: int) -> None:
        """Notes a change of picture, position or visibility."""
        if scanout < len(self._scanouts):
            self._dirty_cursors.add(scanout)
            self._pump()

    def images_retired(self, images: list[int]) -> None:
        """Nothing to do: what the socket needs is held."""

    def relieve(self) -> None:
        """Gives up a frame that the VMM has not read for long; all of it goes out again later."""
        given_up = self._stream.relieve()
        if given_up is not None:
            self._scanouts[given_up].damage.set_whole(*self._encoder.size(given_up))
            self._dirty.add(given_up)

    # ---- from the VMM

    def _readable(self) -> None:
        lib.vg_hang_pat()
        try:
            data = self._socket.recv(_READ_SIZE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for reply in self._decoder.feed(data):
                self._requests.answer(reply)
        except PeerError as error:
            # Its pictures may still be welcome: only what it says is not listened to any more.
            _log.warning("the display socket's replies are ignored from now on: %s", error)
            self._broken_peer = True
            self._requests.close()
            self._loop.remove_reader(self._socket)

    # ---- to the VMM

    def _pump(self) -> None:
        """Sends what can be sent now; comes back when the socket has room."""
        if self._closed:
            return
        lib.vg_hang_pat()
        try:
            more = self._send_some()
        except OSError:
            self.close()
            return
        if more != self._writing and not self._closed:
            self._writing = more
            if more:
                self._loop.add_writer(self._socket, self._pacer.offer, self._pump)
            else:
                self._loop.remove_writer(self._socket)

    def _send_some(self) -> bool:
        """Whether something is left to be sent."""
        if self._stream.refresh():
            # A frame that waited for an image may come out; not from here, where we may be in the middle of one.
            self._loop.call_soon(self._screens.publish)
        end = time.monotonic_ns() + _TURN_NS
        while self._stream.has_room and time.monotonic_ns() < end:
            if not self._send_next():
                return False
        return not self._stream.busy

    def _send_next(self) -> bool:
        """Sends one message; False when there was none."""
        if self._stream.has_rest:
            self._stream.send_rest()
            return True
        if self._queue:
            self._stream.send([self._queue.pop(0)])
            return True
        while self._dirty_cursors:
            if self._send_cursor(self._dirty_cursors.pop()):
                return True
        return not self._stream.has_picture and any(map(self._begin, self._in_turn()))

    def _in_turn(self) -> list[int]:
        """Scanouts with news, those behind the one that was sent last first."""
        return sorted(self._dirty, key=lambda index: (index - self._last - 1) % len(self._scanouts))

    def _send_cursor(self, index: int) -> bool:
        state = self._scanouts[index]
        cursor = self._screens.cursor(index)
        position = (cursor.x, cursor.y)
        if cursor.visible and cursor.generation != state.cursor_generation:
            self._stream.send(
                [self._encoder.cursor_update(index, *position, cursor.hot_x, cursor.hot_y, cursor.pixels)]
            )
        elif cursor.visible != state.cursor_visible or position != state.cursor_position:
            self._stream.send([self._encoder.cursor_pos(index, *position, visible=cursor.visible)])
        else:
            return False
        state.cursor_generation = cursor.generation
        state.cursor_visible = cursor.visible
        state.cursor_position = position
        return True

    def _begin(self, index: int) -> bool:
        """Takes the scanout's news: a mode change is sent, a frame begun. False: nothing is to be sent now."""
        state = self._scanouts[index]
        frame = self._screens.frame(index)
        if frame.generation != state.generation:
            self._send_mode(index, state, frame)
            return True
        if self._must_wait():
            return False
        frame = self._screens.hold_shown(index)
        try:
            return self._begin_frame(index, state, frame)
        finally:
            self._screens.release(frame.image)

    def _begin_frame(self, index: int, state: _Scanout, frame: Frame) -> bool:
        if frame.generation != state.generation:
            return True  # the render thread has changed the mode since: this comes first
        self._dirty.discard(index)
        pixels = 0
        if frame.resource_id:
            pixels = self._stream.send_picture(index, frame, state.damage, self._encoder.size(index))
        state.damage.clear()
        if not pixels:
            return False
        self._last = index
        self._rate.begin(pixels * 4)
        return True

    def _must_wait(self) -> bool:
        wait = self._rate.wait_ns
        if wait > 0:
            self._wait(wait)
        return wait > 0

    def _wait(self, wait_ns: int) -> None:
        if self._waiting is None:
            self._waiting = self._loop.call_later(max(wait_ns / 1e9, SHORTEST_WAIT), self._wait_is_over)

    def _end_wait(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _wait_is_over(self) -> None:
        self._end_wait()
        if not self._pacer.offer(self._pump):
            self._wait(MAX_REST_NS)

    def _send_mode(self, index: int, state: _Scanout, frame: Frame) -> None:
        was_silent = not state.generation and not frame.resource_id
        state.generation = frame.generation
        state.damage.set_whole(frame.width, frame.height)
        if not was_silent:  # a scanout that never showed anything needs no clearing
            self._stream.send([self._encoder.scanout(index, frame.width, frame.height)])
