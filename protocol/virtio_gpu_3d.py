"""virtio-gpu's 3D commands (virtio 1.3 sections 5.7.6.8 and 5.7.6.9, /usr/include/linux/virtio_gpu.h).

The context of a command is its header's ctx_id (`Command.encode`), where its struct has no member for it. Targets,
formats and bind flags are VirGL's (`protocol.virgl_const`); what SUBMIT_3D carries is written by `protocol.virgl` and
read by `protocol.virgl_decode`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Self

from protocol.errors import PeerError
from protocol.virtio_gpu import HEADER_SIZE, Command, CommandType, ControlHeader, Data, decode_command
from protocol.virtio_gpu_blob import (
    ResourceAssignUuid,
    ResourceCreateBlob,
    ResourceMapBlob,
    ResourceUnmapBlob,
    SetScanoutBlob,
)

DEBUG_NAME_SIZE = 64
"""Bytes of a context's debug_name."""
CAPSET_ID_MASK = 0xFF
"""VIRTIO_GPU_CONTEXT_INIT_CAPSET_ID_MASK: the bits of context_init that say which capability set."""

_CAPSET_INFO = struct.Struct("<III4x")


class Capset(IntEnum):
    """VIRTIO_GPU_CAPSET_*: ids of capability sets; those after VIRGL2 as newer kernels' headers number them."""

    VIRGL = 1
    VIRGL2 = 2
    GFXSTREAM_VULKAN = 3
    VENUS = 4
    CROSS_DOMAIN = 5
    DRM = 6


@dataclass(frozen=True, slots=True)
class CapsetInfo:
    """struct virtio_gpu_resp_capset_info after its header."""

    capset_id: int
    """Which capability set: a `Capset`."""
    capset_max_version: int
    """Its newest version."""
    capset_max_size: int
    """Its bytes."""

    def encode(self) -> bytes:
        """16 bytes, padding zero."""
        return _CAPSET_INFO.pack(self.capset_id, self.capset_max_version, self.capset_max_size)

    @classmethod
    def decode(cls, payload: Data) -> CapsetInfo:
        """From what follows the header of an OK_CAPSET_INFO. PeerError when it is too short."""
        if len(payload) < _CAPSET_INFO.size:
            raise PeerError(f"capability set information of {len(payload)} bytes")
        return cls(*_CAPSET_INFO.unpack_from(payload))


@dataclass(frozen=True, slots=True)
class Box:
    """struct virtio_gpu_box: texels, or bytes of a buffer in x and width."""

    x: int
    y: int
    z: int
    """A slice of a 3D texture, a layer of an array, a face of a cube."""
    width: int
    height: int = 1
    depth: int = 1


@dataclass(frozen=True, slots=True)
class CtxCreate(Command):
    """struct virtio_gpu_ctx_create. The header's ctx_id, not 0, is the new context's number."""

    _TYPE = CommandType.CTX_CREATE
    _BODY = struct.Struct("<II64s")
    debug_name: bytes = b""
    """For people who debug; at most 64 bytes."""
    context_init: int = 0
    """With the feature CONTEXT_INIT: a `Capset` in the bits of CAPSET_ID_MASK; 0 is VIRGL or VIRGL2."""

    @classmethod
    def decode(cls, data: Data) -> Self:
        """As Command.decode. A name announced longer than its 64 bytes is taken to be 64 bytes long."""
        if len(data) < HEADER_SIZE + cls._BODY.size:
            raise PeerError(f"{len(data)} bytes are too few for {cls._TYPE.name}")
        nlen, context_init, name = cls._BODY.unpack_from(data, HEADER_SIZE)
        return cls(name[:nlen], context_init)

    def _body(self) -> bytes:
        if len(self.debug_name) > DEBUG_NAME_SIZE:
            raise ValueError(f"debug name of {len(self.debug_name)} bytes")
        return self._BODY.pack(len(self.debug_name), self.context_init, self.debug_name)


@dataclass(frozen=True, slots=True)
class CtxDestroy(Command):
    """struct virtio_gpu_ctx_destroy: the context of the header's ctx_id."""

    _TYPE = CommandType.CTX_DESTROY
    _BODY = struct.Struct("")


@dataclass(frozen=True, slots=True)
class CtxAttachResource(Command):
    """struct virtio_gpu_ctx_resource: from now on the context may name the resource."""

    _TYPE = CommandType.CTX_ATTACH_RESOURCE
    _BODY = struct.Struct("<I4x")
    resource_id: int
    """The resource."""


@dataclass(frozen=True, slots=True)
class CtxDetachResource(Command):
    """struct virtio_gpu_ctx_resource: the context may no longer name the resource."""

    _TYPE = CommandType.CTX_DETACH_RESOURCE
    _BODY = struct.Struct("<I4x")
    resource_id: int
    """The resource."""


