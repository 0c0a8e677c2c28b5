"""A session process: one VMM connection, its device and its sinks (``python -m vhost_gpu.session --control-fd N``).

The supervisor starts it by exec and speaks to it over the control channel: ``start`` brings the VMM connection,
``viewer`` a viewer. The session ends when the VMM closes, when the supervisor says so, or when the supervisor is gone.
"""

if __name__ == "__main__":
    from vhost_gpu import no_tls

    no_tls.install()  # before whatever imports asyncio

import asyncio
import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import uvloop

from backend._core import lib
from backend.device import CONTROL_QUEUE, CURSOR_QUEUE, Device
from protocol.errors import ConfigError, PeerError
from vhost_gpu import log
from vhost_gpu.control import ControlChannel, SessionConfig, close_fds, decode_hello
from vhost_gpu.describe import describe
from vhost_gpu.displays import ALL_SCANOUTS, Displays
from vhost_gpu.nudge import Nudge
from vhost_gpu.pacer import Pacer
from vhost_gpu.queue_pump import QueuePump
from vhost_gpu.vhost_user_handler import Pump, VhostUserHandler
from vhost_gpu.vhost_user_socket import VhostUserSocket

if TYPE_CHECKING:
    # Imported where first used: a third of the process's start time that its first answer need not wait for.
    from vhost_gpu.render_pump import RenderPump
    from vhost_gpu.stray_output import StrayOutput
    from vhost_gpu.trace_file import TraceFile
    from vhost_gpu.viewer_sink import ViewerSink
    from vhost_gpu.vmm_display import VmmDisplay

HANG_SECONDS = 5
"""CPU seconds without progress of the event loop after which the process gives up."""
MAX_VIEWERS = 64
_RELIEVE_SECONDS = 1.0

_log = logging.getLogger("vhost_gpu.session")


class Session:
    """One VMM, one device.

    Args:
        config: what the supervisor was told.
        connection: the VMM's vhost-user connection.
        control: the channel to the supervisor.
    """

    def __init__(self, config: SessionConfig, connection: socket.socket, control: ControlChannel) -> None:
        self._loop = asyncio.get_running_loop()
        self._config = config
        self._control = control
        self._displays = Displays(config.max_outputs, config.resolution)
        self.device = Device(config.max_outputs, config.max_hostmem, self._displays)
        self.device.set_polling(config.poll_us)
        self._trace = self._start_trace()
        self._news = Pacer(self._loop, self._publish)
        self._nudge = Nudge(self._loop)
        self._render_pump = self._start_renderer() if config.virgl else None
        self.handler = VhostUserHandler(self.device, tuple(self._pumps()), self)
        self._display: VmmDisplay | None = None
        self._viewers: set[ViewerSink] = set()
        self._relieving: asyncio.TimerHandle | None = None
        self._describing: asyncio.Handle | None = None
        self.ended: asyncio.Future[str] = self._loop.create_future()
        self._socket = VhostUserSocket(self._loop, connection, self.handler.handle, self._vmm_gone)

    def _start_renderer(self) -> "RenderPump":
        """Raises ConfigError. Nothing of 3D is imported without it."""
        from backend import renderer
        from vhost_gpu.render_pump import RenderPump

        renderer.check()
        rendering = self.device.start_renderer(renderer.ops_address(), self._config.render_node)
        return RenderPump(self._loop, self.device, rendering, self._served)

    def _pumps(self) -> Iterator[Pump]:
        for queue in self.device.queues:
            if queue.index == CONTROL_QUEUE and self._render_pump is not None:
                yield self._render_pump
            else:
                cursor = queue.index == CURSOR_QUEUE and self._render_pump is not None
                yield QueuePump(self._loop, self.device, queue, self._served_cursor if cursor else self._served)

    def close(self) -> None:
        """Ends everything; the queues stop before anything else goes."""
        self._socket.close()
        self.handler.close()
        if self._render_pump is not None:
            self._render_pump.close()
        for viewer in tuple(self._viewers):
            viewer.end_session()
        if self._display is not None:
            self._display.close()
        self._news.close()
        self._nudge.cancel()
        if self._trace is not None:
            self._trace.close()
        for timer in (self._relieving, self._describing):
            if timer is not None:
                timer.cancel()

    def _start_trace(self) -> "TraceFile | None":
        if self._config.trace is None:
            return None
        from vhost_gpu import trace_file

        return trace_file.start(self.device.core, self._config.trace, self._config.name)

    def add_viewer(self, connection: socket.socket) -> None:
        """Takes over a viewer's connection whose HELLO was read and found good."""
        from vhost_gpu import viewer_sink

        if len(self._viewers) >= MAX_VIEWERS:
            _log.warning("a viewer is refused: %d are connected", len(self._viewers))
            viewer_sink.refuse(connection)
            return
        sink = viewer_sink.ViewerSink(
            self._loop, connection, self.device.screens, self._config.name, ALL_SCANOUTS, self._viewer_gone
        )
        self._viewers.add(sink)
        self._control.send_viewers(len(self._viewers))
        sink.start()

    def _served(self, took_ns: int) -> None:
        """A turn of a queue has ended: the loop's sign of life, too."""
        self._news.note_commands(took_ns)
        self.publish()

    def _served_cursor(self, took_ns: int) -> None:
        """The same for the cursor's, beside a renderer."""
        self._served(took_ns)
        self._nudge.soon()

    # ---- SessionHooks

    def publish(self) -> None:
        """Brings news to the sinks, soon."""
        lib.vg_hang_pat()
        self._news.ask()

    def _publish(self) -> None:
        self.device.screens.publish()
        if self.device.screens.starved and self._relieving is None:
            self._relieving = self._loop.call_later(_RELIEVE_SECONDS, self._relieve)

    def display_socket(self, fd: int) -> None:
        """GPU_SET_SOCKET: pictures go there from now on; the old one, if any, is closed."""
        from vhost_gpu.vmm_display import VmmDisplay

        if self._display is not None:
            self._display.close()
        connection = _stream_socket(fd)
        # How many scanouts there are is the VMM's to say (its configuration space); it never tells us.
        self.device.set_num_scanouts(ALL_SCANOUTS)
        self._display = VmmDisplay(
            self._loop, connection, self.device.screens, self._news, ALL_SCANOUTS, self._display_gone
        )
        self._displays.vmm = self._display
        self.hold("display", [self._display.fileno()])
        self._display.start()

    def settle(self) -> None:
        """What waits for the VMM's answer gets ours, what waits for the renderer is given back."""
        if self._render_pump is not None:
            self._render_pump.settle()
        if self._display is not None:
            self._display.give_up()

    def hold(self, key: str, fds: list[int]) -> None:
        """Has the supervisor keep duplicates of descriptors."""
        self._control.send_hold(key, fds)

    def state_changed(self) -> None:
        """Describes the session to the supervisor, once however much changed in this turn of the loop."""
        lib.vg_hang_pat()
        if self._describing is None:
            self._describing = self._loop.call_soon(self._describe)

    def _describe(self) -> None:
        self._describing = None
        for key, value in describe(self.device, self.handler).items():
            self._control.send_state(key, value)

    # ---- ends

    def _display_gone(self, display: "VmmDisplay") -> None:
        if self._display is display:
            self._display = None
            self._displays.vmm = None
            self.hold("display", [])

    def _viewer_gone(self, viewer: "ViewerSink") -> None:
        self._viewers.discard(viewer)
        self._control.send_viewers(len(self._viewers))

    def _vmm_gone(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)

    def _relieve(self) -> None:
        self._relieving = None
        if self.device.screens.starved:
            for sink in tuple(self.device.screens.sinks):
                sink.relieve()
            self.publish()


