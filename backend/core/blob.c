/*
 * Blobs: resources that are nothing but bytes of guest memory (virtio 1.3, 5.7.6.8). Blobs that a renderer would make
 * (HOST3D, HOST3D_GUEST), and so mapping any, are refused.
 *
 * How its bytes are pixels is said by SET_SCANOUT_BLOB alone, and each scanout may say it differently. So the blob in the
 * table has no pixels, and what is shown of it are its views: resources that only scanouts and images know, one for each
 * picture (size, format, place in the blob) that was asked for. Their images hold what was read at the last flush.
 *
 * SET_SCANOUT_BLOB shows what is in guest memory too, but drivers flush right after it: reading waits for that flush, or
 * for the end of the drain where none comes, so that a page flip is one copy as it is for other resources.
 */
#include "vg_internal.h"

#include <errno.h>
#include <linux/virtio_gpu.h>
#include <stdlib.h>

#define KNOWN_FLAGS                                                                                                     \
    (VIRTIO_GPU_BLOB_FLAG_USE_MAPPABLE | VIRTIO_GPU_BLOB_FLAG_USE_SHAREABLE | VIRTIO_GPU_BLOB_FLAG_USE_CROSS_DEVICE)
#define CURSOR_STRIDE (VG_CURSOR_SIDE * VG_PIXEL_BYTES)

/* ---- making them --------------------------------------------------------------------------------------------- */

static struct vg_resource *resource_new(struct vg_device *dev, uint32_t id)
{
    struct vg_resource *res;

    if (vg_budget_charge(dev, VG_RESOURCE_OVERHEAD) < 0)
        return NULL;
    res = calloc(1, sizeof(*res));
    if (!res) {
        vg_budget_return(dev, VG_RESOURCE_OVERHEAD);
        return NULL;
    }
    res->id = id;
    res->charged = VG_RESOURCE_OVERHEAD;
    return res;
}

uint32_t vg_resource_create_blob(vg_device *dev, uint32_t id, uint32_t blob_mem, uint32_t blob_flags, uint64_t size,
                                 const uint8_t *entries, uint32_t nr_entries)
{
    VG_ENTER(dev);
    struct vg_resource *res;
    uint32_t type;

    if (id == 0 || vg_resource_find(dev, id))
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (blob_mem != VIRTIO_GPU_BLOB_MEM_GUEST || (blob_flags & ~KNOWN_FLAGS) || size == 0)
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    res = resource_new(dev, id);
    if (!res)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    res->blob_size = size;
    vg_resource_insert(dev, res);
    if (nr_entries == 0) /* ATTACH_BACKING may bring them later */
        return VIRTIO_GPU_RESP_OK_NODATA;
    type = vg_resource_attach_backing(dev, id, entries, nr_entries);
    if (type != VIRTIO_GPU_RESP_OK_NODATA)
        vg_resource_unref(dev, id);
    return type;
}

uint32_t vg_blob_create(struct vg_device *dev, const struct virtio_gpu_resource_create_blob *command)
{
    uint64_t bytes = (uint64_t)command->nr_entries * sizeof(struct virtio_gpu_mem_entry);
    uint64_t faults = vg_mem_faults(dev);
    uint32_t type = VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    uint8_t *entries;

    if (vg_budget_charge(dev, bytes) < 0)
        return type;
    entries = malloc(bytes + 1);
    if (entries) {
        vg_chain_read(dev, &dev->queues[VG_QUEUE_CONTROL].walk, sizeof(*command), entries, bytes);
        type = VIRTIO_GPU_RESP_ERR_UNSPEC;
        if (vg_mem_faults(dev) == faults)
            type = vg_resource_create_blob(dev, command->resource_id, command->blob_mem, command->blob_flags,
                                           command->size, entries, command->nr_entries);
    }
    free(entries);
    vg_budget_return(dev, bytes);
    return type;
}

uint32_t vg_blob_no_map(struct vg_device *dev, uint32_t id)
{
    return vg_resource_find(dev, id) ? VIRTIO_GPU_RESP_ERR_UNSPEC : VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
}

/* ---- pictures ------------------------------------------------------------------------------------------------ */

/* Whether the picture's rows lie in so many bytes; all but the last take a whole stride. The stride covers a row, so that
   nothing overflows. */
static bool picture_fits(const vg_blob_picture *picture, uint64_t bytes)
{
    uint64_t needed = (uint64_t)(picture->height - 1) * picture->stride + (uint64_t)picture->width * VG_PIXEL_BYTES;

    return needed <= bytes && picture->offset <= bytes - needed;
}

static bool picture_is_sound(const vg_blob_picture *picture, uint64_t bytes)
{
    return vg_format_known(picture->format) && picture->width != 0 && picture->height != 0 &&
           (uint64_t)picture->width * VG_PIXEL_BYTES <= picture->stride && picture_fits(picture, bytes);
}

