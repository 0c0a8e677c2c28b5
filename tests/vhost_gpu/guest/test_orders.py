"""The order of messages of each VMM, as recorded by a back-end; see the facts in docs of the orders themselves."""

import pytest

from protocol.vhost_user import U64, ProtocolFeature, Request, VringState
from tests.vhost_gpu.guest.fakebackend import PROTOCOL, FakeBackend
from vhost_gpu.guest.display import VmmDisplay
from vhost_gpu.guest.driver import LINUX_FEATURES
from vhost_gpu.guest.memory import GuestMemory, split_regions
from vhost_gpu.guest.orders import ORDER_NAMES, order_named
from vhost_gpu.guest.ring import DriverRing
from vhost_gpu.guest.vmm import VmmConnection, VmmOptions

QUEUES = ("0", "1")


@pytest.fixture
def memory():
    guest = GuestMemory(split_regions(2, 1 << 20))
    yield guest
    guest.close()


async def connect(backend, memory, order, **options):
    """A negotiated connection and its rings; the log begins after the negotiation."""
    vmm = await VmmConnection.connect(backend.vmm, memory, VmmOptions(order=order, display=VmmDisplay(), **options))
    await vmm.negotiate()
    return vmm, [DriverRing(memory, vring.size) for vring in vmm.vrings]


def names(*labels):
    """Expands NAME.* to the name for queue 0, then for queue 1."""
    return [label.replace("*", q) for label in labels for q in (QUEUES if "*" in label else ("",))]


async def take(backend, vmm):
    """What the back-end has got since last asked; one more question makes sure that it has got it all."""
    await vmm.get_queue_num()
    log, backend.log = backend.log[:-1], []
    return log


def test_every_order_has_a_name():
    assert [order_named(name).name for name in ORDER_NAMES] == ["qemu", "crosvm", "libkrun"]
    with pytest.raises(ValueError, match="no VMM order"):
        order_named("bochs")


async def test_qemu(memory):
    async with FakeBackend() as backend:
        vmm, rings = await connect(backend, memory, "qemu")
        assert await take(backend, vmm) == names(
            *("GET_FEATURES", "GET_PROTOCOL_FEATURES", "SET_PROTOCOL_FEATURES", "GET_QUEUE_NUM", "GET_MAX_MEM_SLOTS"),
            *("SET_BACKEND_REQ_FD", "SET_OWNER", "GET_FEATURES"),
            *("SET_VRING_CALL.0", "SET_VRING_ERR.0", "SET_VRING_CALL.1", "SET_VRING_ERR.1"),
            *("RESET_DEVICE", "RESET_DEVICE", "GET_CONFIG"),
        )
        assert vmm.config.num_scanouts == 2
        await vmm.start(rings, LINUX_FEATURES)
        start = ["GPU_SET_SOCKET", *names("SET_VRING_CALL.*"), "SET_FEATURES", "ADD_MEM_REG", "ADD_MEM_REG"]
        vrings = [f"SET_VRING_{what}.{queue}" for queue in QUEUES for what in ("NUM", "BASE", "ADDR", "KICK")]
        end = names("SET_VRING_ENABLE.*", "SET_VRING_CALL.*")
        assert await take(backend, vmm) == [*start, *vrings, *end]
        backend.bases = [5, 9]
        await vmm.stop()
        stop = names("SET_VRING_ENABLE.*", "GET_VRING_BASE.*", "SET_VRING_CALL.*")
        assert await take(backend, vmm) == stop
        await vmm.start(rings, LINUX_FEATURES)
        assert await take(backend, vmm) == [*start[:4], *vrings, *end], "regions outlive a stop"
        await vmm.reset()
        assert await take(backend, vmm) == [*stop, *["RESET_DEVICE"] * 3, "GET_CONFIG"]
        vmm.close()


