"""A frame on its way to the VMM's display: its rectangles as UPDATE messages of a few rows each."""

from backend.region import Rect
from backend.screens import Frame, Screens
from backend.sender import Message
from protocol.vhost_user_gpu import DisplayEncoder
from protocol.virtio_gpu import Format
from protocol.virtio_gpu import Rect as WireRect
from vhost_gpu.display_stream import COPIED_MESSAGE, DisplayStream

_SOCKET_FORMATS = (Format.B8G8R8X8_UNORM, Format.B8G8R8A8_UNORM)
"""x8r8g8b8 as it is: the VMM does not look at X."""
_PIXEL = 4


class FrameSending:
    """Holds the frame's image until the last rectangle is out.

    Args:
        screens: whose frame it is.
        stream: where it goes.
        encoder: knows the scanout's size on this socket.
        index: the scanout.
        frame: what it shows.
        rects: what is to be sent of it, at least one; inside the scanout as the VMM knows it.
        since: the loop's time.
    """

    def __init__(
        self,
        screens: Screens,
        stream: DisplayStream,
        encoder: DisplayEncoder,
        index: int,
        frame: Frame,
        rects: list[Rect],
        since: float,
    ) -> None:
        screens.hold(frame.image)
        self._screens = screens
        self._stream = stream
        self._encoder = encoder
        self._index = index
        self._image = screens.image(frame.image)
        self._rects = rects
        self._lent = False
        self.frame = frame
        self.since = since

    @property
    def done(self) -> bool:
        """Whether all of it is out."""
        return not self._rects and not self._sends_image

    def send_some(self, buffer: memoryview) -> None:
        """Begins to send what goes by reference, or sends what fits into the buffer (COPIED_MESSAGE bytes).

        Not while the stream still has an image to send. Raises OSError.
        """
        if self._is_direct(self._rects[0]):
            self._send_direct()
        else:
            self._send_copied(buffer)

    def finish(self) -> None:
        """Gives the image back, at once or when the VMM has read it."""
        if self._sends_image:
            self._stream.stop_image()
        if self._lent:
            self._stream.lend(self._image.id)
        else:
            self._screens.release(self._image.id)

    def _is_direct(self, rect: Rect) -> bool:
        """Whether the rectangle's rows follow each other in the image, in the socket's format."""
        return rect.width * _PIXEL == self._image.stride and self._image.format in _SOCKET_FORMATS

    @property
    def _sends_image(self) -> bool:
        return self._lent and self._stream.has_image

    def _send_direct(self) -> None:
        messages = []
        while self._rects and self._is_direct(self._rects[0]):
            band = self._take(self._stream.message_size)
            offset = (self.frame.y + band.y) * self._image.stride
            messages.append(Message(self._header(band), offset, band.area * _PIXEL))
        self._lent = True
        self._stream.send_image(self._image, messages)

    def _send_copied(self, buffer: memoryview) -> None:
        """Several small rectangles go out in one call: each costs the VMM a wake-up otherwise."""
        parts: list[bytes | memoryview] = []
        used = 0
        while self._rects and not self._is_direct(self._rects[0]):
            if parts and self._rects[0].width * _PIXEL > COPIED_MESSAGE - used:
                break
            band = self._take(COPIED_MESSAGE - used)
            pixels = buffer[used : used + band.area * _PIXEL]
            at = Rect(self.frame.x + band.x, self.frame.y + band.y, band.width, band.height)
            self._screens.read_xrgb(self._image.id, at, pixels)
            parts += [self._header(band), pixels]
            used += band.area * _PIXEL
        self._stream.send(parts)

    def _take(self, most: int) -> Rect:
        """As many rows (at least one) of the next rectangle as make so many bytes."""
        rect = self._rects[0]
        rows = max(1, min(rect.height, most // (rect.width * _PIXEL)))
        if rows < rect.height:
            self._rects[0] = Rect(rect.x, rect.y + rows, rect.width, rect.height - rows)
        else:
            del self._rects[0]
        return Rect(rect.x, rect.y, rect.width, rows)

    def _header(self, band: Rect) -> bytes:
        return self._encoder.update_header(self._index, WireRect(*band))