class SessionProcess:
    """The process around the session: talks to the supervisor.

    Args:
        control: this end of the control channel.
    """

    def __init__(self, control: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        self._session: Session | None = None
        self._stray_output: StrayOutput | None = None
        self._stopped: asyncio.Future[str] = self._loop.create_future()
        self._channel = ControlChannel(control, self._on_message, self._on_closed)

    async def run(self) -> None:
        """Serves until the end; whatever ends it, descriptors and viewers are let go in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop, "stopped")
        self._channel.send_ready()
        reason = await self._stopped
        if self._session is not None:
            self._session.close()
        if self._stray_output is not None:
            self._stray_output.close()
        self._channel.send_ended(reason)
        self._channel.close()

    def _on_message(self, message: dict[str, Any], fds: list[int]) -> None:
        lib.vg_hang_pat()
        handler = _MESSAGES.get(message["type"])
        if handler is None:
            close_fds(fds)
            raise PeerError(f"unknown control message {message['type']!r}")
        handler(self, message, fds)

    def _on_closed(self, error: Exception | None) -> None:
        self._stop(f"supervisor gone: {error}" if error else "supervisor gone")

    def _start(self, message: dict[str, Any], fds: list[int]) -> None:
        config = SessionConfig.from_message(message)
        log.setup(config.log_level, config.log_format, config.name)
        connection = socket.socket(fileno=fds[0])
        if config.virgl:
            from vhost_gpu.stray_output import StrayOutput

            self._stray_output = StrayOutput(self._loop)
        try:
            self._session = Session(config, connection, self._channel)
        except ConfigError as error:
            connection.close()
            _log.error("%s", error)
            self._stop(str(error))
            return
        self._session.ended.add_done_callback(lambda ended: self._stop(ended.result() or "the VMM closed it"))

    def _viewer(self, message: dict[str, Any], fds: list[int]) -> None:
        connection = socket.socket(fileno=fds[0])
        if self._session is None:
            connection.close()
            return
        decode_hello(message)
        self._session.add_viewer(connection)

    def _ping(self, message: dict[str, Any], _fds: list[int]) -> None:
        self._channel.send_pong(message["token"])

    def _halt(self, _message: dict[str, Any], _fds: list[int]) -> None:
        self._stop("stopped")

    def _stop(self, reason: str) -> None:
        if not self._stopped.done():
            self._stopped.set_result(reason)


def _stream_socket(fd: int) -> socket.socket:
    """Takes over a descriptor. Raises PeerError when it is no connected stream socket."""
    try:
        connection = socket.socket(fileno=fd)
    except OSError as error:
        os.close(fd)
        raise PeerError(f"display socket: {error.strerror}") from error
    if (connection.family, connection.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
        connection.close()
        raise PeerError("the display socket is no Unix stream socket")
    return connection


_MESSAGES: dict[str, Callable[[SessionProcess, dict[str, Any], list[int]], None]] = {
    "start": SessionProcess._start,
    "viewer": SessionProcess._viewer,
    "ping": SessionProcess._ping,
    "stop": SessionProcess._halt,
}


def main() -> None:
    """Entry of the process; no command for people."""
    if len(sys.argv) != 3 or sys.argv[1] != "--control-fd" or not sys.argv[2].isdigit():
        sys.exit("usage: python -m vhost_gpu.session --control-fd N (started by vhost-gpu)")
    faulthandler.enable()
    lib.vg_hang_watch(HANG_SECONDS)
    control = socket.socket(fileno=int(sys.argv[2]))
    log.setup(name="session")

    async def run() -> None:
        await SessionProcess(control).run()

    uvloop.run(run())


if __name__ == "__main__":
    main()
