/* Scanouts: SET_SCANOUT and RESOURCE_FLUSH (virtio 1.3, 5.7.6.8), published frames and their damage. */
#include "vg_internal.h"

#include <errno.h>
#include <linux/virtio_gpu.h>
#include <string.h>

static uint32_t bit(uint32_t scanout)
{
    return 1u << scanout;
}

/* ---- showing ------------------------------------------------------------------------------------------------- */

/* Whether the resource's newest content differs, inside the scanout, from what the scanout shows. */
static bool differs(const struct vg_scanout *s)
{
    return vg_rects_touch(&s->image->stale, s->rect);
}

/* Whether s asks for res and shows an older image of it in the same place: only pixels have changed since. */
static bool lags(const struct vg_scanout *s, const struct vg_resource *res)
{
    return s->resource == res && s->image && s->image->resource == res && s->image != res->current &&
           s->frame.resource_id == res->id && s->frame.x == s->rect.x && s->frame.y == s->rect.y &&
           s->frame.width == s->rect.width && s->frame.height == s->rect.height;
}

static void swap_image(struct vg_device *dev, struct vg_scanout *s, struct vg_image *image)
{
    struct vg_image *old = s->image;

    s->image = image;
    s->frame.image = image ? image->id : 0;
    if (image)
        vg_image_show(image);
    if (old)
        vg_image_unshow(dev, old);
}

/* Adds what the next frame changes against the shown one. */
static void collect_damage(struct vg_scanout *s, const struct vg_resource *res)
{
    if (lags(s, res))
        vg_rects_add_clipped(&s->damage, &s->image->stale, s->rect, VG_MAX_RECTS);
    for (uint32_t i = 0; i < s->pending_damage.count; i++)
        vg_rects_add(&s->damage, s->pending_damage.rects[i], VG_MAX_RECTS);
    s->pending_damage.count = 0;
}

/* A frame of another size or format: older damage means nothing any more. */
static void start_generation(struct vg_scanout *s)
{
    s->frame.generation++;
    s->damage.count = 0;
    s->pending_damage.count = 0;
    vg_rects_add(&s->pending_damage, (vg_rect){0, 0, s->rect.width, s->rect.height}, VG_MAX_RECTS);
}

/* Publishes the current image of the resource that the scanout asks for. */
static void show(struct vg_device *dev, uint32_t index)
{
    struct vg_scanout *s = &dev->scanouts[index];
    struct vg_resource *res = s->resource;

    /* Moving on to an image that looks the same here is nobody's news. */
    if (!s->pending && lags(s, res) && !differs(s)) {
        swap_image(dev, s, res->current);
        return;
    }
    if (s->frame.width != s->rect.width || s->frame.height != s->rect.height || s->frame.format != res->format)
        start_generation(s);
    collect_damage(s, res);
    s->frame = (vg_frame){
        .generation = s->frame.generation,
        .sequence = s->frame.sequence + 1,
        .flush_ns = s->pending ? s->pending_ns : vg_now_ns(),
        .resource_id = res->id,
        .width = s->rect.width,
        .height = s->rect.height,
        .x = s->rect.x,
        .y = s->rect.y,
        .format = res->format,
    };
    s->pending = false;
    swap_image(dev, s, res->current);
    dev->dirty |= bit(index);
}

static void clear(struct vg_device *dev, uint32_t index)
{
    struct vg_scanout *s = &dev->scanouts[index];

    s->resource = NULL;
    s->pending = false;
    s->unread = false;
    s->pending_damage.count = 0;
    if (!s->image)
        return;
    swap_image(dev, s, NULL);
    s->frame = (vg_frame){.generation = s->frame.generation + 1, .sequence = s->frame.sequence};
    s->damage.count = 0;
    dev->dirty |= bit(index);
}

/* ---- publishing ---------------------------------------------------------------------------------------------- */

/* Scanouts that publishing the resource moves to its current image: those with a flush to show, and those where the
   move changes nothing but frees the image they show. */
