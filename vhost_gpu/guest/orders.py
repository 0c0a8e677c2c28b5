"""The order in which VMMs send vhost-user messages, as observed on the wire or read in their sources.

An order drives a :class:`~vhost_gpu.guest.vmm.VmmConnection` through its four moments; it keeps no state of its own but
whether this is the first start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from protocol.vhost_user import F_PROTOCOL_FEATURES, ProtocolFeature
from protocol.virtio_gpu import CONFIG_SIZE, GpuConfig

if TYPE_CHECKING:
    from vhost_gpu.guest.vmm import VmmConnection, Vring


def _bits(*features: ProtocolFeature) -> int:
    return sum(1 << feature for feature in features)


class Order:
    """What one VMM does at the moments of a device's life."""

    name: ClassVar[str]
    has_display: ClassVar[bool] = True
    """Whether it sends GPU_SET_SOCKET."""
    keeps_base: ClassVar[bool] = True
    """Whether a start after a stop goes on where the queues were."""
    shared_call: ClassVar[bool] = False
    """Whether one call eventfd serves all queues."""
    known_protocol: ClassVar[int]
    """Protocol features that it acknowledges when they are offered."""

    def acknowledged(self, features: int, offered: int) -> int:
        """What SET_FEATURES carries when the driver acknowledged ``features`` and the back-end offered ``offered``."""
        return features & offered

    async def negotiate(self, vmm: VmmConnection) -> None:
        """From connecting to the first start."""
        raise NotImplementedError

    async def start(self, vmm: VmmConnection, features: int) -> None:
        """The driver is ready: queues start."""
        raise NotImplementedError

    async def stop(self, vmm: VmmConnection) -> None:
        """Queues stop; their bases are remembered."""
        raise NotImplementedError

    async def reset(self, vmm: VmmConnection) -> None:
        """The device is reset."""
        raise NotImplementedError

    async def read_config(self, vmm: VmmConnection) -> GpuConfig:
        """The guest's driver reads the configuration: one GET_CONFIG for every four bytes."""
        parts = [await vmm.get_config(offset, 4) for offset in range(0, CONFIG_SIZE, 4)]
        return GpuConfig.decode(b"".join(parts))

    async def _agree(self, vmm: VmmConnection) -> None:
        await vmm.get_features()
        await vmm.set_protocol_features(await vmm.get_protocol_features() & self.known_protocol)


class QemuOrder(Order):
    """QEMU 10.0. It acknowledges every protocol bit that it knows, and passes the driver's features on unmasked."""

    name = "qemu"
    known_protocol = (1 << 20) - 1

    def acknowledged(self, features: int, offered: int) -> int:  # noqa: ARG002
        """The driver's features as they are: QEMU's own front-end offered them."""
        return features | 1 << F_PROTOCOL_FEATURES

    async def negotiate(self, vmm: VmmConnection) -> None:
        """Realize, then the two resets before the first start."""
        await self._agree(vmm)
        if vmm.has(ProtocolFeature.MQ):
            await vmm.get_queue_num()
        if vmm.has(ProtocolFeature.CONFIGURE_MEM_SLOTS):
            await vmm.get_max_mem_slots()
        if vmm.has(ProtocolFeature.BACKEND_REQ):
            await vmm.set_backend_req_fd()
        await vmm.set_owner()
        await vmm.get_features()
        for vring in vmm.vrings:
            await vmm.set_vring_call(vring)
            await vmm.set_vring_err(vring)
        await self._reset_device(vmm, 2)

    async def read_config(self, vmm: VmmConnection) -> GpuConfig:
        """QEMU asks for all 16 bytes whatever the guest reads."""
        return GpuConfig.decode(await vmm.get_config())

    async def start(self, vmm: VmmConnection, features: int) -> None:
        """Display socket first, then features, memory, queues, enabling; call eventfds before and after."""
        await vmm.gpu_set_socket()
        await self._calls(vmm)
        await vmm.set_features(features)
        await vmm.sync_memory()
        for vring in vmm.vrings:
            await vmm.set_vring_num(vring)
            await vmm.set_vring_base(vring)
            await vmm.set_vring_addr(vring)
            await vmm.set_vring_kick(vring)
        await self._enable(vmm, True)
        await self._calls(vmm)

    async def stop(self, vmm: VmmConnection) -> None:
        """The display socket closes first, and its end of file races the rest."""
        if vmm.display is not None:
            vmm.display.close()
        await self._enable(vmm, False)
        for vring in vmm.vrings:
            await vmm.get_vring_base(vring)
        await self._calls(vmm)

    async def reset(self, vmm: VmmConnection) -> None:
        """Stop, and RESET_DEVICE three times where it was offered."""
        await self.stop(vmm)
        await self._reset_device(vmm, 3)

    async def _enable(self, vmm: VmmConnection, enable: bool) -> None:
        for vring in vmm.vrings:
            await vmm.set_vring_enable(vring, enable)
        if not vmm.has(ProtocolFeature.REPLY_ACK):
            await vmm.get_features()

    async def _calls(self, vmm: VmmConnection) -> None:
        for vring in vmm.vrings:
            await vmm.set_vring_call(vring)

    async def _reset_device(self, vmm: VmmConnection, times: int) -> None:
        if vmm.has(ProtocolFeature.RESET_DEVICE):
            for _ in range(times):
                await vmm.reset_device()


