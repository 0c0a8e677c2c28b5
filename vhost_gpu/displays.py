"""Answers GET_DISPLAY_INFO and GET_EDID: the VMM's answer when it has one in time, else our own configuration."""

from collections.abc import Callable
from typing import Protocol

from protocol import virtio_gpu as vg

ALL_SCANOUTS = vg.MAX_SCANOUTS


class VmmDisplays(Protocol):
    """A VMM that can be asked about its displays. ``None`` answers: it has none, or did not answer in time."""

    def ask_display_info(self, answer: Callable[[tuple[vg.DisplayOne, ...] | None], None]) -> None:
        """Asks for the modes of all outputs; answers exactly once."""

    def ask_edid(self, scanout: int, answer: Callable[[bytes | None], None]) -> None:
        """Asks for the EDID of an output; answers exactly once."""


class Displays:
    """The display configuration of one session (``backend.device.DisplaySource``).

    Args:
        max_outputs: outputs that we offer when the VMM does not say.
        resolution: their preferred width and height in pixels.
    """

    def __init__(self, max_outputs: int, resolution: tuple[int, int]) -> None:
        self._max_outputs = max_outputs
        self._resolution = resolution
        self.vmm: VmmDisplays | None = None

    def display_info(self, answer: Callable[[bytes], None]) -> None:
        """Gives the payload of VIRTIO_GPU_RESP_OK_DISPLAY_INFO."""

        def answered(modes: tuple[vg.DisplayOne, ...] | None) -> None:
            answer(vg.display_info_payload(self._own_modes() if modes is None else modes))

        if self.vmm is None:
            answered(None)
        else:
            self.vmm.ask_display_info(answered)

    def edid(self, scanout: int, answer: Callable[[bytes], None]) -> None:
        """Gives the EDID of a scanout."""

        def answered(blob: bytes | None) -> None:
            answer(self._own_edid(scanout) if blob is None else blob)

        if self.vmm is None:
            answered(None)
        else:
            self.vmm.ask_edid(scanout, answered)

    def _own_modes(self) -> list[vg.DisplayOne]:
        width, height = self._resolution
        # Side by side, so that a guest that takes the places as they are gets one wide desktop.
        return [vg.DisplayOne(vg.Rect(n * width, 0, width, height)) for n in range(self._max_outputs)]

    def _own_edid(self, scanout: int) -> bytes:
        # Imported here: the process's first answer need not wait for it.
        from protocol.edid import edid

        return edid(f"vhost-gpu {scanout + 1}", *self._resolution, serial=scanout + 1)
