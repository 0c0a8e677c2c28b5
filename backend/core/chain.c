/* Descriptor chains once they were walked (walk.c): reading the request, keeping one for the caller, writing replies. */
#include <stdlib.h>
#include <string.h>

#include "vg_internal.h"

/* ---- reading ---- */

void vg_chain_read(struct vg_device *dev, const struct vg_walk *walk, uint64_t offset, void *buf, uint64_t len)
{
    uint8_t *to = buf;
    for (uint32_t i = 0; i < walk->readable_count && len > 0; i++) {
        const struct vg_segment *segment = &walk->segments[i];
        if (offset >= segment->len) {
            offset -= segment->len;
            continue;
        }
        uint64_t piece = segment->len - offset < len ? segment->len - offset : len;
        vg_mem_read(dev, segment->gpa + offset, to, piece);
        to += piece;
        len -= piece;
        offset = 0;
    }
}

/* ---- keeping ---- */

static struct vg_chain *take_spare(struct vg_queue *queue)
{
    struct vg_chain *chain = queue->spare;
    if (chain == NULL)
        return malloc(sizeof(*chain));
    queue->spare = chain->next;
    return chain;
}

static void put_spare(struct vg_queue *queue, struct vg_chain *chain)
{
    chain->next = queue->spare;
    queue->spare = chain;
}

static void link_live(struct vg_queue *queue, struct vg_chain *chain)
{
    chain->link = &queue->live;
    chain->next = queue->live;
    if (chain->next != NULL)
        chain->next->link = &chain->next;
    queue->live = chain;
}

static void unlink_live(struct vg_chain *chain)
{
    *chain->link = chain->next;
    if (chain->next != NULL)
        chain->next->link = chain->link;
}

/* Tail and segments, charged before they are allocated. */
static int furnish(struct vg_device *dev, struct vg_chain *chain, uint64_t tail_size)
{
    uint64_t segments_size = chain->count > VG_INLINE_SEGMENTS ? chain->count * sizeof(struct vg_segment) : 0;
    chain->tail = NULL;
    chain->segments = chain->inline_segments;
    chain->charged = tail_size + segments_size;
    if (chain->charged == 0)
        return 0;
    if (vg_budget_charge(dev, chain->charged) < 0)
        return -1;
    chain->tail = tail_size ? malloc(tail_size) : NULL;
    if (segments_size)
        chain->segments = malloc(segments_size);
    if ((tail_size && chain->tail == NULL) || chain->segments == NULL) {
        free(chain->tail);
        if (segments_size)
            free(chain->segments);
        vg_budget_return(dev, chain->charged);
        return -1;
    }
    return 0;
}

struct vg_chain *vg_chain_new(struct vg_device *dev, struct vg_queue *queue, uint64_t tail_size)
{
    const struct vg_walk *walk = &queue->walk;
    struct vg_chain *chain = take_spare(queue);
    if (chain == NULL)
        return NULL;
    chain->count = walk->count - walk->readable_count;
    if (furnish(dev, chain, tail_size) < 0) {
        put_spare(queue, chain);
        return NULL;
    }
    if (chain->count > 0)
        memcpy(chain->segments, walk->segments + walk->readable_count, chain->count * sizeof(struct vg_segment));
    chain->writable = walk->writable;
    chain->popped = walk->popped;
    chain->epoch = queue->epoch;
    chain->queue = (uint32_t)(queue - dev->queues);
    link_live(queue, chain);
    return chain;
}

void vg_chain_free(struct vg_device *dev, struct vg_queue *queue, struct vg_chain *chain)
{
    unlink_live(chain);
    free(chain->tail);
    if (chain->segments != chain->inline_segments)
        free(chain->segments);
    if (chain->charged)
        vg_budget_return(dev, chain->charged);
    put_spare(queue, chain);
}

void vg_chains_free_all(struct vg_device *dev, struct vg_queue *queue)
{
    while (queue->live != NULL)
        vg_chain_free(dev, queue, queue->live);
    while (queue->spare != NULL)
        free(take_spare(queue));
}

/* ---- replying ---- */

/* As far as there is room; the segments may be outside memory by now (a region went away): then nothing is written. */
static uint64_t put(struct vg_device *dev, const struct vg_reply_space *space, uint64_t offset, const void *buf,
                    uint64_t len)
{
    const uint8_t *from = buf;
    uint64_t done = 0;
    for (uint32_t i = 0; i < space->count && done < len; i++) {
        const struct vg_segment *segment = &space->segments[i];
        if (offset >= segment->len) {
            offset -= segment->len;
            continue;
        }
        uint64_t room = segment->len - offset;
        uint64_t piece = room < len - done ? room : len - done;
        if (vg_mem_write(dev, segment->gpa + offset, from + done, piece) < 0)
            break;
        done += piece;
        offset = 0;
    }
    return done;
}

uint32_t vg_reply_write(struct vg_device *dev, const struct vg_reply_space *space,
                        const struct virtio_gpu_ctrl_hdr *request, uint32_t type, const void *payload, uint64_t len)
{
    struct virtio_gpu_ctrl_hdr header = {.type = type};
    if (space->writable == 0)
        return 0;
    if (len > UINT32_MAX - sizeof(header) || len + sizeof(header) > space->writable) {
        if (len > 0)
            header.type = VIRTIO_GPU_RESP_ERR_UNSPEC;
        len = 0;
    }
    if (request->flags & VIRTIO_GPU_FLAG_FENCE) {
        header.flags = request->flags & (VIRTIO_GPU_FLAG_FENCE | VIRTIO_GPU_FLAG_INFO_RING_IDX);
        header.fence_id = request->fence_id;
        header.ctx_id = request->ctx_id;
        if (header.flags & VIRTIO_GPU_FLAG_INFO_RING_IDX)
            header.ring_idx = request->ring_idx;
    }
    uint64_t written = put(dev, space, 0, &header, sizeof(header));
    if (written == sizeof(header) && len > 0)
        written += put(dev, space, sizeof(header), payload, len);
    return (uint32_t)written;
}
