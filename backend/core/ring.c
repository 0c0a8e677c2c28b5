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

static inline uint16_t load16(const vg_ring16 *word, memory_order order)
{
    return atomic_load_explicit(word, order);
}

static inline void store16(vg_ring16 *word, uint16_t value, memory_order order)
{
    atomic_store_explicit(word, value, order);
}

static inline vg_ring16 *used_words(struct vg_queue *queue)
{
    return (vg_ring16 *)(void *)queue->used;
}

static inline vg_ring16 *used_avail_event(struct vg_queue *queue)
{
    return (vg_ring16 *)(void *)(queue->used + 4 + queue->num * sizeof(struct vring_used_elem));
}

/* ---- where it is ---- */

/* Pages of the ring that are gone must be noticed at the first touch: at the next they are there, empty. */
static int break_if_gone(struct vg_device *dev, struct vg_queue *queue, uint64_t faults)
{
    if (vg_mem_faults(dev) != faults && !queue->broken)
        vg_queue_break(queue, "ring memory is gone");
    return queue->broken ? -1 : 0;
}

static void *part(struct vg_device *dev, struct vg_queue *queue, const char *name, uint64_t uva, uint64_t size,
                  uintptr_t align)
{
    uint8_t *host = vg_mem_host_uva(dev, uva, size);
    if (host == NULL)
        vg_queue_break(queue, "%s ring at %#llx (%llu bytes) is not inside one memory region", name,
                       (unsigned long long)uva, (unsigned long long)size);
    else if ((uintptr_t)host % align != 0)
        vg_queue_break(queue, "%s ring at %#llx is not aligned in its memory region", name, (unsigned long long)uva);
    return queue->broken ? NULL : host;
}

static int resolve(struct vg_device *dev, struct vg_queue *queue)
{
    queue->event_idx = (dev->features & VG_F_EVENT_IDX) != 0;
    queue->indirect = (dev->features & VG_F_INDIRECT_DESC) != 0;
    if (queue->num == 0) {
        vg_queue_break(queue, "started without a size");
        return -1;
    }
    uint64_t num = queue->num, event = queue->event_idx ? 2 : 0;
    queue->desc = part(dev, queue, "descriptor", queue->desc_uva, num * sizeof(struct vring_desc), VRING_DESC_ALIGN_SIZE);
    if (queue->desc == NULL)
        return -1;
    queue->avail = part(dev, queue, "avail", queue->avail_uva, 4 + num * 2 + event, VRING_AVAIL_ALIGN_SIZE);
    if (queue->avail == NULL)
        return -1;
    queue->used = part(dev, queue, "used", queue->used_uva, 4 + num * sizeof(struct vring_used_elem) + event,
                       VRING_USED_ALIGN_SIZE);
    if (queue->used == NULL)
        return -1;
    queue->generation = dev->memory.generation;
    return 0;
}

int vg_ring_ready(struct vg_device *dev, struct vg_queue *queue)
{
    if (queue->generation == dev->memory.generation)
        return 0;
    if (resolve(dev, queue) < 0)
        return -1;
    if (queue->fresh) {
        /* After GET_VRING_BASE the used index lives in the guest's memory alone (vhost-user has no message for it). */
        uint64_t faults = vg_mem_faults(dev);
        queue->used_idx = load16(&used_words(queue)[RING_IDX], memory_order_relaxed);
        if (break_if_gone(dev, queue, faults) < 0)
            return -1;
        queue->fresh = 0;
    }
    return 0;
}

/* ---- taking ---- */

/* 1: there is one; 0: empty; -1: broken. */
static int look(struct vg_queue *queue)
{
    if (queue->seen_avail == queue->last_avail) {
        queue->seen_avail = load16(&queue->avail[RING_IDX], memory_order_acquire);
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

int vg_ring_peek(struct vg_device *dev, struct vg_queue *queue)
{
    uint64_t faults = vg_mem_faults(dev);
    int found = look(queue);
    if (found == 1) {
        uint16_t head = load16(&queue->avail[RING_ENTRIES + (queue->last_avail & (queue->num - 1))],
                               memory_order_relaxed);
        const char *why = vg_chain_walk(dev, queue, head);
        if (why != NULL) {
            vg_queue_break(queue, "chain at descriptor %u: %s", head, why);
            found = -1;
        }
    }
    return break_if_gone(dev, queue, faults) < 0 ? -1 : found;
}

void vg_ring_take(struct vg_queue *queue)
{
    queue->last_avail++;
    queue->inflight++;
}

/* ---- giving back ---- */

int vg_ring_give_back(struct vg_device *dev, struct vg_queue *queue, uint16_t head, uint32_t written)
{
    uint64_t faults = vg_mem_faults(dev);
    struct vring_used_elem *elements = (void *)(queue->used + 4);
    elements[queue->used_idx & (queue->num - 1)] = (struct vring_used_elem){.id = head, .len = written};
    queue->used_idx++;
    store16(&used_words(queue)[RING_IDX], queue->used_idx, memory_order_release);
    queue->inflight--;
    queue->unsignalled++;
    queue->completed++;
    return break_if_gone(dev, queue, faults);
}

/* ---- notifications ---- */

int vg_ring_disarm(struct vg_device *dev, struct vg_queue *queue)
{
    if (!queue->armed)
        return 0;
    queue->armed = 0;
    if (queue->event_idx)
        return 0;
    uint64_t faults = vg_mem_faults(dev);
    store16(&used_words(queue)[RING_FLAGS], VRING_USED_F_NO_NOTIFY, memory_order_relaxed);
    return break_if_gone(dev, queue, faults);
}

int vg_ring_arm(struct vg_device *dev, struct vg_queue *queue)
{
    uint64_t faults = vg_mem_faults(dev);
    if (queue->event_idx)
        store16(used_avail_event(queue), queue->last_avail, memory_order_relaxed);
    else
        store16(&used_words(queue)[RING_FLAGS], 0, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    queue->armed = 1;
    int empty = load16(&queue->avail[RING_IDX], memory_order_acquire) == queue->last_avail;
    return break_if_gone(dev, queue, faults) < 0 ? -1 : empty;
}

static int guest_wants_call(struct vg_queue *queue)
{
    if (!queue->event_idx)
        return !(load16(&queue->avail[RING_FLAGS], memory_order_relaxed) & VRING_AVAIL_F_NO_INTERRUPT);
    uint16_t used_event = load16(&queue->avail[RING_ENTRIES + queue->num], memory_order_relaxed);
    /* vring_need_event() counts modulo 2^16: it can't tell after a whole turn, nor before a first signal. */
    if (!queue->signalled_valid || queue->unsignalled > UINT16_MAX)
        return 1;
    return vring_need_event(used_event, queue->used_idx, queue->signalled_used);
}

void vg_ring_notify(struct vg_device *dev, struct vg_queue *queue)
{
    /* Without a call eventfd the completions stay to be told: one may come, and the guest may sleep until then. */
    if (queue->unsignalled == 0 || queue->call_fd < 0 || queue->generation != dev->memory.generation)
        return;
    uint64_t faults = vg_mem_faults(dev);
    atomic_thread_fence(memory_order_seq_cst);
    if (guest_wants_call(queue))
        vg_queue_call(queue);
    break_if_gone(dev, queue, faults);
    queue->signalled_used = queue->used_idx;
    queue->signalled_valid = 1;
    queue->unsignalled = 0;
}
