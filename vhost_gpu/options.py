"""What the command line says, as the supervisor gets it."""

from __future__ import annotations

from dataclasses import dataclass

from vhost_gpu.control import SessionConfig

MAX_POLL_US = 50
"""The longest that a session may look for commands instead of sleeping."""


@dataclass(frozen=True)
class Options:
    """The daemon's options. Exactly one of ``socket_path``, ``fd`` and socket activation is in use."""

    socket_path: str | None = None
    fd: int | None = None
    display_socket: str | None = None  # None: the default place
    max_outputs: int = 1
    resolution: tuple[int, int] = (1280, 800)
    max_hostmem: int = 256 << 20  # bytes
    poll_us: int = MAX_POLL_US
    log_level: str = "info"
    log_format: str = "auto"
    virgl: bool = False
    render_node: str | None = None  # None: the first that works, else software
    trace: str | None = None  # a file for every command of a session

    def session_config(self, name: str) -> SessionConfig:
        """What ``start`` tells the session of this name."""
        return SessionConfig(
            name=name,
            max_outputs=self.max_outputs,
            resolution=self.resolution,
            max_hostmem=self.max_hostmem,
            poll_us=self.poll_us,
            log_level=self.log_level,
            log_format=self.log_format,
            virgl=self.virgl,
            render_node=self.render_node,
            trace=self.trace,
        )