class CrosvmOrder(Order):
    """crosvm: owner first, features masked by the offer, no display socket, configuration read in parts."""

    name = "crosvm"
    has_display = False
    known_protocol = _bits(
        ProtocolFeature.MQ,
        ProtocolFeature.REPLY_ACK,
        ProtocolFeature.BACKEND_REQ,
        ProtocolFeature.CONFIG,
        ProtocolFeature.DEVICE_STATE,
    )

    async def negotiate(self, vmm: VmmConnection) -> None:
        """SET_OWNER, features, the back-end channel, the number of queues."""
        await vmm.set_owner()
        await self._agree(vmm)
        if vmm.has(ProtocolFeature.BACKEND_REQ):
            await vmm.set_backend_req_fd()
        if vmm.has(ProtocolFeature.MQ):
            await vmm.get_queue_num()

    async def start(self, vmm: VmmConnection, features: int) -> None:
        """Features before memory; every queue is set up and enabled before the next."""
        await vmm.set_features(features)
        await vmm.set_mem_table()
        for vring in vmm.vrings:
            await vmm.set_vring_num(vring)
            await vmm.set_vring_addr(vring)
            await vmm.set_vring_base(vring)
            await vmm.set_vring_call(vring)
            await vmm.set_vring_kick(vring)
            await vmm.set_vring_enable(vring, True)

    async def stop(self, vmm: VmmConnection) -> None:
        """ENABLE 0 and GET_VRING_BASE, queue by queue."""
        for vring in vmm.vrings:
            await vmm.set_vring_enable(vring, False)
            await vmm.get_vring_base(vring)

    async def reset(self, vmm: VmmConnection) -> None:
        """The same as a stop."""
        await self.stop(vmm)


class LibkrunOrder(Order):
    """libkrun: only CONFIG and MQ, so no acknowledgements; owner and memory at each activation, one call eventfd."""

    name = "libkrun"
    keeps_base = False
    shared_call = True
    known_protocol = _bits(ProtocolFeature.MQ, ProtocolFeature.CONFIG)

    async def negotiate(self, vmm: VmmConnection) -> None:
        """Features and the number of queues; the owner comes with each start."""
        await self._agree(vmm)
        if vmm.has(ProtocolFeature.MQ):
            await vmm.get_queue_num()

    async def start(self, vmm: VmmConnection, features: int) -> None:
        """Memory before features; kick before call; base 0 always."""
        await vmm.set_owner()
        await vmm.set_mem_table()
        await vmm.set_features(features)
        await vmm.gpu_set_socket()
        for vring in vmm.vrings:
            await self._start_vring(vmm, vring)

    async def _start_vring(self, vmm: VmmConnection, vring: Vring) -> None:
        vring.rewind()
        await vmm.set_vring_num(vring)
        await vmm.set_vring_addr(vring)
        await vmm.set_vring_base(vring)
        await vmm.set_vring_kick(vring)
        await vmm.set_vring_call(vring)
        await vmm.set_vring_enable(vring, True)

    async def stop(self, vmm: VmmConnection) -> None:
        """ENABLE 0 alone, without asking for the base."""
        for vring in vmm.vrings:
            await vmm.set_vring_enable(vring, False)

    async def reset(self, vmm: VmmConnection) -> None:
        """The same as a stop."""
        await self.stop(vmm)


_ORDERS: dict[str, type[Order]] = {order.name: order for order in (QemuOrder, CrosvmOrder, LibkrunOrder)}
ORDER_NAMES = tuple(_ORDERS)
"""Names that :func:`order_named` knows."""


def order_named(name: str) -> Order:
    """The order of a VMM by its name. Raises ValueError."""
    try:
        return _ORDERS[name]()
    except KeyError:
        raise ValueError(f"no VMM order {name!r}; there are {', '.join(ORDER_NAMES)}") from None
