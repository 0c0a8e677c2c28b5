/* Split rings, driver side (virtio 1.3, 2.7; struct vring in linux/virtio_ring.h). */
#include <linux/virtio_ring.h>

#include "vb_ring.h"

static struct vring_desc link_desc(uint64_t gpa, uint32_t length, uint32_t flags, uint32_t next)
{
    return (struct vring_desc){.addr = gpa, .len = length, .flags = (__virtio16)flags, .next = (__virtio16)next};
}

/* One or two descriptors of a table of size entries, from first on. */
static void write_chain(struct vring_desc *table, uint32_t size, uint32_t first, const vb_chain *chain)
{
    uint32_t flags = chain->reply_length ? VRING_DESC_F_NEXT : 0;
    uint32_t second = (first + 1) % size;

    table[first] = link_desc(chain->request, chain->request_length, flags, second);
    if (chain->reply_length)
        table[second] = link_desc(chain->reply, chain->reply_length, VRING_DESC_F_WRITE, 0);
}

/* An indirect table; returns its bytes. */
static uint32_t write_table(const vb_chain *chain)
{
    struct vring_desc *table = (struct vring_desc *)(void *)chain->table;
    uint32_t n = 0;

    table[n++] = link_desc(chain->request, chain->request_length, VRING_DESC_F_NEXT, 1);
    if (chain->payload_length) {
        table[n] = link_desc(chain->payload, chain->payload_length, VRING_DESC_F_NEXT, n + 1);
        n++;
    }
    table[n++] = link_desc(chain->reply, chain->reply_length, VRING_DESC_F_WRITE, 0);
    return n * (uint32_t)sizeof(*table);
}

/* Each chain has a place of its own; in order, the table is filled from begin to end and over again (2.7.9). */
static uint32_t place(vb_queue *queue, uint32_t index)
{
    uint32_t slots = queue->indirect ? 1 : 2;
    uint32_t head = queue->in_order ? queue->next_desc : slots * index;

    queue->next_desc = (uint16_t)((queue->next_desc + slots) % queue->size);
    return head;
}

uint32_t vb_split_index(const vb_queue *queue, uint32_t id)
{
    return queue->indirect ? id : id / 2;
}

uint32_t vb_split_add(vb_queue *queue, uint32_t index, const vb_chain *chain)
{
    struct vring_desc *desc = queue->desc;
    struct vring_avail *avail = queue->avail;
    uint32_t head = place(queue, index);

    if (queue->indirect && chain->reply_length) {
        desc[head] = link_desc(chain->table_gpa, write_table(chain), VRING_DESC_F_INDIRECT, 0);
    } else {
        write_chain(desc, queue->size, head, chain);
    }
    avail->ring[queue->next_avail++ % queue->size] = (__virtio16)head;
    return head;
}

static uint16_t *used_event(vb_queue *queue)
{
    return &((struct vring_avail *)queue->avail)->ring[queue->size];
}

static uint16_t avail_event(const vb_queue *queue)
{
    const struct vring_used *used = queue->used;
    return __atomic_load_n((const uint16_t *)(const void *)&used->ring[queue->size], __ATOMIC_RELAXED);
}

bool vb_split_publish(vb_queue *queue)
{
    struct vring_avail *avail = queue->avail;
    const struct vring_used *used = queue->used;
    uint16_t before = queue->published;

    __atomic_store_n(&avail->idx, queue->next_avail, __ATOMIC_RELEASE);
    queue->published = queue->next_avail;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (queue->event_idx)
        return vring_need_event(avail_event(queue), queue->next_avail, before);
    return !(__atomic_load_n(&used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY);
}

bool vb_split_next_used(const vb_queue *queue, uint32_t *id, uint32_t *length)
{
    const struct vring_used *used = queue->used;
    const struct vring_used_elem *element = &used->ring[queue->last_used % queue->size];

    if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == queue->last_used)
        return false;
    *id = element->id;
    *length = element->len;
    return true;
}

void vb_split_arm(vb_queue *queue)
{
    struct vring_avail *avail = queue->avail;

    if (queue->event_idx)
        __atomic_store_n(used_event(queue), queue->last_used, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&avail->flags, 0, __ATOMIC_RELAXED);
}
