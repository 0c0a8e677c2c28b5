/* The ring that a queue has: one set of functions over split and packed rings, in any order or in order. */
#include <errno.h>

#include "vb_ring.h"

uint32_t vb_ring_room(const vb_queue *queue)
{
    return queue->indirect ? queue->size : queue->size / 2;
}

void vb_ring_begin(vb_queue *queue)
{
    queue->batch_end = UINT32_MAX;
    queue->order_head = queue->order_tail = 0;
    queue->added = 0;
    vb_ring_arm(queue);
}

void vb_ring_add(vb_queue *queue, uint32_t index, const vb_chain *chain)
{
    uint32_t id = queue->packed ? vb_packed_add(queue, index, chain) : vb_split_add(queue, index, chain);
    uint32_t at = queue->order_tail % VB_MAX_QUEUE;

    if (!queue->in_order)
        return;
    queue->order_index[at] = (uint16_t)index;
    queue->order_id[at] = (uint16_t)id;
    queue->order_tail++;
}

bool vb_ring_publish(vb_queue *queue)
{
    return queue->packed ? vb_packed_publish(queue) : vb_split_publish(queue);
}

static bool next_used(const vb_queue *queue, uint32_t *id, uint32_t *length)
{
    return queue->packed ? vb_packed_next_used(queue, id, length) : vb_split_next_used(queue, id, length);
}

static void skip(vb_queue *queue, uint32_t index)
{
    if (queue->packed)
        vb_packed_skip(queue, index);
    else
        queue->last_used++;
}

/* The oldest chain. A device that answers in order may return a batch with one entry: the id of its last chain, in the
   place of the first; the others count as written completely (virtio 1.3, 2.7.9 and 2.8.8). */
static int next_in_order(vb_queue *queue, uint32_t *index, uint32_t *length)
{
    uint32_t at = queue->order_head % VB_MAX_QUEUE;

    *length = UINT32_MAX;
    if (queue->batch_end == UINT32_MAX && !next_used(queue, &queue->batch_end, length))
        return 0;
    if (queue->order_head == queue->order_tail)
        return -EPROTO;
    queue->order_head++;
    *index = queue->order_index[at];
    skip(queue, *index);
    if (queue->order_id[at] == queue->batch_end)
        queue->batch_end = UINT32_MAX;
    else
        *length = UINT32_MAX;
    return 1;
}

int vb_ring_next_used(vb_queue *queue, uint32_t *index, uint32_t *length)
{
    uint32_t id;

    if (queue->in_order)
        return next_in_order(queue, index, length);
    if (!next_used(queue, &id, length))
        return 0;
    *index = queue->packed ? id : vb_split_index(queue, id);
    if (*index >= VB_MAX_QUEUE)
        return -EPROTO;
    skip(queue, *index);
    return 1;
}

bool vb_ring_arm(vb_queue *queue)
{
    uint32_t id, length;

    if (queue->packed)
        vb_packed_arm(queue);
    else
        vb_split_arm(queue);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return next_used(queue, &id, &length);
}
