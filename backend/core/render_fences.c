/*
 * Fences: a command that has one is executed and answered at once, but given back only when the renderer says that it is
 * done, and after all commands with fences before it on the same timeline: that of its context and ring, or the global
 * one (virtio 1.3, 5.7.6.7). The guest's numbers are echoed in the answer and mean nothing here: the renderer is given
 * our own, which only grow.
 *
 * What is done when the command returns (2D, read-back, errors) takes no fence of the renderer's: it goes back at once,
 * or with the command before it on its timeline.
 */
#include "vg_internal.h"

#define SLOW_FRAME_NS 16000000u
#define MANY_SLOW 3u

void vg_fences_init(struct vg_render *render)
{
    for (uint32_t i = 0; i < VG_MAX_QUEUE_SIZE; i++) {
        render->fences[i].next = render->free_fences;
        render->free_fences = &render->fences[i];
    }
}

/* ---- adding ---- */

static bool has_ring(const struct virtio_gpu_ctrl_hdr *hdr)
{
    return (hdr->flags & VIRTIO_GPU_FLAG_INFO_RING_IDX) != 0;
}

/* NULL: a context or ring that there is not. */
static struct vg_timeline *timeline_of(struct vg_render *render, const struct virtio_gpu_ctrl_hdr *hdr)
{
    if (!has_ring(hdr))
        return &render->global;
    struct vg_context *context = vg_context_find(render, hdr->ctx_id);
    return context != NULL && hdr->ring_idx < VG_MAX_RINGS ? &context->rings[hdr->ring_idx] : NULL;
}

int vg_fence_call(struct vg_render *render, const struct virtio_gpu_ctrl_hdr *hdr, uint64_t seq)
{
    return has_ring(hdr) ? render->ops->fence(hdr->ctx_id, hdr->ring_idx, seq) : render->ops->fence(0, 0, seq);
}

bool vg_fence_wanted(struct vg_render *render, const struct virtio_gpu_ctrl_hdr *hdr)
{
    return (hdr->flags & VIRTIO_GPU_FLAG_FENCE) && timeline_of(render, hdr) != NULL;
}

/* Asks the renderer for a fence. Its number, or 0. */
static uint64_t ask(struct vg_render *render, const struct virtio_gpu_ctrl_hdr *hdr)
{
    uint64_t seq = ++render->last_seq;
    vg_call_begin(render);
    int rc = vg_fence_call(render, hdr, seq);
    vg_call_end(render);
    return rc < 0 ? 0 : seq;
}

static bool is_retired(struct vg_render *render, const struct vg_timeline *timeline, uint64_t seq)
{
    pthread_mutex_lock(&render->done_lock);
    bool retired = timeline->retired >= seq;
    pthread_mutex_unlock(&render->done_lock);
    return retired;
}

static void append(struct vg_render *render, struct vg_timeline *timeline, struct vg_fence *fence)
{
    fence->next = NULL;
    if (timeline->first == NULL)
        timeline->first = fence;
    else
        timeline->last->next = fence;
    timeline->last = fence;
    render->pending++;
    if (timeline->busy)
        return;
    timeline->busy = true;
    timeline->next_busy = render->busy;
    render->busy = timeline;
}

/* The number to wait for; 0: nothing. Commands that have done nothing a fence could be behind wait for those before. */
static uint64_t wait_for(struct vg_render *render, const struct vg_timeline *timeline,
                         const struct virtio_gpu_ctrl_hdr *hdr)
{
    uint64_t seq = render->made_seq;
    if (seq == 0 && !has_ring(hdr) && render->unfenced_work && vg_render_usable(render->dev))
        seq = ask(render, hdr);
    if (seq != 0 && !has_ring(hdr))
        render->unfenced_work = false;
    render->made_seq = 0;
    if (seq == 0)
        return timeline->first != NULL ? timeline->last->seq : 0;
    return timeline->first == NULL && is_retired(render, timeline, seq) ? 0 : seq;
}

bool vg_fence_hold(struct vg_device *dev, const struct virtio_gpu_ctrl_hdr *hdr, const struct vg_popped *popped,
                   uint32_t written, bool full)
{
    struct vg_render *render = dev->render;
    struct vg_timeline *timeline = timeline_of(render, hdr);
    if (timeline == NULL || render->lost)
        return false;
    uint64_t seq = wait_for(render, timeline, hdr);
    struct vg_fence *fence = render->free_fences;
    if (seq == 0 || fence == NULL)
        return false;
    render->free_fences = fence->next;
    *fence = (struct vg_fence){
        .seq = seq,
        .asked_ns = vg_now_ns(),
        .epoch = dev->queues[VG_QUEUE_CONTROL].epoch,
        .popped = *popped,
        .written = written,
        .full = full,
    };
    append(render, timeline, fence);
    return true;
}

/* ---- giving back ---- */

