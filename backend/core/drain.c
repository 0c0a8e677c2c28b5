/*
 * Commands: what is served here, what goes to the caller, and in which portions.
 *
 * A command's pages may turn out to be gone (SIGBUS, watch.c). The fault count tells: when it changed while a request
 * was read or a command ran, the answer is ERR_UNSPEC; when it changed while ring, descriptors or used entries were
 * touched, the queue breaks (ring.c). A ring page that a transfer happened to read first reads as zeros from then on,
 * which breaks the queue (index ahead) or leaves it empty.
 */
#include <errno.h>
#include <string.h>

#include "vg_internal.h"
#include "vg_copy.h"

#define FRAMES ((1u << VG_MAX_SCANOUTS) - 1) /* of dev->dirty */
#define COST_PER_CLOCK 8     /* commands between two looks at the clock */
#define PIXELS_PER_COST 8192 /* a transfer of so many pixels counts as one more command */
#define MANY_DONE 8u         /* completions that are worth an interrupt of their own */
#define CURSOR_BURST 16      /* cursor commands served in one vg_poll_cursor */

#define FOR_CALLER 0 /* no response type: the command is not answered here */

/* ---- what a command must bring ---- */

/* Bytes of the fixed struct; 0: not a command of this queue. */
static uint64_t control_size(uint32_t type)
{
    switch (type) {
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_2D:
        return sizeof(struct virtio_gpu_resource_create_2d);
    case VIRTIO_GPU_CMD_RESOURCE_UNREF:
        return sizeof(struct virtio_gpu_resource_unref);
    case VIRTIO_GPU_CMD_SET_SCANOUT:
        return sizeof(struct virtio_gpu_set_scanout);
    case VIRTIO_GPU_CMD_RESOURCE_FLUSH:
        return sizeof(struct virtio_gpu_resource_flush);
    case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D:
        return sizeof(struct virtio_gpu_transfer_to_host_2d);
    case VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING:
        return sizeof(struct virtio_gpu_resource_attach_backing);
    case VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING:
        return sizeof(struct virtio_gpu_resource_detach_backing);
    case VIRTIO_GPU_CMD_GET_CAPSET_INFO:
        return sizeof(struct virtio_gpu_get_capset_info);
    case VIRTIO_GPU_CMD_GET_CAPSET:
        return sizeof(struct virtio_gpu_get_capset);
    case VIRTIO_GPU_CMD_GET_EDID:
        return sizeof(struct virtio_gpu_cmd_get_edid);
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB:
        return sizeof(struct virtio_gpu_resource_create_blob);
    case VIRTIO_GPU_CMD_SET_SCANOUT_BLOB:
        return sizeof(struct virtio_gpu_set_scanout_blob);
    case VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB:
        return sizeof(struct virtio_gpu_resource_map_blob);
    case VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB:
        return sizeof(struct virtio_gpu_resource_unmap_blob);
    case VIRTIO_GPU_CMD_UPDATE_CURSOR:
    case VIRTIO_GPU_CMD_MOVE_CURSOR:
        return 0;
    default: /* GET_DISPLAY_INFO has nothing but a header; of unknown commands the caller gets that */
        return sizeof(struct virtio_gpu_ctrl_hdr);
    }
}

static uint64_t cursor_size(uint32_t type)
{
    int ours = type == VIRTIO_GPU_CMD_UPDATE_CURSOR || type == VIRTIO_GPU_CMD_MOVE_CURSOR;
    return ours ? sizeof(struct virtio_gpu_update_cursor) : 0;
}

/* A command on its way through the drain. */
struct command {
    union vg_request_data data;
    uint64_t size;      /* of the request: fixed struct and tail */
    uint64_t tail_size; /* size, when there is a tail behind the fixed struct; else 0 */
};

static uint64_t request_size(const struct vg_device *dev, uint32_t index, uint32_t type)
{
    uint64_t size = dev->render != NULL && index == VG_QUEUE_CONTROL ? vg_render_request_size(type) : 0;
    if (size == 0)
        size = index == VG_QUEUE_CONTROL ? control_size(type) : cursor_size(type);
    return size;
}

