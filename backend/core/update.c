/*
 * A picture as messages of the vhost-user-gpu protocol: VHOST_USER_GPU_UPDATE (docs/interop/vhost-user-gpu of QEMU).
 * A rectangle is one message: a VMM draws each message as a whole, and may show its screen between two.
 * Rows that follow each other in the image, in the socket's format, are named and left where they are; others are copied.
 */
#include <errno.h>
#include <linux/virtio_gpu.h>
#include <string.h>

#include "vg_internal.h"

#define UPDATE 8u /* VHOST_USER_GPU_UPDATE */

/* In the host's byte order, as the VMM reads it. */
struct header {
    uint32_t request, flags, size;
    uint32_t scanout, x, y, width, height;
};

_Static_assert(sizeof(struct header) == VG_UPDATE_HEADER, "as on the wire");

static uint64_t row_bytes(vg_rect rect)
{
    return (uint64_t)rect.width * VG_PIXEL_BYTES;
}

static void put_header(uint8_t *out, uint32_t scanout, vg_rect rect)
{
    const struct header header = {
        .request = UPDATE,
        .size = (uint32_t)(sizeof(header) - 3 * sizeof(uint32_t) + row_bytes(rect) * rect.height),
        .scanout = scanout,
        .x = rect.x,
        .y = rect.y,
        .width = rect.width,
        .height = rect.height,
    };
    memcpy(out, &header, sizeof(header));
}

/* x8r8g8b8: nobody looks at X. */
static bool is_direct(const struct vg_picture *picture, vg_rect rect)
{
    return row_bytes(rect) == picture->stride &&
           (picture->format == VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM || picture->format == VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM);
}

/* What the next message shows. */
static vg_rect next_message(const struct vg_picture *picture)
{
    vg_rect rect = picture->damage.rects[picture->next];
    uint64_t rows = VG_UPDATE_MOST / row_bytes(rect);
    if (rows < rect.height)
        rect.height = (uint32_t)rows;
    return rect;
}

static void begin_message(struct vg_picture *picture, uint8_t *out)
{
    vg_rect rect = next_message(picture);
    put_header(out, picture->scanout, rect);
    picture->begun = rect.height;
}

/* As many rows of the message that was begun as make so many bytes. */
static vg_rect take(struct vg_picture *picture, uint64_t most)
{
    vg_rect *left = &picture->damage.rects[picture->next], taken = *left;
    uint64_t rows = most / row_bytes(taken);
    taken.height = rows < picture->begun ? (uint32_t)rows : picture->begun;
    left->y += taken.height;
    left->height -= taken.height;
    picture->begun -= taken.height;
    if (left->height == 0)
        picture->next++;
    return taken;
}

static uint64_t missing(const struct vg_picture *picture)
{
    return picture->begun == 0 ? 0 : row_bytes(picture->damage.rects[picture->next]) * picture->begun;
}

static uint64_t offset_of(const struct vg_picture *picture, vg_rect rect)
{
    return (uint64_t)(picture->y + rect.y) * picture->stride + (uint64_t)(picture->x + rect.x) * VG_PIXEL_BYTES;
}

static uint8_t *copy_rows(const struct vg_picture *picture, vg_rect rect, uint8_t *out)
{
    const uint8_t *src = picture->map + offset_of(picture, rect);
    for (uint32_t row = 0; row < rect.height; row++, src += picture->stride, out += row_bytes(rect))
        vg_convert_xrgb(out, src, rect.width, picture->format);
    return out;
}

/* Whether all of the next message, which is to be copied, fits into so many bytes. */
static bool fits(const struct vg_picture *picture, uint64_t room)
{
    if (picture->next == picture->damage.count)
        return false;
    vg_rect rect = next_message(picture);
    return !is_direct(picture, rect) && VG_UPDATE_HEADER + row_bytes(rect) * rect.height <= room;
}

/* Several small rectangles go out in one call: each costs the VMM a wake-up otherwise. */
static void copy_rects(struct vg_picture *picture, uint8_t *buffer, struct vg_update *out)
{
    const uint8_t *end = buffer + VG_UPDATE_BUFFER;
    uint8_t *at = buffer;
    bool continues = picture->begun > 0;
    do {
        if (picture->begun == 0) {
            begin_message(picture, at);
            at += VG_UPDATE_HEADER;
        }
        at = copy_rows(picture, take(picture, (uint64_t)(end - at)), at);
    } while (picture->begun == 0 && fits(picture, (uint64_t)(end - at)));
    *out = (struct vg_update){
        .data = buffer,
        .size = (uint64_t)(at - buffer),
        .continues = continues,
        .missing = missing(picture),
    };
}

static void name_rows(struct vg_picture *picture, uint8_t *buffer, struct vg_update *out)
{
    begin_message(picture, buffer);
    vg_rect rect = take(picture, UINT64_MAX);
    *out = (struct vg_update){
        .data = buffer,
        .size = VG_UPDATE_HEADER,
        .offset = offset_of(picture, rect),
        .named = row_bytes(rect) * rect.height,
    };
}

bool vg_picture_next(struct vg_picture *picture, uint8_t *buffer, struct vg_update *out)
{
    if (picture->next == picture->damage.count)
        return false;
    if (is_direct(picture, picture->damage.rects[picture->next]))
        name_rows(picture, buffer, out);
    else
        copy_rects(picture, buffer, out);
    return true;
}

void vg_picture_end_message(struct vg_picture *picture, uint8_t *out)
{
    if (picture->begun > 0)
        copy_rows(picture, take(picture, UINT64_MAX), out);
}

int64_t vg_picture_of(struct vg_device *dev, uint64_t id, const vg_place *place, const vg_region *damage,
                      struct vg_picture *out)
{
    const vg_rect all = {0, 0, place->width, place->height};
    const struct vg_image *image = vg_image_find(dev, id);
    int64_t pixels = 0;
    if (image == NULL)
        return -ENOENT;
    if (!vg_rect_fits((vg_rect){place->x, place->y, place->width, place->height}, image->width, image->height))
        return -EINVAL;
    if (row_bytes(all) > VG_UPDATE_BUFFER - VG_UPDATE_HEADER)
        return -EINVAL;
    *out = (struct vg_picture){
        .file = image->fd,
        .map = image->map,
        .stride = image->stride,
        .format = image->format,
        .scanout = place->scanout,
        .x = place->x,
        .y = place->y,
    };
    for (uint32_t i = 0; i < damage->count; i++) {
        vg_rect rect = vg_rect_intersect(damage->rects[i], all);
        if (vg_rect_empty(rect))
            continue;
        out->damage.rects[out->damage.count++] = rect;
        pixels += (int64_t)rect.width * rect.height;
    }
    return pixels;
}
