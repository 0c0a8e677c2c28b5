/*
 * Commands that a renderer makes known, and those of 2D that the render thread completes itself because they may concern
 * a resource of the renderer's.
 */
#include <stdlib.h>

#include "vg_internal.h"

#define SCRATCH_KEPT (1u << 20) /* what a larger stream or list took is given back when the ring is empty */

/* ---- sizes ---- */

uint64_t vg_render_request_size(uint32_t type)
{
    switch (type) {
    case VIRTIO_GPU_CMD_CTX_CREATE:
        return sizeof(struct virtio_gpu_ctx_create);
    case VIRTIO_GPU_CMD_CTX_DESTROY:
        return sizeof(struct virtio_gpu_ctx_destroy);
    case VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE:
    case VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE:
        return sizeof(struct virtio_gpu_ctx_resource);
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_3D:
        return sizeof(struct virtio_gpu_resource_create_3d);
    case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D:
    case VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D:
        return sizeof(struct virtio_gpu_transfer_host_3d);
    case VIRTIO_GPU_CMD_SUBMIT_3D:
        return sizeof(struct virtio_gpu_cmd_submit);
    case VIRTIO_GPU_CMD_RESOURCE_ASSIGN_UUID:
        return sizeof(struct virtio_gpu_resource_assign_uuid);
    default:
        return 0;
    }
}

/* ---- memory for streams ---- */

void vg_render_scratch_free(struct vg_device *dev)
{
    struct vg_render *render = dev->render;
    free(render->scratch);
    vg_budget_return(dev, render->scratch_size);
    render->scratch = NULL;
    render->scratch_size = 0;
}

uint8_t *vg_render_scratch(struct vg_device *dev, uint64_t size)
{
    struct vg_render *render = dev->render;
    if (size <= render->scratch_size)
        return render->scratch;
    size = (size + 0xffff) & ~0xffffull;
    vg_render_scratch_free(dev);
    if (vg_budget_charge(dev, size) < 0)
        return NULL;
    render->scratch = malloc(size);
    if (render->scratch == NULL) {
        vg_budget_return(dev, size);
        return NULL;
    }
    render->scratch_size = size;
    return render->scratch;
}

static void trim_scratch(struct vg_device *dev)
{
    if (dev->render->scratch_size > SCRATCH_KEPT)
        vg_render_scratch_free(dev);
}

/* Bytes of the command at hand behind its fixed struct, copied once. 0, or a response type. */
static uint32_t read_tail(struct vg_device *dev, uint64_t offset, uint64_t size, uint8_t **out)
{
    const struct vg_walk *walk = &dev->queues[VG_QUEUE_CONTROL].walk;
    if (walk->readable < offset || walk->readable - offset < size)
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    *out = vg_render_scratch(dev, size > 0 ? size : 1);
    if (*out == NULL)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    uint64_t faults = vg_mem_faults(dev);
    vg_chain_read(dev, walk, offset, *out, size);
    return vg_mem_faults(dev) != faults ? VIRTIO_GPU_RESP_ERR_UNSPEC : 0;
}

/* ---- SUBMIT_3D ---- */

static uint32_t complain(struct vg_render *render, struct vg_context *context)
{
    if (!context->complained) {
        context->complained = true;
        vg_render_event_add(render, VG_EVENT_CONTEXT_ERROR, context->id, "its command stream is refused");
        vg_render_tell(render);
    }
    return VIRTIO_GPU_RESP_ERR_UNSPEC;
}

/* The stream and its fence, in one go. */
static uint32_t submit(struct vg_device *dev, struct vg_context *context, const struct virtio_gpu_cmd_submit *command,
                       uint8_t *stream)
{
    struct vg_render *render = dev->render;
    bool fenced = vg_fence_wanted(render, &command->hdr);
    uint64_t seq = render->last_seq + 1;
    vg_call_begin(render);
    int rc = render->ops->submit(command->hdr.ctx_id, stream, command->size / 4);
    int made = rc == 0 && fenced ? vg_fence_call(render, &command->hdr, seq) : 1;
    vg_call_end(render);
    render->content++;
    render->unfenced_work = true;
    if (made <= 0)
        render->last_seq = seq;
    if (made == 0)
        render->made_seq = seq;
    return rc == 0 ? VIRTIO_GPU_RESP_OK_NODATA : complain(render, context);
}

static uint32_t submit_3d(struct vg_device *dev, const struct virtio_gpu_cmd_submit *command)
{
    struct vg_context *context = vg_context_find(dev->render, command->hdr.ctx_id);
    uint8_t *stream;
    if (context == NULL)
        return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
    if (command->size % 4 != 0 || command->size > VG_MAX_STREAM)
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    uint32_t type = read_tail(dev, sizeof(*command), command->size, &stream);
    if (type != 0)
        return type;
    VG_TRACE(dev, stream, &dev->queues[VG_QUEUE_CONTROL], stream, command->size);
    type = vg_render_convert_attached(dev, context);
    if (type != VIRTIO_GPU_RESP_OK_NODATA)
        return type;
    vg_render_reattach(dev);
    type = submit(dev, context, command, stream);
    trim_scratch(dev);
    return type;
}

/* ---- transfers ---- */

static uint32_t transfer(struct vg_device *dev, struct vg_resource *res, const struct virtio_gpu_transfer_host_3d *t,
                         int to_host)
{
    struct vg_render *render = dev->render;
    const struct vg_renderer_box box = {t->box.x, t->box.y, t->box.z, t->box.w, t->box.h, t->box.d};
    vg_render_reattach(dev);
    if (res->iov == NULL)
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    vg_call_begin(render);
    int rc = render->ops->transfer(res->id, t->hdr.ctx_id, to_host, t->level, t->stride, t->layer_stride, &box,
                                   t->offset);
    vg_call_end(render);
    render->content += (uint64_t)to_host;
    render->unfenced_work = true;
    return vg_render_error(rc);
}

