/*
 * Resources whose pixels live in the renderer (vg_resource.host3d): made, fed with guest memory, read back, let go.
 *
 * A resource is pinned while the renderer works on memory of ours that belongs to it and the lock is free: nobody frees or
 * moves that memory then, and when the renderer is lost in the middle of it, never.
 */
#include <errno.h>
#include <stdlib.h>

#include "vg_internal.h"

#define TARGET_2D 2u              /* PIPE_TEXTURE_2D */
#define BIND_RENDER_TARGET 2u     /* VIRGL_BIND_RENDER_TARGET */
#define BIND_SAMPLER_VIEW 8u      /* VIRGL_BIND_SAMPLER_VIEW */
#define BIND_SCANOUT (1u << 18)   /* VIRGL_BIND_SCANOUT */
#define FIRST_SRGB 100u           /* VIRGL_FORMAT_B8G8R8A8_SRGB, then B8G8R8X8, A8R8G8B8, X8R8G8B8, R8G8B8A8 */

/* ---- guest memory for the renderer ---- */

static void free_iov(struct vg_device *dev, struct vg_resource *res)
{
    free(res->iov);
    vg_budget_return(dev, res->iov_charged);
    res->iov = NULL;
    res->iov_charged = 0;
}

/* Pieces that cross regions become several. -EFAULT: not all of it lies in memory now. */
static int fill_iov(struct vg_device *dev, const struct vg_backing *backing, struct iovec *iov, uint32_t *count)
{
    *count = 0;
    for (uint32_t i = 0; i < backing->nr_entries; i++) {
        uint64_t gpa = backing->entries[2 * (size_t)i], left = backing->entries[2 * (size_t)i + 1];
        while (left > 0) {
            uint64_t contiguous;
            uint8_t *host = vg_mem_host(dev, gpa, &contiguous);
            if (host == NULL)
                return -EFAULT;
            if (contiguous > left)
                contiguous = left;
            if (iov != NULL)
                iov[*count] = (struct iovec){.iov_base = host, .iov_len = contiguous};
            ++*count;
            gpa += contiguous;
            left -= contiguous;
        }
    }
    return 0;
}

static int make_iov(struct vg_device *dev, struct vg_resource *res, uint32_t *count)
{
    int rc = fill_iov(dev, &res->backing, NULL, count);
    uint64_t bytes = (uint64_t)*count * sizeof(struct iovec);
    if (rc < 0)
        return rc;
    if (*count == 0)
        return -EINVAL;
    if (vg_budget_charge(dev, bytes) < 0)
        return -ENOMEM;
    res->iov = malloc(bytes);
    if (res->iov == NULL) {
        vg_budget_return(dev, bytes);
        return -ENOMEM;
    }
    res->iov_charged = bytes;
    return fill_iov(dev, &res->backing, res->iov, count);
}

static int attach(struct vg_device *dev, struct vg_resource *res)
{
    struct vg_render *render = dev->render; /* the device may be gone when a call returns */
    uint32_t count;
    int rc = make_iov(dev, res, &count);
    if (rc < 0)
        return rc;
    vg_call_begin(render);
    rc = render->ops->attach_iov(res->id, res->iov, count);
    vg_call_end(render);
    if (rc < 0)
        free_iov(dev, res);
    return rc;
}

static int detach(struct vg_device *dev, struct vg_resource *res, void *unused)
{
    struct vg_render *render = dev->render; /* the device may be gone when a call returns */
    (void)unused;
    if (res->iov == NULL)
        return 0;
    vg_call_begin(render);
    render->ops->detach_iov(res->id);
    vg_call_end(render);
    free_iov(dev, res);
    return 0;
}

uint32_t vg_render_attach_backing(struct vg_device *dev, struct vg_resource *res)
{
    if (!vg_render_usable(dev))
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    int rc = attach(dev, res);
    return rc == -EFAULT ? VIRTIO_GPU_RESP_ERR_UNSPEC : vg_render_error(rc);
}