async def test_qemu_passes_the_drivers_features_on_and_returns_bases(memory):
    async with FakeBackend(features=1 << 30) as backend:
        vmm, rings = await connect(backend, memory, "qemu")
        await vmm.start(rings, LINUX_FEATURES)
        backend.bases = [5, 9]
        await vmm.stop()
        await vmm.start(rings, LINUX_FEATURES)
        features = [m.payload for m in backend.messages if m.request == Request.SET_FEATURES]
        assert features == [U64(0x10170000002)] * 2
        bases = [m.payload for m in backend.messages if m.request == Request.SET_VRING_BASE]
        assert bases == [VringState(0, 0), VringState(1, 0), VringState(0, 5), VringState(1, 9)]
        vmm.close()


async def test_qemu_without_the_optional_features(memory):
    async with FakeBackend(protocol=1 << ProtocolFeature.CONFIG) as backend:
        vmm, rings = await connect(backend, memory, "qemu")
        assert not {"GET_QUEUE_NUM", "GET_MAX_MEM_SLOTS", "SET_BACKEND_REQ_FD", "RESET_DEVICE"} & set(
            await take(backend, vmm)
        )
        await vmm.start(rings, LINUX_FEATURES)
        log = await take(backend, vmm)
        assert log.count("SET_MEM_TABLE") == 1
        assert log[log.index("SET_VRING_ENABLE.1") + 1] == "GET_FEATURES", "a barrier instead of acknowledgements"
        vmm.close()


async def test_crosvm(memory):
    async with FakeBackend() as backend:
        vmm, rings = await connect(backend, memory, "crosvm")
        assert await take(backend, vmm) == [
            *("SET_OWNER", "GET_FEATURES", "GET_PROTOCOL_FEATURES", "SET_PROTOCOL_FEATURES", "SET_BACKEND_REQ_FD"),
            *("GET_QUEUE_NUM", *["GET_CONFIG"] * 4),
        ]
        assert vmm.protocol_features == PROTOCOL & 0x229 | 1 << ProtocolFeature.CONFIG
        await vmm.start(rings, LINUX_FEATURES)
        vrings = [f"SET_VRING_{w}.{q}" for q in QUEUES for w in ("NUM", "ADDR", "BASE", "CALL", "KICK", "ENABLE")]
        assert await take(backend, vmm) == ["SET_FEATURES", "SET_MEM_TABLE", *vrings]
        sent = next(m.payload for m in backend.messages if m.request == Request.SET_FEATURES)
        assert sent == U64(LINUX_FEATURES & backend.features), "masked by the offer"
        await vmm.stop()
        assert await take(backend, vmm) == [
            "SET_VRING_ENABLE.0",
            "GET_VRING_BASE.0",
            "SET_VRING_ENABLE.1",
            "GET_VRING_BASE.1",
        ]
        assert vmm.display is None
        vmm.close()


async def test_libkrun(memory):
    async with FakeBackend() as backend:
        vmm, rings = await connect(backend, memory, "libkrun")
        negotiated = ["GET_FEATURES", "GET_PROTOCOL_FEATURES", "SET_PROTOCOL_FEATURES", "GET_QUEUE_NUM"]
        assert await take(backend, vmm) == [*negotiated, *["GET_CONFIG"] * 4]
        await vmm.start(rings, LINUX_FEATURES)
        vrings = [f"SET_VRING_{w}.{q}" for q in QUEUES for w in ("NUM", "ADDR", "BASE", "KICK", "CALL", "ENABLE")]
        start = ["SET_OWNER", "SET_MEM_TABLE", "SET_FEATURES", "GPU_SET_SOCKET", *vrings]
        assert await take(backend, vmm) == start
        await vmm.reset()
        assert await take(backend, vmm) == [*names("SET_VRING_ENABLE.*"), *["GET_CONFIG"] * 4]
        await vmm.start(rings, LINUX_FEATURES)
        assert await take(backend, vmm) == start, "the owner is set again at each activation"
        assert not any(message.need_reply for message in backend.messages)
        vmm.close()