/* Entries that follow the fixed struct, as the guest says. */
static uint32_t entries_of(const union vg_request_data *data)
{
    switch (data->hdr.type) {
    case VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING:
        return data->attach.nr_entries;
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB:
        return data->create_blob.nr_entries;
    default:
        return 0;
    }
}

static uint32_t check(const struct vg_device *dev, const struct vg_walk *walk, uint32_t index, struct command *command)
{
    if (walk->readable < sizeof(struct virtio_gpu_ctrl_hdr)) {
        memset(&command->data, 0, sizeof(command->data)); /* half a header has no fence to echo */
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    }
    uint32_t type = command->data.hdr.type;
    command->size = request_size(dev, index, type);
    if (command->size == 0)
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    if (walk->readable < command->size)
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    uint32_t entries = entries_of(&command->data);
    if (entries > 0) {
        command->size += (uint64_t)entries * sizeof(struct virtio_gpu_mem_entry);
        command->tail_size = command->size;
        if (walk->readable < command->size)
            return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    }
    return FOR_CALLER;
}

/* ---- running it ---- */

static uint32_t move_cursor(struct vg_device *dev, const struct virtio_gpu_update_cursor *cursor)
{
    return vg_move_cursor(dev, cursor->pos.scanout_id, cursor->pos.x, cursor->pos.y, cursor->resource_id);
}

static uint32_t update_cursor(struct vg_device *dev, const struct virtio_gpu_update_cursor *cursor)
{
    return vg_update_cursor(dev, cursor->pos.scanout_id, cursor->pos.x, cursor->pos.y, cursor->resource_id,
                            cursor->hot_x, cursor->hot_y);
}

/* What a driver sends for each frame or each turn of the mouse is served here, the rest by the caller. */
static uint32_t run(struct vg_device *dev, const union vg_request_data *data)
{
    const struct virtio_gpu_rect *r;
    switch (data->hdr.type) {
    case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D:
        r = &data->transfer.r;
        return vg_transfer_to_host_2d(dev, data->transfer.resource_id, r->x, r->y, r->width, r->height,
                                      data->transfer.offset);
    case VIRTIO_GPU_CMD_RESOURCE_FLUSH:
        r = &data->flush.r;
        return vg_resource_flush(dev, data->flush.resource_id, r->x, r->y, r->width, r->height);
    case VIRTIO_GPU_CMD_SET_SCANOUT: /* with every page flip */
        r = &data->scanout.r;
        return vg_set_scanout(dev, data->scanout.scanout_id, data->scanout.resource_id, r->x, r->y, r->width,
                              r->height);
    case VIRTIO_GPU_CMD_MOVE_CURSOR:
        return move_cursor(dev, &data->cursor);
    case VIRTIO_GPU_CMD_UPDATE_CURSOR:
        return update_cursor(dev, &data->cursor);
    case VIRTIO_GPU_CMD_SET_SCANOUT_BLOB:
        return vg_blob_set_scanout(dev, &data->scanout_blob);
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB:
        return vg_blob_create(dev, &data->create_blob);
    case VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB:
        return vg_blob_no_map(dev, data->map_blob.resource_id);
    case VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB:
        return vg_blob_no_map(dev, data->unmap_blob.resource_id);
    default:
        return dev->render != NULL ? vg_render_run(dev, data) : FOR_CALLER;
    }
}

/* With a renderer, commands of the control queue with a fence may have to wait for it. */
static bool waits(struct vg_device *dev, const struct vg_queue *queue, const struct virtio_gpu_ctrl_hdr *request,
                  const struct vg_popped *popped, uint32_t written, bool full)
{
    if (dev->render == NULL || !(request->flags & VIRTIO_GPU_FLAG_FENCE) || queue != &dev->queues[VG_QUEUE_CONTROL])
        return false;
    return vg_fence_hold(dev, request, popped, written, full);
}

