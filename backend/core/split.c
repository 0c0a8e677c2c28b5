/*
 * The split ring: finding it in memory, taking chains from the avail ring, giving them back on the used ring, and who
 * notifies whom (virtio 1.3, 2.7.6 to 2.7.10).
 *
 * Memory ordering. The guest publishes with avail->idx: it is loaded with acquire, before the ring entry and the
 * descriptors. We publish with used->idx: stored with release, after the entry. Both notification protocols write one
 * index and then read the other side's, so a full fence stands between the two; the guest has its own there.
 */
#include "vg_internal.h"

/* Ring words, as offsets in 16-bit units (avail and used rings have the same head). */
#define RING_FLAGS 0
#define RING_IDX 1
#define RING_ENTRIES 2

static inline vg_ring16 *used_words(struct vg_queue *queue)
{
    return (vg_ring16 *)(void *)queue->used;
}

static inline vg_ring16 *used_avail_event(struct vg_queue *queue)
{
    return (vg_ring16 *)(void *)(queue->used + 4 + queue->num * sizeof(struct vring_used_elem));
}

/* ---- where it is ---- */

int vg_split_resolve(struct vg_device *dev, struct vg_queue *queue)
{
    if ((queue->num & (queue->num - 1)) != 0) {
        vg_queue_break(queue, "a split ring of %u entries: no power of two", queue->num);
        return -1;
    }
    uint64_t num = queue->num, event = queue->event_idx ? 2 : 0;
    queue->desc = vg_ring_part(dev, queue, "descriptor", queue->desc_uva, num * sizeof(struct vring_desc),
                               VRING_DESC_ALIGN_SIZE);
    if (queue->desc == NULL)
        return -1;
    queue->avail = vg_ring_part(dev, queue, "avail", queue->avail_uva, 4 + num * 2 + event, VRING_AVAIL_ALIGN_SIZE);
    if (queue->avail == NULL)
        return -1;
    queue->used = vg_ring_part(dev, queue, "used", queue->used_uva, 4 + num * sizeof(struct vring_used_elem) + event,
                               VRING_USED_ALIGN_SIZE);
    return queue->used == NULL ? -1 : 0;
}

void vg_split_set_base(struct vg_queue *queue)
{
    if (queue->base > UINT16_MAX)
        vg_queue_break(queue, "ring base %#x is no index of a split ring", queue->base);
    queue->last_avail = queue->seen_avail = (uint16_t)queue->base;
    /* After GET_VRING_BASE the used index lives in the guest's memory alone (vhost-user has no message for it). */
    queue->used_idx = vg_load16(&used_words(queue)[RING_IDX], memory_order_relaxed);
}

/* ---- taking ---- */

/* 1: there is one; 0: empty; -1: broken. */
static int look(struct vg_queue *queue)
{
    if (queue->seen_avail == queue->last_avail) {
        queue->seen_avail = vg_load16(&queue->avail[RING_IDX], memory_order_acquire);
        if (queue->seen_avail == queue->last_avail)
            return 0;
    }
    uint16_t ahead = (uint16_t)(queue->seen_avail - queue->last_avail);
    if (ahead > queue->num) {
        vg_queue_break(queue, "avail index is %u ahead, in a queue of %u", ahead, queue->num);
        return -1;
    }
    if (queue->inflight >= queue->num) {
        vg_queue_break(queue, "more chains in flight than the queue's %u entries", queue->num);
        return -1;
    }
    return 1;
}

int vg_split_peek(struct vg_device *dev, struct vg_queue *queue)
{
    int found = look(queue);
    if (found != 1)
        return found;
    uint16_t head = vg_load16(&queue->avail[RING_ENTRIES + (queue->last_avail & (queue->num - 1))],
                              memory_order_relaxed);
    const char *why = vg_walk_split(dev, queue, head);
    if (why == NULL)
        return 1;
    vg_queue_break(queue, "chain at descriptor %u: %s", head, why);
    return -1;
}

/* ---- giving back ---- */

void vg_split_put(struct vg_queue *queue, uint16_t id, uint32_t written, uint32_t slots)
{
    struct vring_used_elem *elements = (void *)(queue->used + 4);
    elements[queue->used_idx & (queue->num - 1)] = (struct vring_used_elem){.id = id, .len = written};
    queue->used_idx = (uint16_t)(queue->used_idx + slots);
    vg_store16(&used_words(queue)[RING_IDX], queue->used_idx, memory_order_release);
}

/* ---- notifications ---- */

void vg_split_disarm(struct vg_queue *queue)
{
    if (!queue->event_idx)
        vg_store16(&used_words(queue)[RING_FLAGS], VRING_USED_F_NO_NOTIFY, memory_order_relaxed);
}

int vg_split_arm(struct vg_queue *queue)
{
    if (queue->event_idx)
        vg_store16(used_avail_event(queue), queue->last_avail, memory_order_relaxed);
    else
        vg_store16(&used_words(queue)[RING_FLAGS], 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return vg_load16(&queue->avail[RING_IDX], memory_order_acquire) == queue->last_avail;
}

int vg_split_wants_call(struct vg_queue *queue)
{
    if (!queue->event_idx)
        return !(vg_load16(&queue->avail[RING_FLAGS], memory_order_relaxed) & VRING_AVAIL_F_NO_INTERRUPT);
    uint16_t used_event = vg_load16(&queue->avail[RING_ENTRIES + queue->num], memory_order_relaxed);
    /* vring_need_event() counts modulo 2^16: it can't tell after a whole turn, nor before a first signal. */
    if (!queue->signalled_valid || queue->unsignalled > UINT16_MAX)
        return 1;
    return vring_need_event(used_event, queue->used_idx, (uint16_t)(queue->used_idx - queue->unsignalled));
}