static uint32_t scanouts_to_move(const struct vg_device *dev, const struct vg_resource *res)
{
    uint32_t set = 0;

    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        const struct vg_scanout *s = &dev->scanouts[i];

        if (s->resource == res && (s->pending || (lags(s, res) && !differs(s))))
            set |= bit(i);
    }
    return set;
}

uint32_t vg_scanouts_of(const struct vg_device *dev, const struct vg_resource *res)
{
    uint32_t set = 0;

    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        if (dev->scanouts[i].resource == res)
            set |= bit(i);
    }
    return set;
}

/* Whether the image is free once the scanouts of the set have left it. */
static bool free_after(const struct vg_device *dev, const struct vg_image *image, uint32_t set)
{
    uint32_t leaving = 0;

    for (uint32_t i = 0; i < dev->num_scanouts; i++)
        leaving += (set & bit(i)) && dev->scanouts[i].image == image;
    return image->holds == 0 && image->shown == leaving;
}

/* Whether the next write finds a free image after the set has moved to the current one. */
static bool leaves_room(const struct vg_device *dev, const struct vg_resource *res, uint32_t set)
{
    for (uint32_t i = 0; i < res->num_images; i++) {
        if (res->images[i] != res->current && free_after(dev, res->images[i], set))
            return true;
    }
    return false;
}

/* Shows the resource's current image on the scanouts that wait for it. False when that would leave no image to write
   to: the flush goes on waiting. */
static bool publish(struct vg_device *dev, struct vg_resource *res)
{
    uint32_t set = scanouts_to_move(dev, res);

    if (!vg_image_busy(res->current) && !leaves_room(dev, res, set) && vg_images_add(dev, res) < 0) {
        /* Scanouts that share one resource may each hold on to an older image of it. Moving them all on shows some
           pixels before their flush, which is better than to stand still. */
        set = vg_scanouts_of(dev, res);
        if (!leaves_room(dev, res, set))
            return false;
    }
    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        if (set & bit(i))
            show(dev, i);
    }
    vg_images_touch(dev, res);
    return true;
}

void vg_scanouts_publish_waiting(struct vg_device *dev)
{
    bool progress;

    /* A frame that is shown may free the image another one waits for; each round shows at least one. */
    do {
        progress = false;
        for (uint32_t i = 0; i < dev->num_scanouts; i++) {
            struct vg_scanout *s = &dev->scanouts[i];

            if (s->pending && !s->resource->written_since_flush && publish(dev, s->resource))
                progress = true;
        }
    } while (progress);
}

void vg_scanouts_forget(struct vg_device *dev, struct vg_resource *res)
{
    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        if (dev->scanouts[i].resource == res)
            clear(dev, i);
    }
}

/* ---- commands ------------------------------------------------------------------------------------------------ */

void vg_scanout_point(struct vg_device *dev, uint32_t scanout, struct vg_resource *res, vg_rect rect)
{
    struct vg_scanout *s = &dev->scanouts[scanout];

    s->resource = res;
    s->rect = rect;
    s->unread = false;
    s->pending = true;
    s->pending_ns = vg_now_ns();
    s->pending_damage.count = 0;
    vg_rects_add(&s->pending_damage, (vg_rect){0, 0, rect.width, rect.height}, VG_MAX_RECTS);
}

uint32_t vg_set_scanout(vg_device *dev, uint32_t scanout, uint32_t id, uint32_t x, uint32_t y, uint32_t width,
                        uint32_t height)
{
    VG_ENTER(dev);
    vg_rect rect = {x, y, width, height};
    struct vg_resource *res;

    if (scanout >= dev->usable_scanouts)
        return VIRTIO_GPU_RESP_ERR_INVALID_SCANOUT_ID;
    if (id == 0) {
        clear(dev, scanout);
        vg_scanouts_publish_waiting(dev);
        return VIRTIO_GPU_RESP_OK_NODATA;
    }
    res = vg_resource_find(dev, id);
    if (!res)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (vg_rect_empty(rect) || !vg_rect_fits(rect, res->width, res->height))
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    if (res->host3d && res->format == 0) /* nothing that a screen could show */
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    if (vg_images_prepare(dev, res) < 0)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    if (res->host3d)
        return vg_readback_point(dev, scanout, res, rect);
    vg_scanout_point(dev, scanout, res, rect);
    res->written_since_flush = false;
    vg_scanouts_publish_waiting(dev);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* A shown image is never written, so while the scanout shows the resource's current one there is nothing new. (Linux
   flushes after each SET_SCANOUT of a page flip, which has shown the picture already.) */
