/*
 * The packed ring: one array of descriptors in which the guest makes chains available and we mark them used, told apart
 * by two bits and a wrap counter on each side (virtio 1.3, 2.8); an event suppression structure for either side.
 *
 * Memory ordering. The guest publishes with the flags of a chain's first descriptor: they are loaded with acquire,
 * before anything else of the chain. We publish with the flags of the used descriptor: stored with release, after its
 * id and length. The event suppression structures are four bytes, read and written as one word. As with split rings a
 * full fence stands between what one side writes and what it then reads of the other's.
 */
#include "vg_internal.h"

#define EVENT_FLAGS_SHIFT 16 /* of the flags in the word; the low half is offset and wrap counter */
#define EVENT_FLAGS_MASK 3u

_Static_assert(sizeof(struct vring_packed_desc_event) == sizeof(vg_ring32), "read and written as a whole");

static inline vg_ring16 *flags_of(struct vg_queue *queue, uint16_t index)
{
    return (vg_ring16 *)(void *)&queue->ring[index].flags;
}

static inline int is_available(struct vg_queue *queue, uint16_t *flags)
{
    *flags = vg_load16(flags_of(queue, queue->last_avail), memory_order_acquire);
    return (*flags & VG_PACKED_OWNER) == vg_packed_available(queue->avail_wrap);
}

static void skip(const struct vg_queue *queue, uint16_t *index, int *wrap, uint32_t slots)
{
    uint32_t next = *index + slots; /* slots are at most num: one turn at most */
    if (next >= queue->num) {
        next -= queue->num;
        *wrap ^= 1;
    }
    *index = (uint16_t)next;
}

/* ---- where it is ---- */

int vg_packed_resolve(struct vg_device *dev, struct vg_queue *queue)
{
    const uint64_t event = sizeof(struct vring_packed_desc_event);
    queue->ring = vg_ring_part(dev, queue, "descriptor", queue->desc_uva,
                               (uint64_t)queue->num * sizeof(struct vring_packed_desc), VRING_DESC_ALIGN_SIZE);
    if (queue->ring == NULL)
        return -1;
    queue->driver_event = vg_ring_part(dev, queue, "driver event", queue->avail_uva, event, event);
    if (queue->driver_event == NULL)
        return -1;
    queue->device_event = vg_ring_part(dev, queue, "device event", queue->used_uva, event, event);
    return queue->device_event == NULL ? -1 : 0;
}

/*
 * vhost-user, "Vring descriptor indices for packed virtqueues": bits 0-14 and 15 are the next available index and its
 * wrap counter, 16-30 and 31 the used ones. The specification calls the indices free-running; VMMs send them below the
 * queue's size. The remainder is right for both.
 */
void vg_packed_set_base(struct vg_queue *queue)
{
    queue->last_avail = (uint16_t)((queue->base & 0x7fff) % queue->num);
    queue->avail_wrap = queue->base >> 15 & 1;
    queue->used_idx = (uint16_t)((queue->base >> 16 & 0x7fff) % queue->num);
    queue->used_wrap = queue->base >> 31;
}

uint32_t vg_packed_base(const struct vg_queue *queue)
{
    uint32_t avail = queue->last_avail | (uint32_t)queue->avail_wrap << 15;
    uint32_t used = queue->used_idx | (uint32_t)queue->used_wrap << 15;
    return avail | used << 16;
}

/* ---- taking ---- */

int vg_packed_peek(struct vg_device *dev, struct vg_queue *queue)
{
    uint16_t flags;
    if (!is_available(queue, &flags))
        return 0;
    const char *why = vg_walk_packed(dev, queue, flags);
    /* A guest that makes descriptors available again before they came back can't make us hold any number of them. */
    if (why == NULL && queue->inflight + queue->walk.popped.slots > queue->num)
        why = "more descriptors in flight than the queue has entries";
    if (why == NULL)
        return 1;
    vg_queue_break(queue, "chain at descriptor %u: %s", queue->last_avail, why);
    return -1;
}

void vg_packed_skip(struct vg_queue *queue, uint32_t slots)
{
    skip(queue, &queue->last_avail, &queue->avail_wrap, slots);
}

/* ---- giving back ---- */

void vg_packed_put(struct vg_queue *queue, uint16_t id, uint32_t written, uint32_t slots)
{
    struct vring_packed_desc *desc = &queue->ring[queue->used_idx];
    uint16_t flags = queue->used_wrap ? VG_PACKED_OWNER : 0;
    if (written > 0)
        flags |= VRING_DESC_F_WRITE; /* else the length is void (2.8.4) */
    desc->len = written;
    desc->id = id;
    vg_store16(flags_of(queue, queue->used_idx), flags, memory_order_release);
    skip(queue, &queue->used_idx, &queue->used_wrap, slots);
}

/* ---- notifications ---- */

/* An event that was asked for in an earlier turn of the ring comes once in two turns at most: not worth a store. */
void vg_packed_disarm(struct vg_queue *queue)
{
    const uint32_t disable = (uint32_t)VRING_PACKED_EVENT_FLAG_DISABLE << EVENT_FLAGS_SHIFT;
    if (!queue->event_idx)
        atomic_store_explicit(queue->device_event, disable, memory_order_relaxed);
}

int vg_packed_arm(struct vg_queue *queue)
{
    uint16_t flags;
    uint32_t event = (uint32_t)VRING_PACKED_EVENT_FLAG_ENABLE << EVENT_FLAGS_SHIFT;
    if (queue->event_idx)
        event = (uint32_t)VRING_PACKED_EVENT_FLAG_DESC << EVENT_FLAGS_SHIFT |
                (uint32_t)queue->avail_wrap << VRING_PACKED_EVENT_F_WRAP_CTR | queue->last_avail;
    atomic_store_explicit(queue->device_event, event, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    return !is_available(queue, &flags);
}

/* Flags that have no meaning, DESC without EVENT_IDX among them, count as ENABLE: an interrupt too many does no harm. */
int vg_packed_wants_call(struct vg_queue *queue)
{
    uint32_t event = atomic_load_explicit(queue->driver_event, memory_order_relaxed);
    uint32_t flags = event >> EVENT_FLAGS_SHIFT & EVENT_FLAGS_MASK;
    if (flags == VRING_PACKED_EVENT_FLAG_DISABLE)
        return 0;
    if (flags != VRING_PACKED_EVENT_FLAG_DESC || !queue->event_idx)
        return 1;
    if (!queue->signalled_valid || queue->unsignalled >= queue->num)
        return 1;
    int wrap = event >> VRING_PACKED_EVENT_F_WRAP_CTR & 1;
    int at = (int)(event & 0x7fff) - (wrap != queue->used_wrap ? (int)queue->num : 0); /* in the turn before */
    return vring_need_event((uint16_t)at, queue->used_idx, (uint16_t)(queue->used_idx - queue->unsignalled));
}
