/* Packed rings, driver side (virtio 1.3, 2.8; struct vring_packed_desc in linux/virtio_ring.h). */
#include <linux/virtio_ring.h>

#include "vb_ring.h"

#define AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define USED (1u << VRING_PACKED_DESC_F_USED)

static void step(const vb_queue *queue, uint16_t *position, int *wrap, uint32_t count)
{
    uint32_t next = *position + count;

    if (next >= queue->size) {
        next -= queue->size;
        *wrap = !*wrap;
    }
    *position = (uint16_t)next;
}

/* Everything but the flags at the next place; returns the flags that make it available, and goes on. */
static uint16_t place(vb_queue *queue, uint64_t gpa, uint32_t length, uint32_t id, uint32_t flags)
{
    struct vring_packed_desc *desc = (struct vring_packed_desc *)queue->desc + queue->next_avail;

    desc->addr = gpa;
    desc->len = length;
    desc->id = (__virtio16)id;
    flags |= queue->avail_wrap ? AVAIL : USED;
    step(queue, &queue->next_avail, &queue->avail_wrap, 1);
    return (uint16_t)flags;
}

static void give(struct vring_packed_desc *desc, uint16_t flags)
{
    __atomic_store_n(&desc->flags, flags, __ATOMIC_RELEASE);
}

/* An indirect table; returns its bytes. */
static uint32_t write_table(const vb_chain *chain)
{
    struct vring_packed_desc *table = (struct vring_packed_desc *)(void *)chain->table;
    uint32_t n = 0;

    table[n++] = (struct vring_packed_desc){.addr = chain->request, .len = chain->request_length};
    if (chain->payload_length)
        table[n++] = (struct vring_packed_desc){.addr = chain->payload, .len = chain->payload_length};
    table[n++] = (struct vring_packed_desc){
        .addr = chain->reply, .len = chain->reply_length, .flags = VRING_DESC_F_WRITE};
    return n * (uint32_t)sizeof(*table);
}

/* The first descriptor's flags go last: with them the device has the chain. */
uint32_t vb_packed_add(vb_queue *queue, uint32_t index, const vb_chain *chain)
{
    struct vring_packed_desc *ring = queue->desc, *first = &ring[queue->next_avail], *second;
    uint32_t slots = !queue->indirect && chain->reply_length ? 2 : 1;
    uint16_t flags;

    if (chain->reply_length && slots == 1) {
        flags = place(queue, chain->table_gpa, write_table(chain), index, VRING_DESC_F_INDIRECT);
    } else {
        flags = place(queue, chain->request, chain->request_length, index, slots == 2 ? VRING_DESC_F_NEXT : 0);
    }
    if (slots == 2) {
        second = &ring[queue->next_avail];
        give(second, place(queue, chain->reply, chain->reply_length, index, VRING_DESC_F_WRITE));
    }
    give(first, flags);
    queue->slots[index] = (uint8_t)slots;
    queue->added = (uint16_t)(queue->added + slots);
    return index;
}

bool vb_packed_publish(vb_queue *queue)
{
    const struct vring_packed_desc_event *event = queue->used;
    uint16_t added = queue->added, flags, off_wrap, at;

    queue->added = 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    flags = __atomic_load_n(&event->flags, __ATOMIC_ACQUIRE);
    off_wrap = __atomic_load_n(&event->off_wrap, __ATOMIC_RELAXED);
    if (flags != VRING_PACKED_EVENT_FLAG_DESC)
        return flags != VRING_PACKED_EVENT_FLAG_DISABLE;
    at = off_wrap & 0x7fff;
    if (off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR != queue->avail_wrap)
        at = (uint16_t)(at - queue->size);
    return vring_need_event(at, queue->next_avail, (uint16_t)(queue->next_avail - added));
}

bool vb_packed_next_used(const vb_queue *queue, uint32_t *id, uint32_t *length)
{
    const struct vring_packed_desc *desc = (const struct vring_packed_desc *)queue->desc + queue->last_used;
    uint32_t owner = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE) & (AVAIL | USED);

    if (owner != (queue->used_wrap ? AVAIL | USED : 0))
        return false;
    *id = desc->id;
    *length = desc->len;
    return true;
}

void vb_packed_skip(vb_queue *queue, uint32_t index)
{
    step(queue, &queue->last_used, &queue->used_wrap, queue->slots[index]);
}

void vb_packed_arm(vb_queue *queue)
{
    struct vring_packed_desc_event *event = queue->avail;
    uint16_t flags = queue->event_idx ? VRING_PACKED_EVENT_FLAG_DESC : VRING_PACKED_EVENT_FLAG_ENABLE;

    if (queue->event_idx) {
        uint32_t wrap = queue->used_wrap ? 1u << VRING_PACKED_EVENT_F_WRAP_CTR : 0;
        __atomic_store_n(&event->off_wrap, (uint16_t)(wrap | queue->last_used), __ATOMIC_RELAXED);
    }
    __atomic_store_n(&event->flags, flags, __ATOMIC_RELEASE);
}
