/* Contexts of the renderer and the resources attached to them: a bounded table. */
#include <errno.h>

#include "vg_internal.h"

_Static_assert(VG_MAX_CONTEXTS == 64, "vg_resource.contexts has a bit for each");

struct vg_context *vg_context_find(struct vg_render *render, uint32_t id)
{
    if (render->last_context != NULL && render->last_context->id == id)
        return id != 0 ? render->last_context : NULL;
    for (uint32_t i = 0; i < VG_MAX_CONTEXTS && id != 0; i++) {
        if (render->contexts[i].id == id)
            return render->last_context = &render->contexts[i];
    }
    return NULL;
}

static uint64_t bit_of(const struct vg_render *render, const struct vg_context *context)
{
    return 1ull << (context - render->contexts);
}

static struct vg_context *find_free(struct vg_render *render)
{
    for (uint32_t i = 0; i < VG_MAX_CONTEXTS; i++) {
        if (render->contexts[i].id == 0)
            return &render->contexts[i];
    }
    return NULL;
}

uint32_t vg_render_error(int rc)
{
    switch (rc) {
    case -EINVAL:
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    case -ENOMEM:
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    default:
        return rc < 0 ? VIRTIO_GPU_RESP_ERR_UNSPEC : VIRTIO_GPU_RESP_OK_NODATA;
    }
}

/* ---- the table ---- */

static void name_context(struct vg_render *render, struct vg_context *context, uint32_t id)
{
    pthread_mutex_lock(&render->done_lock);
    context->id = id;
    pthread_mutex_unlock(&render->done_lock);
}

uint32_t vg_context_create(struct vg_device *dev, const struct virtio_gpu_ctx_create *create)
{
    struct vg_render *render = dev->render;
    struct vg_context *context = find_free(render);
    uint32_t id = create->hdr.ctx_id;
    uint32_t len = create->nlen < sizeof(create->debug_name) ? create->nlen : sizeof(create->debug_name);
    if (id == 0 || vg_context_find(render, id) != NULL)
        return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
    if (context == NULL || vg_budget_charge(dev, VG_CONTEXT_OVERHEAD) < 0)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    vg_call_begin(render);
    int rc = render->ops->ctx_create(id, create->context_init, create->debug_name, len);
    vg_call_end(render);
    if (rc < 0) {
        vg_budget_return(dev, VG_CONTEXT_OVERHEAD);
        return vg_render_error(rc);
    }
    context->num_resources = context->num_plain = 0;
    context->complained = false;
    name_context(render, context, id);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

static int drop_bit(struct vg_device *dev, struct vg_resource *res, void *context)
{
    res->contexts &= ~bit_of(dev->render, context);
    return 0;
}

static void forget(struct vg_device *dev, struct vg_context *context)
{
    struct vg_render *render = dev->render;
    if (context->num_resources > 0)
        vg_resources_each(dev, drop_bit, context);
    for (uint32_t i = 0; i < VG_MAX_RINGS; i++) {
        if (context->rings[i].first != NULL)
            vg_fences_finish(render, &context->rings[i]);
    }
    name_context(render, context, 0);
    vg_budget_return(dev, VG_CONTEXT_OVERHEAD);
}

uint32_t vg_context_destroy(struct vg_device *dev, uint32_t id)
{
    struct vg_render *render = dev->render;
    struct vg_context *context = vg_context_find(render, id);
    if (context == NULL)
        return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
    vg_call_begin(render);
    render->ops->ctx_destroy(id);
    vg_call_end(render);
    forget(dev, context);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

void vg_contexts_reset(struct vg_device *dev)
{
    for (uint32_t i = 0; i < VG_MAX_CONTEXTS; i++) {
        if (dev->render->contexts[i].id != 0)
            forget(dev, &dev->render->contexts[i]);
    }
}

/* ---- resources ---- */

/* A plain 2D resource is only noted: few contexts that it is attached to ever draw. See vg_render_convert_attached. */
uint32_t vg_context_attach(struct vg_device *dev, uint32_t id, uint32_t resource_id)
{
    struct vg_render *render = dev->render;
    struct vg_context *context = vg_context_find(render, id);
    struct vg_resource *res = vg_resource_find(dev, resource_id);
    if (context == NULL)
        return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
    if (res == NULL || res->blob_size != 0) /* guest memory without a format is nothing that the renderer could use */
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (res->contexts & bit_of(render, context))
        return VIRTIO_GPU_RESP_OK_NODATA;
    if (context->num_resources == VG_MAX_CONTEXT_RESOURCES)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    if (res->host3d) {
        vg_call_begin(render);
        render->ops->ctx_attach(id, resource_id);
        vg_call_end(render);
    } else {
        context->num_plain++;
    }
    res->contexts |= bit_of(render, context);
    context->num_resources++;
    return VIRTIO_GPU_RESP_OK_NODATA;
}

uint32_t vg_context_detach(struct vg_device *dev, uint32_t id, uint32_t resource_id)
{
    struct vg_render *render = dev->render;
    struct vg_context *context = vg_context_find(render, id);
    struct vg_resource *res = vg_resource_find(dev, resource_id);
    if (context == NULL)
        return VIRTIO_GPU_RESP_ERR_INVALID_CONTEXT_ID;
    if (res == NULL)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (!(res->contexts & bit_of(render, context)))
        return VIRTIO_GPU_RESP_OK_NODATA; /* Linux detaches what it attached before it had a context */
    res->contexts &= ~bit_of(render, context);
    context->num_resources--;
    if (res->host3d) {
        vg_call_begin(render);
        render->ops->ctx_detach(id, resource_id);
        vg_call_end(render);
    } else {
        context->num_plain--;
    }
    return VIRTIO_GPU_RESP_OK_NODATA;
}

void vg_contexts_forget(struct vg_device *dev, struct vg_resource *res)
{
    struct vg_context *contexts = dev->render->contexts;
    for (; res->contexts != 0; res->contexts &= res->contexts - 1) {
        struct vg_context *context = &contexts[__builtin_ctzll(res->contexts)];
        context->num_resources--;
        context->num_plain -= !res->host3d;
    }
}

/* The renderer knows the resource now: what was only noted so far is done. */
void vg_contexts_attach_converted(struct vg_device *dev, struct vg_resource *res)
{
    struct vg_render *render = dev->render;
    for (uint64_t left = res->contexts; left != 0; left &= left - 1) {
        struct vg_context *context = &render->contexts[__builtin_ctzll(left)];
        vg_call_begin(render);
        render->ops->ctx_attach(context->id, res->id);
        vg_call_end(render);
        context->num_plain--;
    }
}
