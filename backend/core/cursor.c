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

static void set_picture(struct vg_cursor_state *state, const uint8_t *pixels, uint32_t format)
{
    vg_convert_argb(state->cursor.pixels, pixels, VG_CURSOR_SIDE * VG_CURSOR_SIDE, format);
    state->cursor.hot_x = state->wish.hot_x;
    state->cursor.hot_y = state->wish.hot_y;
    state->cursor.resource_id = state->wish.resource_id;
    state->cursor.visible = !state->wish.hidden;
    state->wish.resource_id = 0;
    state->cursor.generation++;
    state->has_picture = true;
}

void vg_cursor_show(struct vg_device *dev, uint32_t scanout, const uint8_t *pixels, uint32_t format)
{
    set_picture(&dev->cursors[scanout], pixels, format);
    dev->dirty |= CURSOR_BIT(scanout);
}

/* A resource whose pixels are the renderer's: its thread reads them soon, and the old picture stays until then. */
static uint32_t wish_for(struct vg_device *dev, uint32_t scanout, const struct vg_resource *res)
{
    if (dev->render->lost)
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    if (res->format == 0)
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    vg_render_cursor(dev, scanout);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

static uint32_t picture_of_blob(struct vg_device *dev, struct vg_cursor_state *state, struct vg_resource *blob,
                                struct vg_cursor_wish wish)
{
    uint8_t pixels[VG_CURSOR_SIDE * VG_CURSOR_SIDE * VG_PIXEL_BYTES];
    uint32_t type = vg_blob_read_cursor(dev, blob, pixels);

    if (type != VIRTIO_GPU_RESP_OK_NODATA)
        return type;
    wish.serial = state->wish.serial + 1;
    state->wish = wish;
    set_picture(state, pixels, VG_BLOB_CURSOR_FORMAT);
    return type;
}

static uint32_t update_picture(struct vg_device *dev, uint32_t scanout, uint32_t id, uint32_t hot_x, uint32_t hot_y)
{
    struct vg_cursor_state *state = &dev->cursors[scanout];
    struct vg_resource *res = vg_resource_find(dev, id);

    if (!res)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (res->blob_size)
        return picture_of_blob(dev, state, res, (struct vg_cursor_wish){id, hot_x, hot_y, false, 0});
    if (res->width != VG_CURSOR_SIDE || res->height != VG_CURSOR_SIDE)
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    state->wish = (struct vg_cursor_wish){id, hot_x, hot_y, false, state->wish.serial + 1};
    if (res->host3d)
        return wish_for(dev, scanout, res);
    set_picture(state, res->pixels, res->format);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t vg_update_cursor(vg_device *dev, uint32_t scanout, uint32_t x, uint32_t y, uint32_t id, uint32_t hot_x,
                          uint32_t hot_y)
{
    VG_ENTER(dev);
    uint32_t type = VIRTIO_GPU_RESP_OK_NODATA;

    if (scanout >= dev->usable_scanouts)
        return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
    if (id) {
        type = update_picture(dev, scanout, id, hot_x, hot_y);
    } else {
        dev->cursors[scanout].wish = (struct vg_cursor_wish){.serial = dev->cursors[scanout].wish.serial + 1};
        set_visible(&dev->cursors[scanout], false);
    }
    if (type == VIRTIO_GPU_RESP_OK_NODATA)
        set_position(dev, scanout, x, y);
    return type;
}

/* As QEMU's device: the id only says whether the cursor is to be seen; the picture stays the last one set. */
uint32_t vg_move_cursor(vg_device *dev, uint32_t scanout, uint32_t x, uint32_t y, uint32_t id)
{
    VG_ENTER(dev);

    if (scanout >= dev->usable_scanouts)
        return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
    dev->cursors[scanout].wish.hidden = id == 0;
    set_visible(&dev->cursors[scanout], id != 0 && dev->cursors[scanout].has_picture);
    set_position(dev, scanout, x, y);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

int vg_cursor_describe(vg_device *dev, uint32_t scanout, vg_cursor *out)
{
    VG_ENTER(dev);
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
        uint64_t generation = state->cursor.generation, serial = state->wish.serial;

        memset(state, 0, sizeof(*state));
        state->wish.serial = serial + 1;
        state->cursor.generation = generation + seen;
        if (seen)
            dev->dirty |= CURSOR_BIT(i);
    }
}
