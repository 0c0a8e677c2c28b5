/*
 * What both kinds of rings have in common (split.c, packed.c): finding them again when memory changes, noticing that
 * their pages are gone, the order of what is given back, and when the guest is told.
 */
#include "vg_internal.h"

/* ---- where it is ---- */

/* Pages of the ring that are gone must be noticed at the first touch: at the next they are there, empty. */
static int break_if_gone(struct vg_device *dev, struct vg_queue *queue, uint64_t faults)
{
    if (vg_mem_faults(dev) != faults && !queue->broken)
        vg_queue_break(queue, "ring memory is gone");
    return queue->broken ? -1 : 0;
}

void *vg_ring_part(struct vg_device *dev, struct vg_queue *queue, const char *name, uint64_t uva, uint64_t size,
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

/* SET_FEATURES may come after the rings were set up, so the kind of ring is settled here. */
static void settle_features(const struct vg_device *dev, struct vg_queue *queue)
{
    queue->event_idx = (dev->features & VG_F_EVENT_IDX) != 0;
    queue->indirect = (dev->features & VG_F_INDIRECT_DESC) != 0;
    queue->packed = (dev->features & VG_F_RING_PACKED) != 0;
    queue->in_order = (dev->features & VG_F_IN_ORDER) != 0;
}

static int resolve(struct vg_device *dev, struct vg_queue *queue)
{
    if (queue->fresh)
        settle_features(dev, queue);
    if (queue->num == 0) {
        vg_queue_break(queue, "started without a size");
        return -1;
    }
    if ((queue->packed ? vg_packed_resolve(dev, queue) : vg_split_resolve(dev, queue)) < 0)
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
    if (!queue->fresh)
        return 0;
    uint64_t faults = vg_mem_faults(dev);
    if (queue->packed)
        vg_packed_set_base(queue);
    else
        vg_split_set_base(queue);
    if (break_if_gone(dev, queue, faults) < 0)
        return -1;
    queue->fresh = 0;
    return 0;
}

uint32_t vg_ring_base(const struct vg_queue *queue)
{
    if (queue->fresh)
        return queue->base;
    return queue->packed ? vg_packed_base(queue) : queue->last_avail;
}

/* ---- taking ---- */

int vg_ring_peek(struct vg_device *dev, struct vg_queue *queue)
{
    uint64_t faults = vg_mem_faults(dev);
    int found = queue->packed ? vg_packed_peek(dev, queue) : vg_split_peek(dev, queue);
    return break_if_gone(dev, queue, faults) < 0 ? -1 : found;
}

void vg_ring_take(struct vg_queue *queue)
{
    struct vg_popped *popped = &queue->walk.popped;
    if (queue->packed)
        vg_packed_skip(queue, popped->slots);
    else
        queue->last_avail++;
    popped->turn = queue->order.taken++;
    queue->inflight += popped->slots;
}

/* ---- giving back ---- */

int vg_ring_give_back(struct vg_device *dev, struct vg_queue *queue, const struct vg_popped *popped, uint32_t written,
                      int full)
{
    uint64_t faults = vg_mem_faults(dev);
    VG_TRACE(dev, returned, queue, popped, written);
    if (queue->in_order)
        vg_order_done(queue, popped, written, full);
    else
        vg_ring_put(queue, popped->id, written, popped->slots);
    queue->completed++;
    return break_if_gone(dev, queue, faults);
}

int vg_ring_publish(struct vg_device *dev, struct vg_queue *queue)
{
    if (queue->order.slots == 0 || queue->generation != dev->memory.generation)
        return 0;
    uint64_t faults = vg_mem_faults(dev);
    vg_order_put(queue);
    return break_if_gone(dev, queue, faults);
}

/* ---- notifications ---- */

int vg_ring_disarm(struct vg_device *dev, struct vg_queue *queue)
{
    if (!queue->armed)
        return 0;
    queue->armed = 0;
    uint64_t faults = vg_mem_faults(dev);
    if (queue->packed)
        vg_packed_disarm(queue);
    else
        vg_split_disarm(queue);
    return break_if_gone(dev, queue, faults);
}

int vg_ring_arm(struct vg_device *dev, struct vg_queue *queue)
{
    uint64_t faults = vg_mem_faults(dev);
    int empty = queue->packed ? vg_packed_arm(queue) : vg_split_arm(queue);
    queue->armed = 1;
    return break_if_gone(dev, queue, faults) < 0 ? -1 : empty;
}

void vg_ring_notify(struct vg_device *dev, struct vg_queue *queue)
{
    vg_ring_publish(dev, queue);
    /* Without a call eventfd the completions stay to be told: one may come, and the guest may sleep until then. */
    if (queue->unsignalled == 0 || queue->call_fd < 0 || queue->generation != dev->memory.generation)
        return;
    uint64_t faults = vg_mem_faults(dev);
    atomic_thread_fence(memory_order_seq_cst);
    if (queue->packed ? vg_packed_wants_call(queue) : vg_split_wants_call(queue))
        vg_queue_call(queue);
    break_if_gone(dev, queue, faults);
    queue->signalled_valid = 1;
    queue->unsignalled = 0;
}
