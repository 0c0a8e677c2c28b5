/* The ring that a queue has: one set of functions over split and packed rings. */
#include "vb_ring.h"

uint32_t vb_ring_room(const vb_queue *queue)
{
    return queue->indirect ? queue->size : queue->size / 2;
}

void vb_ring_begin(vb_queue *queue)
{
    queue->batch_end = UINT32_MAX;
    queue->order_head = queue->order_tail = 0;
    queue->since_publish = 0;
    vb_ring_arm(queue);
}

void vb_ring_add(vb_queue *queue, uint32_t index, const vb_chain *chain)
{
    if (queue->in_order)
        vb_order_push(queue, index);
    vb_split_add(queue, index, chain);
}

bool vb_ring_publish(vb_queue *queue)
{
    return vb_split_publish(queue);
}

int vb_ring_next_used(vb_queue *queue, uint32_t *index, uint32_t *length)
{
    return vb_split_next_used(queue, index, length);
}

bool vb_ring_arm(vb_queue *queue)
{
    return vb_split_arm(queue);
}

void vb_order_push(vb_queue *queue, uint32_t index)
{
    queue->order[queue->order_tail++ % VB_MAX_QUEUE] = (uint16_t)index;
}

uint32_t vb_order_pop(vb_queue *queue)
{
    return queue->order[queue->order_head++ % VB_MAX_QUEUE];
}