static bool same_shape(const vg_blob_picture *a, const vg_blob_picture *b)
{
    return a->width == b->width && a->height == b->height && a->format == b->format;
}

static bool same_place(const vg_blob_picture *a, const vg_blob_picture *b)
{
    return a->stride == b->stride && a->offset == b->offset;
}

/* Whether guest memory can be read for this picture now. A response type. */
static uint32_t check_source(struct vg_device *dev, struct vg_resource *blob, const vg_blob_picture *picture)
{
    if (blob->backing.nr_entries == 0)
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    if (!picture_fits(picture, blob->backing.total))
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    return vg_backing_ready(dev, &blob->backing) ? VIRTIO_GPU_RESP_OK_NODATA : VIRTIO_GPU_RESP_ERR_UNSPEC;
}

/* ---- views --------------------------------------------------------------------------------------------------- */

static struct vg_resource *view_new(struct vg_device *dev, struct vg_resource *blob, const vg_blob_picture *picture)
{
    struct vg_resource *view = resource_new(dev, blob->id);

    if (!view)
        return NULL;
    view->format = picture->format;
    view->width = picture->width;
    view->height = picture->height;
    view->stride = picture->width * VG_PIXEL_BYTES;
    view->size = (uint64_t)view->stride * view->height;
    view->blob = blob;
    view->next = blob->views;
    blob->views = view;
    return view;
}

/* The view of this picture, which may be one of the same size and format that nobody looks at any more. */
static struct vg_resource *view_for(struct vg_device *dev, struct vg_resource *blob, const vg_blob_picture *picture)
{
    struct vg_resource *found = NULL;

    for (struct vg_resource *view = blob->views; view; view = view->next) {
        if (!same_shape(&view->picture, picture))
            continue;
        if (same_place(&view->picture, picture))
            return view;
        if (vg_scanouts_of(dev, view) == 0)
            found = view;
    }
    if (!found)
        found = view_new(dev, blob, picture);
    if (found)
        found->picture = *picture;
    return found;
}

static void view_free(struct vg_device *dev, struct vg_resource *view)
{
    vg_scanouts_forget(dev, view);
    vg_images_orphan(dev, view);
    vg_budget_return(dev, view->charged);
    free(view);
}

/* Views that no scanout asks for stay while they may be of use: a page flip comes back to them. */
static void drop_others(struct vg_device *dev, struct vg_resource *blob, const vg_blob_picture *picture)
{
    struct vg_resource **link = &blob->views;

    while (*link) {
        struct vg_resource *view = *link;

        if (same_shape(&view->picture, picture) || vg_scanouts_of(dev, view) != 0) {
            link = &view->next;
            continue;
        }
        *link = view->next;
        view_free(dev, view);
    }
}

void vg_blob_free_views(struct vg_device *dev, struct vg_resource *blob)
{
    while (blob->views) {
        struct vg_resource *view = blob->views;

        blob->views = view->next;
        view_free(dev, view);
    }
}

/* ---- reading guest memory ------------------------------------------------------------------------------------ */

/* One copy: from guest memory to the image that is to be shown. */
static uint32_t read_rect(struct vg_device *dev, struct vg_resource *view, vg_rect rect)
{
    const vg_blob_picture *picture = &view->picture;
    uint32_t type = check_source(dev, view->blob, picture);

    if (type != VIRTIO_GPU_RESP_OK_NODATA)
        return type;
    if ((!view->current && vg_images_prepare(dev, view) < 0) || vg_images_begin_write(dev, view, rect) < 0)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    vg_backing_read(dev, &view->blob->backing,
                    (struct vg_rows){
                        .dst = view->pixels + (uint64_t)rect.y * view->stride + (uint64_t)rect.x * VG_PIXEL_BYTES,
                        .dst_stride = view->stride,
                        .offset = picture->offset + (uint64_t)rect.y * picture->stride +
                                  (uint64_t)rect.x * VG_PIXEL_BYTES,
                        .src_stride = picture->stride,
                        .bytes = (uint64_t)rect.width * VG_PIXEL_BYTES,
                        .count = rect.height,
                    });
    dev->blobs.copied += (uint64_t)rect.width * rect.height;
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* What its scanouts show of the rectangle, and all that those show which have just come to it. */
static uint32_t read_shown(struct vg_device *dev, struct vg_resource *view, vg_rect rect)
{
    vg_rect last = {0};

    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        struct vg_scanout *s = &dev->scanouts[i];
        vg_rect part = s->unread ? s->rect : vg_rect_intersect(rect, s->rect);

        if (s->resource != view || vg_rect_empty(part))
            continue;
        if (!vg_rect_covers(last, part)) {
            uint32_t type = read_rect(dev, view, part);

            if (type != VIRTIO_GPU_RESP_OK_NODATA)
                return type;
            last = part;
        }
        s->unread = false;
    }
    return VIRTIO_GPU_RESP_OK_NODATA;
}

