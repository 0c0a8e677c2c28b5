/*
 * VIRTIO_F_IN_ORDER: chains come back in the order in which they were made available, and one used entry may stand for
 * a batch of them (virtio 1.3, 2.7.9 and 2.8.8).
 *
 * Order: a chain that the caller completes before an earlier one waits here for it.
 *
 * Batches: the entry names the last chain, in the place of the first one's, and the guest takes the skipped ones to have
 * been written completely. So only a chain whose writable part is full (a response of the size that the guest made room
 * for; a cursor command has none at all) is skipped; any other ends its batch, which tells its length. What pays is that
 * the ring's cache lines move between two CPUs once a batch. A batch is held back only while the drain serves further
 * commands, until its next look at the clock (drain.c): a guest that runs meanwhile is never kept waiting for long.
 */
#include <string.h>

#include "vg_internal.h"

void vg_order_begin(struct vg_order *order)
{
    order->taken = order->next = 0;
    order->slots = 0;
    memset(order->done, 0, sizeof(order->done));
}

void vg_order_put(struct vg_queue *queue)
{
    struct vg_order *order = &queue->order;
    if (order->slots == 0)
        return;
    vg_ring_put(queue, order->id, order->written, order->slots);
    order->slots = 0;
}

static void join(struct vg_queue *queue, const struct vg_done *done)
{
    struct vg_order *order = &queue->order;
    order->id = done->id;
    order->written = done->written;
    order->slots += done->slots;
    if (!done->full)
        vg_order_put(queue);
}

void vg_order_done(struct vg_queue *queue, const struct vg_popped *popped, uint32_t written, int full)
{
    struct vg_order *order = &queue->order;
    order->done[popped->turn % VG_MAX_QUEUE_SIZE] = (struct vg_done){
        .written = written,
        .id = popped->id,
        .slots = popped->slots,
        .done = 1,
        .full = full != 0,
    };
    for (struct vg_done *done; (done = &order->done[order->next % VG_MAX_QUEUE_SIZE])->done; order->next++) {
        done->done = 0;
        join(queue, done);
    }
}
