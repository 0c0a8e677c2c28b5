/*
 * fuzz_ring.c with a renderer: commands of 3D go through the fake one of the tests, fences are done at once or late.
 *
 * The device's own render thread only ever does what is done while it is parked. What it does otherwise, draining the
 * control queue, the fuzzer does in its name, so that every input runs the same way each time.
 */
#ifndef FUZZ_RENDER_H
#define FUZZ_RENDER_H

#include <linux/virtio_gpu.h>
#include <string.h>

#include "fake_renderer.h"
#include "vg_internal.h"

static const uint32_t commands_3d[] = {
    VIRTIO_GPU_CMD_CTX_CREATE,           VIRTIO_GPU_CMD_CTX_DESTROY,        VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE,
    VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE,  VIRTIO_GPU_CMD_RESOURCE_CREATE_3D, VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D,
    VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D, VIRTIO_GPU_CMD_SUBMIT_3D,
};

static void renderer_start(vg_device *dev)
{
    char why[64];
    if (vg_render_start(dev, fake_ops(), NULL, why, sizeof(why)) < 0)
        abort();
    vg_render_pause(dev, 0); /* returns when the thread is parked */
}

/* The thread sleeps until somebody parks or unparks it; who drains does neither. */
static void renderer_enter(vg_device *dev, uint32_t queue)
{
    if (queue != VG_QUEUE_CONTROL)
        return;
    dev->render->thread = pthread_self();
    dev->render->parks = 0;
    vg_render_lock(dev->render);
    vg_render_cursor_jobs(dev->render);
    if (dev->render->pending > 0)
        vg_fences_poll(dev->render);
    vg_render_unlock(dev->render);
}

static void renderer_leave(vg_device *dev)
{
    dev->render->thread = dev->render->handle;
    dev->render->parks = 1;
}

/* Late fences from now on, or all of them done; calls that fail, or do not. */
static void renderer_turn(uint32_t how)
{
    static const char *const names[] = {"submit", "transfer", "read_rect", "resource_create", "attach_iov", "fence"};
    fake_hold_fences(how & 1);
    fake_fail(names[how / 4 % 6], how & 2 ? -22 : 0);
    for (uint32_t ctx = 0; ctx < 4; ctx++)
        fake_retire(ctx, ctx != 0 ? ctx % 2 : 0, fake_last_seq(), how & 1);
    fake_clear_calls();
}

/* As template(), for commands of 3D; 0: it is none. */
static uint32_t template_3d(uint32_t type, uint32_t id, uint32_t side, uint32_t *fields)
{
    switch (type) {
    case VIRTIO_GPU_CMD_CTX_CREATE:
        fields[0] = 4;
        return 18;
    case VIRTIO_GPU_CMD_CTX_DESTROY:
        return 1;
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_3D:
        memcpy(fields, (uint32_t[]){id, 2, 1, 2, side, side, 1, 1}, 32);
        return 12;
    case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D:
    case VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D:
        memcpy(fields, (uint32_t[]){0, 0, 0, side, side, 1, 0, 0, id}, 36);
        return 12;
    case VIRTIO_GPU_CMD_SUBMIT_3D:
        memcpy(fields, (uint32_t[]){12, 0, id, 0x12345678, side}, 20);
        return 5;
    default:
        return 0;
    }
}

#endif