@dataclass(frozen=True, slots=True)
class ResourceCreate3d(Command):
    """struct virtio_gpu_resource_create_3d."""

    _TYPE = CommandType.RESOURCE_CREATE_3D
    _BODY = struct.Struct("<IIIIIIIIIII4x")
    resource_id: int
    """The guest's number for it, not 0."""
    target: int
    """A `protocol.virgl_const.Target`."""
    format: int
    """A `protocol.virgl_const.VirglFormat`."""
    bind: int
    """`protocol.virgl_const.Bind` bits: what it will be used for."""
    width: int
    """In texels; a buffer's in bytes."""
    height: int = 1
    """In texels."""
    depth: int = 1
    """In texels."""
    array_size: int = 1
    """Layers; 6 for a cube."""
    last_level: int = 0
    """The smallest mipmap's number."""
    nr_samples: int = 0
    """0 or 1: no multisampling."""
    flags: int = 0
    """`protocol.virgl_const.ResourceFlag` bits."""


class _Transfer(Command):
    """A request of struct virtio_gpu_transfer_host_3d."""

    __slots__: ClassVar[tuple[str, ...]] = ()
    _BODY = struct.Struct("<IIIIIIQIIII")
    box: Box

    @classmethod
    def _build(cls, members: tuple[int, ...]) -> Self:
        make: Callable[..., Self] = cls
        return make(Box(*members[:6]), *members[6:])

    def _body(self) -> bytes:
        box = self.box
        rest = (getattr(self, name) for name in self.__slots__[1:])
        return self._BODY.pack(box.x, box.y, box.z, box.width, box.height, box.depth, *rest)


@dataclass(frozen=True, slots=True)
class TransferToHost3d(_Transfer):
    """struct virtio_gpu_transfer_host_3d: from the backing to the renderer. The header's ctx_id may be 0."""

    _TYPE = CommandType.TRANSFER_TO_HOST_3D
    box: Box
    """The part of the level to copy."""
    offset: int
    """Where the box's first texel lies in the backing, in bytes."""
    resource_id: int
    """The resource."""
    level: int = 0
    """Which mipmap."""
    stride: int = 0
    """Bytes of a row in the backing; 0: rows follow each other."""
    layer_stride: int = 0
    """Bytes of a layer in the backing; 0: layers follow each other."""


@dataclass(frozen=True, slots=True)
class TransferFromHost3d(_Transfer):
    """struct virtio_gpu_transfer_host_3d: from the renderer to the backing."""

    _TYPE = CommandType.TRANSFER_FROM_HOST_3D
    box: Box
    """The part of the level to copy."""
    offset: int
    """Where the box's first texel goes in the backing, in bytes."""
    resource_id: int
    """The resource."""
    level: int = 0
    """As in TransferToHost3d."""
    stride: int = 0
    """As in TransferToHost3d."""
    layer_stride: int = 0
    """As in TransferToHost3d."""


@dataclass(frozen=True, slots=True)
class Submit3d(Command):
    """struct virtio_gpu_cmd_submit and the stream of commands for the header's ctx_id."""

    _TYPE = CommandType.SUBMIT_3D
    _BODY = struct.Struct("<I4x")
    stream: Data
    """The context's own commands, a multiple of 4 bytes (`protocol.virgl.CommandStream.data`). Decoded: bytes."""

    @classmethod
    def decode(cls, data: Data) -> Self:
        """As Command.decode, and PeerError when the stream is shorter than announced."""
        (size,) = cls._members(data)
        start = HEADER_SIZE + cls._BODY.size
        if size > len(data) - start:
            raise PeerError(f"a stream of {size} bytes announced in {len(data)} bytes")
        return cls(bytes(data[start : start + size]))

    def _body(self) -> bytes:
        return self._BODY.pack(len(self.stream)) + self.stream


_COMMANDS: dict[int, type[Command]] = {
    command._TYPE: command
    for command in (
        CtxCreate,
        CtxDestroy,
        CtxAttachResource,
        CtxDetachResource,
        ResourceCreate3d,
        TransferToHost3d,
        TransferFromHost3d,
        Submit3d,
        ResourceAssignUuid,
        ResourceCreateBlob,
        SetScanoutBlob,
        ResourceMapBlob,
        ResourceUnmapBlob,
    )
}


def decode_any_command(data: Data) -> Command:
    """A whole request, 2D, 3D or blob, with its header. PeerError when it is shorter than its struct.

    `protocol.virtio_gpu.Unknown` for other types.
    """
    command = _COMMANDS.get(ControlHeader.decode(data).type)
    return command.decode(data) if command else decode_command(data)