int vg_answer(struct vg_device *dev, struct vg_queue *queue, const struct virtio_gpu_ctrl_hdr *request, uint32_t type)
{
    const struct vg_walk *walk = &queue->walk;
    struct vg_reply_space space = {
        .segments = walk->segments + walk->readable_count,
        .count = walk->count - walk->readable_count,
        .writable = walk->writable,
    };
    uint32_t written = vg_reply_write(dev, &space, request, type, NULL, 0);
    VG_TRACE(dev, answered, queue, &walk->popped, type);
    if (waits(dev, queue, request, &walk->popped, written, written == walk->writable))
        return queue->broken ? -1 : 0;
    return vg_ring_give_back(dev, queue, &walk->popped, written, written == walk->writable);
}

/* ---- handing it to the caller ---- */

static void hand_over(struct vg_chain *chain, const struct command *command, vg_request *out)
{
    const struct virtio_gpu_ctrl_hdr *hdr = &chain->request.hdr;
    *out = (vg_request){
        .chain = chain,
        .queue = chain->queue,
        .type = hdr->type,
        .flags = hdr->flags,
        .fence_id = hdr->fence_id,
        .ctx_id = hdr->ctx_id,
        .ring_idx = hdr->ring_idx,
        .data = chain->tail != NULL ? chain->tail : chain->request.bytes,
        .size = command->size,
        .reply_capacity = chain->writable,
    };
}

/* The fixed struct is not read from the guest again: what was checked is what is handed over. */
static uint32_t keep(struct vg_device *dev, struct vg_queue *queue, const struct command *command, vg_request *out)
{
    const uint64_t fixed = sizeof(command->data.attach);
    struct vg_chain *chain = vg_chain_new(dev, queue, command->tail_size);
    if (chain == NULL)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    chain->request = command->data;
    if (chain->tail != NULL) {
        uint64_t faults = vg_mem_faults(dev);
        memcpy(chain->tail, command->data.bytes, fixed);
        vg_chain_read(dev, &queue->walk, fixed, chain->tail + fixed, command->tail_size - fixed);
        if (vg_mem_faults(dev) != faults) {
            vg_chain_free(dev, queue, chain);
            return VIRTIO_GPU_RESP_ERR_UNSPEC;
        }
    }
    hand_over(chain, command, out);
    return FOR_CALLER;
}

/* ---- the loop ---- */

/* How much of the time between two looks at the clock a command took. The guest's numbers need not be right: at worst
   the clock is read more often. */
static uint64_t cost_of(struct vg_device *dev, const union vg_request_data *data)
{
    uint64_t copied = dev->blobs.copied;
    dev->blobs.copied = 0;
    if (copied > 0)
        return 1 + copied / PIXELS_PER_COST;
    if (data->hdr.type != VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D)
        return 1;
    return 1 + (uint64_t)data->transfer.r.width * data->transfer.r.height / PIXELS_PER_COST;
}

static void read_request(struct vg_device *dev, const struct vg_walk *walk, struct command *command)
{
    uint64_t len = walk->readable < sizeof(command->data) ? walk->readable : sizeof(command->data);
    command->tail_size = 0;
    vg_chain_read(dev, walk, 0, command->data.bytes, len);
}

/* The render thread may be stuck in the command: whoever takes over answers it then. */
static void take_in_hand(struct vg_device *dev, const struct virtio_gpu_ctrl_hdr *request)
{
    if (dev->render != NULL && vg_render_usable(dev))
        dev->render->hand = request;
}

static int answer(struct vg_device *dev, struct vg_queue *queue, const struct command *command, uint32_t type)
{
    int state = vg_answer(dev, queue, &command->data.hdr, type) < 0 ? VG_DRAIN_BROKEN : VG_DRAIN_IDLE;
    take_in_hand(dev, NULL);
    return state;
}

/* Serves the chain that was just peeked at. IDLE stands for "done, go on". */
static int serve(struct vg_device *dev, struct vg_queue *queue, vg_request *out, uint64_t *cost)
{
    struct command command;
    uint64_t faults = vg_mem_faults(dev);
    uint32_t index = (uint32_t)(queue - dev->queues);

    vg_ring_take(queue);
    read_request(dev, &queue->walk, &command);
    VG_TRACE(dev, taken, queue, &command.data);
    uint32_t type = check(dev, &queue->walk, index, &command);
    if (index == VG_QUEUE_CONTROL)
        take_in_hand(dev, &command.data.hdr);
    if (type == FOR_CALLER && vg_mem_faults(dev) == faults)
        type = run(dev, &command.data);
    if (vg_mem_faults(dev) != faults)
        type = VIRTIO_GPU_RESP_ERR_UNSPEC;
    *cost += cost_of(dev, &command.data);
    if (type == FOR_CALLER)
        type = keep(dev, queue, &command, out);
    if (type == FOR_CALLER) {
        take_in_hand(dev, NULL);
        return VG_DRAIN_REQUEST;
    }
    return answer(dev, queue, &command, type);
}

