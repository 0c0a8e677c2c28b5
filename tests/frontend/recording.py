"""The real viewer, telling on standard output what it uploads and shows: one JSON list a line, for tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable

from frontend.display import open_display
from frontend.pixels import Pixels
from protocol.virtio_gpu import Rect


def tell(what: str, parts: Iterable[Rect] = ()) -> None:
    """Writes one line."""
    rects = [[part.x, part.y, part.width, part.height] for part in parts]
    print(json.dumps([what, rects]), flush=True)


def record() -> None:
    """Has uploads of pictures, shown parts and swaps told."""
    from frontend.presenter import Presenter
    from frontend.texture import Texture

    upload, show, swap = Texture.upload, Presenter.show, Presenter.swap

    def told_upload(self: Texture, pixels: Pixels, parts: Iterable[Rect]) -> None:
        upload(self, pixels, parts)
        tell("upload", parts)

    def told_show(self: Presenter, parts: list[Rect]) -> None:
        show(self, parts)
        tell("show", parts)

    def told_swap(self: Presenter) -> None:
        swap(self)
        tell("swap")

    Texture.upload, Presenter.show, Presenter.swap = (  # type: ignore[method-assign]
        told_upload,
        told_show,
        told_swap,
    )


if __name__ == "__main__":
    open_display()
    record()
    from frontend.cli import main

    sys.exit(main())