/* Frames that take longer than a screen shows one keep all CPUs busy where there is no GPU: the loop, the guest and the
   VMM's threads come first then, or a cursor would wait for the scheduler's next tick. Fast frames leave gaps enough. */
static void note_done(struct vg_render *render, const struct vg_fence *fence)
{
    uint64_t now = vg_now_ns(), began = fence->asked_ns > render->last_done_ns ? fence->asked_ns : render->last_done_ns;
    render->slow_fences = now - began > SLOW_FRAME_NS ? render->slow_fences + 1 : 0;
    render->last_done_ns = now;
    if (render->slow_fences < MANY_SLOW || render->gave_way)
        return;
    vg_render_give_way();
    render->gave_way = true;
}

/* A queue that was stopped meanwhile has forgotten the chain. */
static void give_back(struct vg_render *render, struct vg_fence *fence)
{
    struct vg_device *dev = render->dev;
    struct vg_queue *queue = &dev->queues[VG_QUEUE_CONTROL];
    if (queue->started && !queue->broken && queue->epoch == fence->epoch && vg_ring_ready(dev, queue) == 0)
        vg_ring_give_back(dev, queue, &fence->popped, fence->written, fence->full);
    fence->next = render->free_fences;
    render->free_fences = fence;
    render->pending--;
    render->nap_ns = 0;
}

static void give_back_until(struct vg_render *render, struct vg_timeline *timeline, uint64_t seq)
{
    while (timeline->first != NULL && timeline->first->seq <= seq) {
        struct vg_fence *fence = timeline->first;
        timeline->first = fence->next;
        note_done(render, fence);
        give_back(render, fence);
    }
}

static void drop_idle_timelines(struct vg_render *render)
{
    struct vg_timeline **link = &render->busy;
    while (*link != NULL) {
        struct vg_timeline *timeline = *link;
        if (timeline->first == NULL) {
            *link = timeline->next_busy;
            timeline->busy = false;
        } else {
            link = &timeline->next_busy;
        }
    }
}

/* A ring that was disabled is not touched: some VMMs tell of a reset in no other way, and the guest may be using its
   memory for something else already. Should it be enabled again where it was, nothing is lost. */
void vg_fences_collect(struct vg_render *render)
{
    if (!render->dev->queues[VG_QUEUE_CONTROL].enabled)
        return;
    if (!atomic_exchange_explicit(&render->any_done, false, memory_order_acquire))
        return;
    for (struct vg_timeline *timeline = render->busy; timeline != NULL; timeline = timeline->next_busy) {
        pthread_mutex_lock(&render->done_lock);
        uint64_t retired = timeline->retired;
        pthread_mutex_unlock(&render->done_lock);
        give_back_until(render, timeline, retired);
    }
    drop_idle_timelines(render);
    vg_queue_notify(render->dev, VG_QUEUE_CONTROL);
    if (render->pending == 0)
        vg_poll_idle(render->dev, &render->dev->queues[VG_QUEUE_CONTROL]); /* it is the guest's turn from now on */
}

void vg_fences_poll(struct vg_render *render)
{
    vg_call_begin(render);
    render->ops->poll();
    vg_call_end(render);
    vg_fences_collect(render);
}

void vg_fences_finish(struct vg_render *render, struct vg_timeline *timeline)
{
    give_back_until(render, timeline, UINT64_MAX);
    drop_idle_timelines(render);
}

void vg_fences_finish_all(struct vg_render *render)
{
    for (struct vg_timeline *timeline = render->busy; timeline != NULL; timeline = timeline->next_busy)
        give_back_until(render, timeline, UINT64_MAX);
    drop_idle_timelines(render);
    render->unfenced_work = false;
}

/* ---- what the renderer tells, on any thread ---- */

static void retire(struct vg_timeline *timeline, uint64_t seq)
{
    if (timeline->retired < seq)
        timeline->retired = seq;
}

/* The ids change under done_lock too, so any thread may look. */
static struct vg_context *context_of(struct vg_render *render, uint32_t ctx_id)
{
    for (uint32_t i = 0; i < VG_MAX_CONTEXTS; i++) {
        if (render->contexts[i].id == ctx_id)
            return &render->contexts[i];
    }
    return NULL;
}

void vg_render_fence_done(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t seq)
{
    struct vg_render *render = cookie;
    pthread_mutex_lock(&render->done_lock);
    struct vg_context *context = ctx_id != 0 ? context_of(render, ctx_id) : NULL;
    if (ctx_id == 0)
        retire(&render->global, seq);
    else if (context != NULL && ring_idx < VG_MAX_RINGS)
        retire(&context->rings[ring_idx], seq);
    pthread_mutex_unlock(&render->done_lock);
    atomic_store_explicit(&render->any_done, true, memory_order_release);
    if (!pthread_equal(pthread_self(), render->thread))
        vg_render_wake(render);
}