static bool fits_a_view(const struct vg_resource *blob, vg_rect rect)
{
    for (const struct vg_resource *view = blob->views; view; view = view->next) {
        if (vg_rect_fits(rect, view->width, view->height))
            return true;
    }
    return false;
}

uint32_t vg_blob_flush(struct vg_device *dev, struct vg_resource *blob, vg_rect rect)
{
    if (!blob->views) /* never on a scanout: there is nothing that the rectangle could be outside of */
        return VIRTIO_GPU_RESP_OK_NODATA;
    if (!fits_a_view(blob, rect))
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    for (struct vg_resource *view = blob->views; view; view = view->next) {
        uint32_t type = read_shown(dev, view, rect);

        if (type != VIRTIO_GPU_RESP_OK_NODATA)
            return type;
        vg_scanouts_flush(dev, view, rect);
    }
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* What can't be read after all (memory went away meanwhile) stays unread until a flush finds it. */
void vg_blobs_catch_up(struct vg_device *dev)
{
    dev->blobs.unread = false;
    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        struct vg_scanout *s = &dev->scanouts[i];

        if (s->unread && read_shown(dev, s->resource, (vg_rect){0}) == VIRTIO_GPU_RESP_OK_NODATA)
            vg_scanouts_flush(dev, s->resource, (vg_rect){0});
    }
}

uint32_t vg_blob_read_cursor(struct vg_device *dev, struct vg_resource *blob, uint8_t *pixels)
{
    const vg_blob_picture picture = {VG_CURSOR_SIDE, VG_CURSOR_SIDE, VG_BLOB_CURSOR_FORMAT, CURSOR_STRIDE, 0};
    uint32_t type;

    if (!picture_fits(&picture, blob->blob_size))
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    type = check_source(dev, blob, &picture);
    if (type != VIRTIO_GPU_RESP_OK_NODATA)
        return type;
    vg_backing_read(dev, &blob->backing,
                    (struct vg_rows){
                        .dst = pixels,
                        .dst_stride = CURSOR_STRIDE,
                        .src_stride = CURSOR_STRIDE,
                        .bytes = CURSOR_STRIDE,
                        .count = VG_CURSOR_SIDE,
                    });
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* ---- SET_SCANOUT_BLOB ---------------------------------------------------------------------------------------- */

static uint32_t show(struct vg_device *dev, uint32_t scanout, struct vg_resource *blob, vg_rect rect,
                     const vg_blob_picture *picture)
{
    struct vg_resource *view = view_for(dev, blob, picture);

    if (!view || vg_images_prepare(dev, view) < 0)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    vg_scanout_point(dev, scanout, view, rect);
    view->written_since_flush = true; /* nothing of it is published before it is read */
    dev->scanouts[scanout].unread = true;
    dev->blobs.unread = true;
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t vg_set_scanout_blob(vg_device *dev, uint32_t scanout, uint32_t id, uint32_t x, uint32_t y, uint32_t width,
                             uint32_t height, const vg_blob_picture *picture)
{
    VG_ENTER(dev);
    vg_rect rect = {x, y, width, height};
    struct vg_resource *blob = vg_resource_find(dev, id);
    uint32_t type;

    if (scanout >= dev->usable_scanouts)
        return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
    if (id == 0)
        return vg_set_scanout(dev, scanout, 0, 0, 0, 0, 0);
    if (!blob || blob->blob_size == 0)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (!picture_is_sound(picture, blob->blob_size) || vg_rect_empty(rect) ||
        !vg_rect_fits(rect, picture->width, picture->height))
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    type = check_source(dev, blob, picture);
    if (type != VIRTIO_GPU_RESP_OK_NODATA)
        return type;
    type = show(dev, scanout, blob, rect, picture);
    drop_others(dev, blob, picture);
    if (dev->draining < 0) /* else the drain does it */
        vg_blobs_catch_up(dev);
    return type;
}

/* The formats that we know have one plane. */
static bool has_other_planes(const struct virtio_gpu_set_scanout_blob *command)
{
    for (int i = 1; i < 4; i++) {
        if (command->strides[i] != 0 || command->offsets[i] != 0)
            return true;
    }
    return false;
}

uint32_t vg_blob_set_scanout(struct vg_device *dev, const struct virtio_gpu_set_scanout_blob *command)
{
    const struct virtio_gpu_rect *r = &command->r;
    const vg_blob_picture picture = {command->width, command->height, command->format, command->strides[0],
                                     command->offsets[0]};

    if (command->resource_id != 0 && has_other_planes(command))
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    return vg_set_scanout_blob(dev, command->scanout_id, command->resource_id, r->x, r->y, r->width, r->height,
                               &picture);
}

int vg_scanout_blob(vg_device *dev, uint32_t scanout, vg_blob_picture *out)
{
    VG_ENTER(dev);
    const struct vg_resource *res = scanout < dev->num_scanouts ? dev->scanouts[scanout].resource : NULL;

    if (!res || !res->blob)
        return 0;
    *out = res->picture;
    return 1;
}