/* With a render thread, whose drain this is then: whether it may go on with the next command. */
static bool goes_on(struct vg_device *dev, const struct vg_queue *queue)
{
    return dev->render == NULL || queue != &dev->queues[VG_QUEUE_CONTROL] || !vg_render_usable(dev) ||
           vg_render_goes_on(dev->render);
}

/* A frame that took long to copy is told of before the next one is copied, or only every other would be seen. */
static bool shows_much(struct vg_device *dev)
{
    if (!(dev->dirty & FRAMES) || dev->copied < VG_STREAM_FROM)
        return false;
    dev->copied = 0;
    return true;
}

static int drain(struct vg_device *dev, struct vg_queue *queue, uint64_t budget_ns, vg_request *out)
{
    uint64_t cost = 0, start = vg_now_ns();
    if (vg_ring_ready(dev, queue) < 0)
        return VG_DRAIN_BROKEN;
    for (;;) {
        if (!goes_on(dev, queue))
            return VG_DRAIN_AGAIN;
        int found = vg_ring_peek(dev, queue);
        if (found == 0)
            found = vg_poll_ring(dev, queue);
        if (found < 0)
            return VG_DRAIN_BROKEN;
        if (found == 0) {
            int empty = vg_ring_arm(dev, queue);
            if (empty == 0)
                continue;
            return empty < 0 ? VG_DRAIN_BROKEN : VG_DRAIN_IDLE;
        }
        if (vg_ring_disarm(dev, queue) < 0)
            return VG_DRAIN_BROKEN;
        int state = serve(dev, queue, out, &cost);
        if (state != VG_DRAIN_IDLE) {
            vg_ring_publish(dev, queue);
            return state;
        }
        if (shows_much(dev))
            return vg_ring_publish(dev, queue) < 0 ? VG_DRAIN_BROKEN : VG_DRAIN_AGAIN;
        if (cost >= COST_PER_CLOCK) {
            cost = 0;
            if (vg_ring_publish(dev, queue) < 0)
                return VG_DRAIN_BROKEN;
            if (queue->unsignalled >= MANY_DONE) /* the guest goes on with these while the rest is being done */
                vg_ring_notify(dev, queue);
            if (vg_now_ns() - start >= budget_ns)
                return VG_DRAIN_AGAIN;
        }
    }
}

static int is_running(const struct vg_queue *queue)
{
    return queue->started && queue->enabled && !queue->broken;
}

/* A broken queue is reported once, whoever found it broken. A kick is taken even so, or it would stay readable. */
static int report_stopped(struct vg_queue *queue)
{
    vg_queue_clear_kick(queue);
    queue->armed = 1;
    if (!queue->broken || !queue->report_broken)
        return VG_DRAIN_STOPPED;
    queue->report_broken = 0;
    return VG_DRAIN_BROKEN;
}

/* Until the renderer is lost, the control queue is its thread's. */
static bool may_drain(const struct vg_device *dev, uint32_t index)
{
    return index != VG_QUEUE_CONTROL || dev->render->lost || vg_render_is_thread(dev->render);
}

int vg_queue_drain(vg_device *dev, uint32_t index, uint64_t budget_ns, vg_request *out)
{
    VG_ENTER(dev);
    if (index >= VG_NUM_QUEUES)
        return -EINVAL;
    if (dev->render != NULL && !may_drain(dev, index))
        return VG_DRAIN_STOPPED;
    struct vg_queue *queue = &dev->queues[index];
    if (!is_running(queue))
        return report_stopped(queue);
    /* Unless this goes on where an earlier call stopped: kicks are off, the eventfd can wait. The render thread comes here
       without a kick, too. */
    if (queue->armed && vg_queue_clear_kick(queue))
        vg_poll_kicked(dev, queue);
    dev->draining = (int)index;
    int state = drain(dev, queue, budget_ns, out);
    dev->draining = -1;
    if (dev->blobs.unread && index == VG_QUEUE_CONTROL)
        vg_blobs_catch_up(dev);
    if (state != VG_DRAIN_REQUEST)
        vg_ring_notify(dev, queue);
    if (state == VG_DRAIN_IDLE)
        vg_poll_idle(dev, queue);
    if (state == VG_DRAIN_BROKEN)
        queue->report_broken = 0;
    return state;
}