static bool shows_all(const struct vg_scanout *s)
{
    return !s->pending && s->image == s->resource->current;
}

static void flush_scanout(struct vg_scanout *s, vg_rect rect, uint64_t now)
{
    vg_rect part = vg_rect_intersect(rect, s->rect);

    if (vg_rect_empty(part) || shows_all(s))
        return;
    part.x -= s->rect.x;
    part.y -= s->rect.y;
    vg_rects_add(&s->pending_damage, part, VG_MAX_RECTS);
    s->pending = true;
    s->pending_ns = now;
}

void vg_scanouts_flush(struct vg_device *dev, struct vg_resource *res, vg_rect rect)
{
    uint64_t now = vg_now_ns();

    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        if (dev->scanouts[i].resource == res)
            flush_scanout(&dev->scanouts[i], rect, now);
    }
    res->written_since_flush = false;
    vg_scanouts_publish_waiting(dev);
}

uint32_t vg_resource_flush(vg_device *dev, uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
    VG_ENTER(dev);
    struct vg_resource *res = vg_resource_find(dev, id);
    vg_rect rect = {x, y, width, height};

    if (!res)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (res->blob_size)
        return vg_blob_flush(dev, res, rect);
    if (!vg_rect_fits(rect, res->width, res->height))
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    if (res->host3d)
        return vg_readback_flush(dev, res, rect);
    vg_scanouts_flush(dev, res, rect);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* ---- for sinks ----------------------------------------------------------------------------------------------- */

int vg_scanout_frame(vg_device *dev, uint32_t scanout, vg_frame *out)
{
    VG_ENTER(dev);
    if (scanout >= dev->num_scanouts)
        return -EINVAL;
    *out = dev->scanouts[scanout].frame;
    return 0;
}

int vg_scanout_take_damage(vg_device *dev, uint32_t scanout, vg_rect *out, uint32_t max)
{
    VG_ENTER(dev);
    vg_region *damage;
    int count;

    if (scanout >= dev->num_scanouts || max == 0)
        return -EINVAL;
    damage = &dev->scanouts[scanout].damage;
    vg_rects_shrink(damage, max);
    count = (int)damage->count;
    memcpy(out, damage->rects, damage->count * sizeof(*out));
    damage->count = 0;
    return count;
}

uint32_t vg_take_dirty(vg_device *dev)
{
    VG_ENTER(dev);
    uint32_t dirty = dev->dirty;

    dev->dirty = 0;
    vg_render_news_taken(dev);
    return dirty;
}

/* Whether every image of the resource but the one being drawn is held by sinks. */
static bool held_by_sinks(const struct vg_resource *res)
{
    for (uint32_t i = 0; i < res->num_images; i++) {
        if (res->images[i] != res->current && res->images[i]->holds == 0)
            return false;
    }
    return true;
}

int vg_images_starved(const vg_device *dev)
{
    VG_ENTER((vg_device *)dev);
    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        if (dev->scanouts[i].pending && held_by_sinks(dev->scanouts[i].resource))
            return 1;
    }
    return 0;
}

/* ---- life ---------------------------------------------------------------------------------------------------- */

int vg_scanouts_init(struct vg_device *dev)
{
    memset(dev->scanouts, 0, sizeof(dev->scanouts));
    memset(dev->cursors, 0, sizeof(dev->cursors));
    return 0;
}

void vg_scanouts_reset(struct vg_device *dev)
{
    for (uint32_t i = 0; i < dev->num_scanouts; i++)
        clear(dev, i);
    vg_cursors_reset(dev);
}

void vg_scanouts_free(struct vg_device *dev)
{
    vg_scanouts_reset(dev);
}
