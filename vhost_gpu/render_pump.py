"""Serves the control queue where there is a renderer: its thread does, and this is the loop's part of it.

The interface is ``QueuePump``'s. The thread hands over what the core does not complete itself, and tells of frames, of
what people should know, and of its own end: then the queue is served by the loop, as it is without a renderer.
"""

import asyncio
import logging
from collections.abc import Callable

from backend import rendering
from backend.device import CONTROL_QUEUE, Device
from backend.rendering import Event, Rendering
from vhost_gpu.queue_pump import QueuePump, execute

_log = logging.getLogger("vhost_gpu.render")


class RenderPump:
    """Runs the control queue on the render thread.

    Args:
        loop: the session's event loop.
        device: executes what is handed over.
        renderer: the device's.
        after: called when frames may have been published, with 0: the loop's time was not taken.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, device: Device, renderer: Rendering, after: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._device = device
        self._rendering = renderer
        self._queue = device.queues[CONTROL_QUEUE]
        self._after = after
        self._epoch = 0
        self._outstanding = False
        self._instead: QueuePump | None = None
        self._reader = renderer.news_fd()
        loop.add_reader(self._reader, self._news)

    def refresh(self) -> None:
        """Takes note of a queue that was started, enabled, stopped or got another eventfd; serves it if it runs."""
        if self._instead is None:
            self._rendering.resume()
        elif not self._outstanding:
            self._instead.refresh()

    def pause(self) -> None:
        """Stops serving, before the kick eventfd or the memory table is replaced; ``refresh`` goes on."""
        if self._instead is not None:
            self._instead.pause()
        else:
            self._rendering.pause()
            self._news()

    def settle(self) -> None:
        """Brings all that was taken from the ring to its end, as far as that can be done at once; pauses."""
        if self._instead is None:
            self._rendering.pause(settle=True)
            self._news()

    def stop(self) -> None:
        """Stops the queue at once; a command whose answer is still awaited is forgotten."""
        self._epoch += 1
        self.pause()
        if self._outstanding:
            self._queue.drop()
            self._outstanding = False
        if self._instead is not None:
            self._instead.stop()
        self._queue.stop()

    def close(self) -> None:
        """Ends the thread; nothing can be asked of this any more."""
        self._loop.remove_reader(self._reader)
        self.stop()
        self._rendering.close()

    # ---- news

    def _news(self) -> None:
        for event in self._rendering.events():
            self._tell(event)
        if self._instead is None and self._rendering.take_request(self._queue.request):
            self._execute()
        self._after(0)

    def _tell(self, event: Event) -> None:
        if event.lost:
            _log.warning("the renderer said %d things too many", event.lost)
        if event.kind == rendering.MESSAGE:
            _log.info("renderer: %s", event.text)
        elif event.kind == rendering.CONTEXT_ERROR:
            _log.warning("3D context %d: %s", event.ctx_id, event.text)
        elif event.kind == rendering.QUEUE_BROKEN:
            _log.warning("queue %d stopped: %s", self._queue.index, event.text)
        elif event.kind == rendering.LOST:
            _log.error("the renderer hangs and is given up: no more 3D in this session")
            self._take_over()

    def _take_over(self) -> None:
        """The loop serves the queue, after the command that it may still have."""
        self._instead = QueuePump(self._loop, self._device, self._queue, self._after)
        if not self._outstanding:
            self._instead.refresh()

    # ---- commands for the loop

    def _execute(self) -> None:
        self._outstanding = True
        epoch = self._epoch

        def answer(response: int, payload: bytes) -> None:
            if epoch == self._epoch and self._outstanding:
                self._answer(response, payload)

        execute(self._device, self._queue, answer)

    def _answer(self, response: int, payload: bytes) -> None:
        self._outstanding = False
        self._queue.complete(response, payload)
        self._queue.notify()
        if self._instead is not None:
            self._instead.refresh()