/* ---- completion by the caller ---- */

/* The command is done with; with a render thread, the ring goes on. */
static void finish(struct vg_device *dev, struct vg_queue *queue, struct vg_chain *chain)
{
    int from_thread = dev->render != NULL && chain->queue == VG_QUEUE_CONTROL;
    vg_chain_free(dev, queue, chain);
    if (from_thread)
        vg_render_request_done(dev);
}

void vg_request_complete(vg_device *dev, vg_request *req, uint32_t type, const void *payload, uint64_t len)
{
    VG_ENTER(dev);
    struct vg_chain *chain = req->chain;
    if (chain == NULL)
        return;
    struct vg_queue *queue = &dev->queues[chain->queue];
    req->chain = NULL;
    if (queue->started && !queue->broken && queue->epoch == chain->epoch && vg_ring_ready(dev, queue) == 0) {
        struct vg_reply_space space = {
            .segments = chain->segments,
            .count = chain->count,
            .writable = chain->writable,
        };
        uint32_t written = vg_reply_write(dev, &space, &chain->request.hdr, type, payload, len);
        VG_TRACE(dev, answered, queue, &chain->popped, type);
        bool full = written == chain->writable;
        if (!waits(dev, queue, &chain->request.hdr, &chain->popped, written, full))
            vg_ring_give_back(dev, queue, &chain->popped, written, full);
        vg_ring_publish(dev, queue);
    }
    finish(dev, queue, chain);
}

void vg_request_drop(vg_device *dev, vg_request *req)
{
    VG_ENTER(dev);
    if (req->chain != NULL)
        finish(dev, &dev->queues[req->chain->queue], req->chain);
    req->chain = NULL;
}

void vg_queue_notify(vg_device *dev, uint32_t index)
{
    VG_ENTER(dev);
    if (index < VG_NUM_QUEUES && dev->queues[index].started && !dev->queues[index].broken)
        vg_ring_notify(dev, &dev->queues[index]);
}

/* ---- the cursor during long copies ---- */

/* 1 when the chain at hand was a sound cursor command, and is served. */
static int serve_cursor(struct vg_device *dev, struct vg_queue *queue)
{
    struct command command;
    uint64_t faults = vg_mem_faults(dev);
    read_request(dev, &queue->walk, &command);
    if (check(dev, &queue->walk, VG_QUEUE_CURSOR, &command) != FOR_CALLER)
        return 0;
    vg_ring_take(queue);
    VG_TRACE(dev, taken, queue, &command.data);
    uint32_t type = vg_mem_faults(dev) == faults ? run(dev, &command.data) : VIRTIO_GPU_RESP_ERR_UNSPEC;
    vg_answer(dev, queue, &command.data.hdr, type);
    return 1;
}

/*
 * Only while no cursor command is with the caller: order is kept. What it does not serve it leaves in the ring for the
 * drain, whose kick is still pending; a queue that breaks here is reported by that drain.
 */
void vg_poll_cursor(struct vg_device *dev)
{
    struct vg_queue *queue = &dev->queues[VG_QUEUE_CURSOR];
    if (dev->draining == VG_QUEUE_CURSOR || dev->polling_cursor || !is_running(queue) || queue->inflight > 0)
        return;
    if (vg_ring_ready(dev, queue) < 0)
        return;
    dev->polling_cursor = 1;
    for (int i = 0; i < CURSOR_BURST && vg_ring_peek(dev, queue) == 1; i++) {
        if (!serve_cursor(dev, queue) || queue->broken)
            break;
    }
    vg_ring_notify(dev, queue);
    dev->polling_cursor = 0;
}
