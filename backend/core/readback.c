/*
 * Pictures of the renderer's resources on scanouts: read back into the resource's images when they are flushed.
 *
 * Reading a frame back takes longer than many a frame takes to draw. A guest that draws faster than screens show gets
 * most of the time for drawing: after a read-back there is none for a multiple of the time that it took, never for
 * longer than a frame of 60 Hz. What is flushed in that rest is owed: the next flush after it brings both, or, if the
 * guest draws nothing more, the end of the rest. Guests that draw at a screen's rate or less see nothing of this. One
 * that draws far more is shown every other frame of a screen, as it is in 2D (vhost_gpu/frame_rate.py).
 */
#include <linux/virtio_gpu.h>

#include "vg_internal.h"

#define MANY_OWED 8u /* flushes in one rest, from which on the next one is twice the longest */
#define PATIENT_RESTS 3u /* the longest, for a frame that is owed while the guest draws and never flushes */

/* ---- reading ---- */

static bool is_current(const struct vg_render *render, const struct vg_resource *res, vg_rect rect)
{
    return res->read_content == render->content && !vg_rect_empty(res->read_rect) &&
           vg_rect_covers(res->read_rect, rect);
}

static void rest(struct vg_render *render, uint64_t start)
{
    uint64_t longest = render->longest_rest_ns, pause = (vg_now_ns() - start) * render->rest_times;
    if (pause > longest)
        pause = longest;
    if (render->num_owed >= MANY_OWED && pause > 0)
        pause = 2 * longest;
    render->rest_until = start + pause;
    render->num_owed = 0;
}

static uint32_t read_rect(struct vg_device *dev, struct vg_resource *res, vg_rect rect)
{
    struct vg_render *render = dev->render;
    if (!vg_render_usable(dev))
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    if (is_current(render, res, rect)) /* page flips: what SET_SCANOUT has read is not read again by the flush */
        return VIRTIO_GPU_RESP_OK_NODATA;
    if (vg_images_begin_write(dev, res, rect) < 0)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    uint8_t *dst = res->pixels + (uint64_t)rect.y * res->stride + (uint64_t)rect.x * VG_PIXEL_BYTES;
    uint64_t start = vg_now_ns();
    res->read_rect = (vg_rect){0};
    vg_resource_pin(res);
    vg_call_begin(render);
    int rc = render->ops->read_rect(res->id, rect.x, rect.y, rect.width, rect.height, dst, res->stride);
    vg_call_end(render);
    vg_resource_unpin(res);
    if (rc < 0)
        return vg_render_error(rc);
    rest(render, start);
    res->read_content = render->content;
    res->read_rect = rect;
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* Of two scanouts that show the same part of a resource, the second finds it read. */
static uint32_t read_shown(struct vg_device *dev, struct vg_resource *res, vg_rect rect)
{
    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        vg_rect part = vg_rect_intersect(rect, dev->scanouts[i].rect);
        if (dev->scanouts[i].resource != res || vg_rect_empty(part))
            continue;
        uint32_t type = read_rect(dev, res, part);
        if (type != VIRTIO_GPU_RESP_OK_NODATA)
            return type;
    }
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* ---- what is owed ---- */

static vg_rect unite(vg_rect a, vg_rect b)
{
    if (vg_rect_empty(a))
        return b;
    if (vg_rect_empty(b))
        return a;
    uint32_t x = a.x < b.x ? a.x : b.x, y = a.y < b.y ? a.y : b.y;
    uint32_t right = a.x + a.width > b.x + b.width ? a.x + a.width : b.x + b.width;
    uint32_t bottom = a.y + a.height > b.y + b.height ? a.y + a.height : b.y + b.height;
    return (vg_rect){x, y, right - x, bottom - y};
}

static bool may_owe(const struct vg_device *dev, const struct vg_resource *res, vg_rect rect)
{
    return vg_render_usable(dev) && vg_now_ns() < dev->render->rest_until && !is_current(dev->render, res, rect);
}

static void owe(struct vg_render *render)
{
    render->owes = true;
    render->num_owed++;
    render->owed_since = vg_now_ns();
    render->owed_content = render->content;
}

static uint32_t pay(struct vg_device *dev, struct vg_resource *res)
{
    vg_rect rect = res->owed;
    uint32_t type = read_shown(dev, res, rect);
    if (type != VIRTIO_GPU_RESP_OK_NODATA)
        return type;
    res->owed = (vg_rect){0};
    vg_scanouts_flush(dev, res, rect);
    return type;
}

uint64_t vg_readback_due(const struct vg_render *render)
{
    if (!render->owes)
        return 0;
    if (render->content == render->owed_content)
        return render->rest_until;
    return render->owed_since + PATIENT_RESTS * render->longest_rest_ns;
}

void vg_readback_pay(struct vg_render *render)
{
    struct vg_device *dev = render->dev;
    if (vg_now_ns() < vg_readback_due(render))
        return;
    render->owes = false;
    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        struct vg_resource *res = dev->scanouts[i].resource;
        if (res != NULL && res->host3d && !vg_rect_empty(res->owed))
            pay(dev, res);
    }
}

/* ---- commands ---- */

static bool is_shown(const struct vg_device *dev, const struct vg_resource *res)
{
    for (uint32_t i = 0; i < dev->num_scanouts; i++) {
        if (dev->scanouts[i].resource == res)
            return true;
    }
    return false;
}

uint32_t vg_readback_flush(struct vg_device *dev, struct vg_resource *res, vg_rect rect)
{
    if (!is_shown(dev, res) || vg_rect_empty(rect))
        return VIRTIO_GPU_RESP_OK_NODATA;
    res->owed = unite(res->owed, rect);
    if (!may_owe(dev, res, res->owed))
        return pay(dev, res);
    owe(dev->render);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

/* Only from frame to frame: another mode is shown at once. */
uint32_t vg_readback_point(struct vg_device *dev, uint32_t scanout, struct vg_resource *res, vg_rect rect)
{
    const struct vg_scanout *s = &dev->scanouts[scanout];
    bool same = s->image != NULL && s->frame.width == rect.width && s->frame.height == rect.height &&
                s->frame.format == res->format;
    if (same && may_owe(dev, res, rect)) {
        vg_scanout_point(dev, scanout, res, rect);
        res->owed = unite(res->owed, rect);
        res->written_since_flush = true; /* the image is not this frame yet */
        owe(dev->render);
        return VIRTIO_GPU_RESP_OK_NODATA;
    }
    uint32_t type = read_rect(dev, res, rect);
    if (type != VIRTIO_GPU_RESP_OK_NODATA)
        return type;
    if (vg_rect_covers(rect, res->owed))
        res->owed = (vg_rect){0};
    vg_scanout_point(dev, scanout, res, rect);
    res->written_since_flush = false;
    vg_scanouts_publish_waiting(dev);
    return VIRTIO_GPU_RESP_OK_NODATA;
}