uint32_t vg_render_detach_backing(struct vg_device *dev, struct vg_resource *res)
{
    if (!vg_render_usable(dev))
        return dev->render->lost ? VIRTIO_GPU_RESP_OK_NODATA : VIRTIO_GPU_RESP_ERR_UNSPEC;
    detach(dev, res, NULL);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

void vg_render_detach_all(struct vg_device *dev)
{
    vg_resources_each(dev, detach, NULL);
    dev->render->generation = 0;
}

/* What has lost its memory is left without: transfers of it fail. */
static int attach_again(struct vg_device *dev, struct vg_resource *res, void *unused)
{
    (void)unused;
    if (res->host3d && res->iov == NULL && res->backing.nr_entries > 0)
        attach(dev, res);
    return 0;
}

void vg_render_reattach(struct vg_device *dev)
{
    if (dev->render->generation == dev->memory.generation)
        return;
    vg_resources_each(dev, attach_again, NULL);
    dev->render->generation = dev->memory.generation;
}

/* ---- making ---- */

/* The format that sinks are told; 0: it can't be shown. Numbers of VirGL and virtio-gpu are the same where both exist. */
static uint32_t shown_format(uint32_t format)
{
    static const uint32_t linear[] = {
        VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM, VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM, VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM,
        VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM, VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM,
    };
    if (format >= FIRST_SRGB && format - FIRST_SRGB < sizeof(linear) / sizeof(linear[0]))
        return linear[format - FIRST_SRGB];
    return vg_format_known(format) ? format : 0;
}

/* The most that resource_bytes and the struct are charged for; UINT64_MAX: too much whatever the limit. */
static uint64_t cost_of(const struct vg_render *render, const struct vg_renderer_resource *args)
{
    uint64_t bytes = render->ops->resource_bytes(args);
    return bytes == 0 || bytes > UINT64_MAX - VG_RESOURCE_OVERHEAD ? bytes : bytes + VG_RESOURCE_OVERHEAD;
}

static uint32_t create(struct vg_device *dev, const struct vg_renderer_resource *args)
{
    struct vg_render *render = dev->render; /* the device may be gone when a call returns */
    vg_call_begin(render);
    int rc = render->ops->resource_create(args);
    vg_call_end(render);
    return vg_render_error(rc);
}

static struct vg_resource *resource_new(const struct vg_renderer_resource *args, uint64_t charged)
{
    struct vg_resource *res = calloc(1, sizeof(*res));
    if (res == NULL)
        return NULL;
    res->id = args->id;
    res->format = shown_format(args->format);
    res->width = args->width;
    res->height = args->height;
    if (res->width <= UINT32_MAX / VG_PIXEL_BYTES) /* as for 2D: else it can't be shown */
        res->stride = res->width * VG_PIXEL_BYTES;
    else
        res->format = 0;
    res->size = (uint64_t)res->stride * res->height;
    res->charged = charged;
    res->host3d = true;
    return res;
}

uint32_t vg_render_create_3d(struct vg_device *dev, const struct virtio_gpu_resource_create_3d *c)
{
    const struct vg_renderer_resource args = {
        .id = c->resource_id, .target = c->target, .format = c->format, .bind = c->bind,
        .width = c->width, .height = c->height, .depth = c->depth, .array_size = c->array_size,
        .last_level = c->last_level, .nr_samples = c->nr_samples, .flags = c->flags,
    };
    if (args.id == 0 || vg_resource_find(dev, args.id) != NULL)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    uint64_t cost = cost_of(dev->render, &args);
    if (cost == 0)
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    if (vg_budget_charge(dev, cost) < 0)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    struct vg_resource *res = resource_new(&args, cost);
    uint32_t type = res != NULL ? create(dev, &args) : VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    if (type != VIRTIO_GPU_RESP_OK_NODATA) {
        free(res);
        vg_budget_return(dev, cost);
        return type;
    }
    vg_resource_insert(dev, res);
    return type;
}

/* ---- a plain 2D resource becomes one of the renderer's ---- */

static uint32_t upload(struct vg_device *dev, struct vg_resource *res)
{
    struct vg_render *render = dev->render; /* the device may be gone when a call returns */
    if (!res->written)
        return VIRTIO_GPU_RESP_OK_NODATA;
    vg_resource_pin(res);
    vg_call_begin(render);
    int rc = render->ops->write_rect(res->id, 0, 0, res->width, res->height, res->pixels, res->stride);
    vg_call_end(render);
    vg_resource_unpin(res);
    return vg_render_error(rc);
}

static void remove_again(struct vg_device *dev, const struct vg_resource *res)
{
    struct vg_render *render = dev->render; /* the device may be gone when a call returns */
    vg_call_begin(render);
    render->ops->resource_unref(res->id);
    vg_call_end(render);
}

/* Private pixels go; images, if it has been on a scanout, stay. */
static void become_host3d(struct vg_device *dev, struct vg_resource *res, uint64_t cost)
{
    vg_budget_return(dev, res->charged);
    res->charged = cost;
    res->host3d = true;
    if (!res->own_memory)
        return;
    vg_pixels_free(res->pixels, res->size);
    res->own_memory = false;
    res->pixels = NULL;
}

/* As QEMU's device makes 2D resources when it has a renderer. */
uint32_t vg_render_convert(struct vg_device *dev, struct vg_resource *res)
{
    const struct vg_renderer_resource args = {
        .id = res->id, .target = TARGET_2D, .format = res->format,
        .bind = BIND_RENDER_TARGET | BIND_SAMPLER_VIEW | BIND_SCANOUT, .width = res->width, .height = res->height,
        .depth = 1, .array_size = 1, .flags = VIRTIO_GPU_RESOURCE_FLAG_Y_0_TOP,
    };
    if (res->host3d)
        return VIRTIO_GPU_RESP_OK_NODATA;
    uint64_t cost = cost_of(dev->render, &args);
    if (cost == 0 || vg_budget_charge(dev, cost) < 0)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    uint32_t type = create(dev, &args);
    if (type == VIRTIO_GPU_RESP_OK_NODATA) {
        type = upload(dev, res);
        if (type != VIRTIO_GPU_RESP_OK_NODATA)
            remove_again(dev, res);
    }
    if (type != VIRTIO_GPU_RESP_OK_NODATA) {
        vg_budget_return(dev, cost);
        return type;
    }
    become_host3d(dev, res, cost);
    vg_contexts_attach_converted(dev, res);
    if (res->backing.nr_entries > 0)
        attach(dev, res);
    return type;
}

static int convert_if_attached(struct vg_device *dev, struct vg_resource *res, void *bit)
{
    if (res->host3d || !(res->contexts & *(const uint64_t *)bit))
        return 0;
    return vg_render_convert(dev, res) == VIRTIO_GPU_RESP_OK_NODATA ? 0 : -1;
}

uint32_t vg_render_convert_attached(struct vg_device *dev, struct vg_context *context)
{
    uint64_t bit = 1ull << (context - dev->render->contexts);
    if (context->num_plain == 0)
        return VIRTIO_GPU_RESP_OK_NODATA;
    return vg_resources_each(dev, convert_if_attached, &bit) == 0 ? VIRTIO_GPU_RESP_OK_NODATA
                                                                  : VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
}

/* ---- the end ---- */

uint32_t vg_render_unref(struct vg_device *dev, struct vg_resource *res)
{
    if (!vg_render_usable(dev))
        return dev->render->lost ? VIRTIO_GPU_RESP_OK_NODATA : VIRTIO_GPU_RESP_ERR_UNSPEC;
    detach(dev, res, NULL);
    remove_again(dev, res);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

void vg_render_resource_free(struct vg_device *dev, struct vg_resource *res)
{
    vg_contexts_forget(dev, res);
    if (vg_render_haunts(dev->render)) { /* it may still be looking */
        vg_budget_return(dev, res->iov_charged);
        res->iov = NULL;
        return;
    }
    free_iov(dev, res);
}
