/* Cursors: UPDATE_CURSOR and MOVE_CURSOR (virtio 1.3, 5.7.6.10). The picture is copied when it is set. */
#include "vg_internal.h"

#include <errno.h>
#include <linux/virtio_gpu.h>
#include <string.h>

#define CURSOR_BIT(scanout) (1u << (16 + (scanout)))

static void set_visible(struct vg_cursor_state *state, bool visible)
{
    if (state->cursor.visible == visible)
        return;
    state->cursor.visible = visible;
    state->cursor.generation++;
}

static void set_position(struct vg_device *dev, uint32_t scanout, uint32_t x, uint32_t y)
{
    dev->cursors[scanout].cursor.x = x;
    dev->cursors[scanout].cursor.y = y;
    dev->dirty |= CURSOR_BIT(scanout);
}

static void set_picture(struct vg_cursor_state *state, const struct vg_resource *res, uint32_t hot_x, uint32_t hot_y)
{
    vg_convert_argb(state->cursor.pixels, res->pixels, VG_CURSOR_SIDE * VG_CURSOR_SIDE, res->format);
    state->cursor.hot_x = hot_x;
    state->cursor.hot_y = hot_y;
    state->cursor.resource_id = res->id;
    state->cursor.visible = 1;
    state->cursor.generation++;
    state->has_picture = true;
}

uint32_t vg_update_cursor(vg_device *dev, uint32_t scanout, uint32_t x, uint32_t y, uint32_t id, uint32_t hot_x,
                          uint32_t hot_y)
{
    struct vg_resource *res = NULL;

    if (scanout >= dev->usable_scanouts)
        return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
    if (id) {
        res = vg_resource_find(dev, id);
        if (!res)
            return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
        if (res->width != VG_CURSOR_SIDE || res->height != VG_CURSOR_SIDE)
            return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
        set_picture(&dev->cursors[scanout], res, hot_x, hot_y);
    } else {
        set_visible(&dev->cursors[scanout], false);
    }
    set_position(dev, scanout, x, y);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* As QEMU's device: the id only says whether the cursor is to be seen; the picture stays the last one set. */
uint32_t vg_move_cursor(vg_device *dev, uint32_t scanout, uint32_t x, uint32_t y, uint32_t id)
{
    if (scanout >= dev->usable_scanouts)
        return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
    set_visible(&dev->cursors[scanout], id != 0 && dev->cursors[scanout].has_picture);
    set_position(dev, scanout, x, y);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

int vg_cursor_describe(vg_device *dev, uint32_t scanout, vg_cursor *out)
{
    if (scanout >= dev->num_scanouts)
        return -EINVAL;
    *out = dev->cursors[scanout].cursor;
    return 0;
}

void vg_cursors_reset(struct vg_device *dev)
{
    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        struct vg_cursor_state *state = &dev->cursors[i];
        bool seen = state->cursor.visible;
        uint64_t generation = state->cursor.generation;

        memset(state, 0, sizeof(*state));
        state->cursor.generation = generation + seen;
        if (seen)
            dev->dirty |= CURSOR_BIT(i);
    }
}