static uint32_t transfer_3d(struct vg_device *dev, const struct virtio_gpu_transfer_host_3d *command)
{
    struct vg_resource *res = vg_resource_find(dev, command->resource_id);
    if (command->hdr.ctx_id != 0 && vg_context_find(dev->render, command->hdr.ctx_id) == NULL)
        return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
    if (res == NULL || res->blob_size != 0)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    uint32_t type = vg_render_convert(dev, res);
    if (type != VIRTIO_GPU_RESP_OK_NODATA)
        return type;
    return transfer(dev, res, command, command->hdr.type == VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D);
}

uint32_t vg_render_transfer_2d(struct vg_device *dev, struct vg_resource *res, vg_rect rect, uint64_t offset)
{
    const struct virtio_gpu_transfer_host_3d command = {
        .box = {rect.x, rect.y, 0, rect.width, rect.height, 1},
        .offset = offset,
    };
    if (!vg_render_usable(dev))
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    return transfer(dev, res, &command, 1);
}

/* ---- cursors ---- */

void vg_render_cursor(struct vg_device *dev, uint32_t scanout)
{
    struct vg_render *render = dev->render;
    if (render->cursor_jobs == 0 && !vg_render_is_thread(render))
        vg_render_wake(render);
    render->cursor_jobs |= 1u << scanout;
}

/* The picture is read outside the lock; what was asked for in between wins. */
static void read_cursor(struct vg_render *render, uint32_t scanout)
{
    struct vg_device *dev = render->dev;
    const struct vg_cursor_wish wish = dev->cursors[scanout].wish;
    const struct vg_resource *res = wish.resource_id != 0 ? vg_resource_find(dev, wish.resource_id) : NULL;
    if (res == NULL || !res->host3d || res->width != VG_CURSOR_SIDE || res->height != VG_CURSOR_SIDE)
        return;
    uint32_t format = res->format;
    vg_call_begin(render);
    int rc = render->ops->read_rect(wish.resource_id, 0, 0, VG_CURSOR_SIDE, VG_CURSOR_SIDE, render->cursor_pixels,
                                    VG_CURSOR_SIDE * VG_PIXEL_BYTES);
    vg_call_end(render);
    if (rc == 0 && dev->cursors[scanout].wish.serial == wish.serial)
        vg_cursor_show(dev, scanout, render->cursor_pixels, format);
}

void vg_render_cursor_jobs(struct vg_render *render)
{
    while (render->cursor_jobs != 0) {
        uint32_t scanout = (uint32_t)__builtin_ctz(render->cursor_jobs);
        render->cursor_jobs &= render->cursor_jobs - 1;
        read_cursor(render, scanout);
    }
    vg_render_tell_if_dirty(render);
}

/* ---- dispatch ---- */

static uint32_t attach_backing(struct vg_device *dev, const struct virtio_gpu_resource_attach_backing *command)
{
    uint64_t size = (uint64_t)command->nr_entries * sizeof(struct virtio_gpu_mem_entry);
    uint8_t *entries;
    uint32_t type = read_tail(dev, sizeof(*command), size, &entries);
    if (type == 0)
        type = vg_resource_attach_backing(dev, command->resource_id, entries, command->nr_entries);
    trim_scratch(dev);
    return type;
}

/* What needs no renderer, but must keep its order with what does. */
static uint32_t run_2d(struct vg_device *dev, const union vg_request_data *data)
{
    switch (data->hdr.type) {
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_2D:
        return vg_resource_create_2d(dev, data->create_2d.resource_id, data->create_2d.format, data->create_2d.width,
                                     data->create_2d.height);
    case VIRTIO_GPU_CMD_RESOURCE_UNREF:
        return vg_resource_unref(dev, data->unref.resource_id);
    case VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING:
        return attach_backing(dev, &data->attach);
    case VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING:
        return vg_resource_detach_backing(dev, data->detach.resource_id);
    default:
        return 0;
    }
}

static uint32_t run_3d(struct vg_device *dev, const union vg_request_data *data)
{
    switch (data->hdr.type) {
    case VIRTIO_GPU_CMD_SUBMIT_3D:
        return submit_3d(dev, &data->submit);
    case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_3D:
    case VIRTIO_GPU_CMD_TRANSFER_FROM_HOST_3D:
        return transfer_3d(dev, &data->transfer_3d);
    case VIRTIO_GPU_CMD_CTX_CREATE:
        return vg_context_create(dev, &data->ctx_create);
    case VIRTIO_GPU_CMD_CTX_DESTROY:
        return vg_context_destroy(dev, data->hdr.ctx_id);
    case VIRTIO_GPU_CMD_CTX_ATTACH_RESOURCE:
        return vg_context_attach(dev, data->hdr.ctx_id, data->ctx_resource.resource_id);
    case VIRTIO_GPU_CMD_CTX_DETACH_RESOURCE:
        return vg_context_detach(dev, data->hdr.ctx_id, data->ctx_resource.resource_id);
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_3D:
        return vg_render_create_3d(dev, &data->create_3d);
    default:
        return 0;
    }
}

static bool is_3d(uint32_t type)
{
    return type >= VIRTIO_GPU_CMD_CTX_CREATE && type <= VIRTIO_GPU_CMD_SUBMIT_3D;
}

uint32_t vg_render_run(struct vg_device *dev, const union vg_request_data *data)
{
    if (!is_3d(data->hdr.type))
        return run_2d(dev, data);
    return vg_render_usable(dev) ? run_3d(dev, data) : VIRTIO_GPU_RESP_ERR_UNSPEC;
}
