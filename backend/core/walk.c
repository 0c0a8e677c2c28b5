/*
 * Walking and checking descriptor chains of both kinds of rings (virtio 1.3: split 2.7.5, packed 2.8.5 to 2.8.7).
 *
 * Every descriptor is copied before it is looked at, since the guest may change it meanwhile.
 */
#include <stdlib.h>
#include <string.h>

#include "vg_internal.h"

/* A descriptor table: host where it is contiguous (the ring's own always is), else by guest-physical address. */
struct table {
    const uint8_t *host;
    uint64_t gpa;
    uint32_t size;
};

_Static_assert(sizeof(struct vring_desc) == sizeof(struct vring_packed_desc), "one fetch for both");

static void fetch(struct vg_device *dev, const struct table *table, uint32_t index, void *out)
{
    uint64_t at = (uint64_t)index * sizeof(struct vring_desc);
    if (table->host == NULL) {
        vg_mem_read(dev, table->gpa + at, out, sizeof(struct vring_desc)); /* the table was checked to be in memory */
        return;
    }
    memcpy(out, table->host + at, sizeof(struct vring_desc));
    atomic_signal_fence(memory_order_seq_cst); /* see vg_mem_read */
}

int vg_walk_grow(struct vg_walk *walk)
{
    uint32_t capacity = walk->capacity ? walk->capacity * 2 : 64;
    struct vg_segment *segments = realloc(walk->segments, capacity * sizeof(*segments));
    if (segments == NULL)
        return -1;
    walk->segments = segments;
    walk->capacity = capacity;
    return 0;
}

static struct vg_walk *begin(struct vg_queue *queue, uint16_t id)
{
    struct vg_walk *walk = &queue->walk;
    walk->count = walk->readable_count = 0;
    walk->readable = walk->writable = 0;
    walk->seen_writable = 0;
    walk->popped = (struct vg_popped){.id = id, .slots = 1};
    return walk;
}

/* The order is checked for empty buffers too; their address is nobody's business. */
static const char *add(struct vg_device *dev, struct vg_walk *walk, uint64_t addr, uint32_t len, uint16_t flags)
{
    int writable = (flags & VRING_DESC_F_WRITE) != 0;
    if (walk->seen_writable && !writable)
        return "readable buffer after a writable one";
    walk->seen_writable = writable;
    if (len == 0)
        return NULL;
    if (walk->readable + walk->writable + len > VG_MAX_CHAIN_BYTES)
        return "longer than 2^32 bytes";
    if (!vg_mem_covers(dev, addr, len))
        return "buffer outside memory";
    if (walk->count == walk->capacity && vg_walk_grow(walk) < 0)
        return "no memory to follow it";
    walk->segments[walk->count++] = (struct vg_segment){.gpa = addr, .len = len};
    if (writable) {
        walk->writable += len;
    } else {
        walk->readable += len;
        walk->readable_count = walk->count;
    }
    return NULL;
}

static const char *open_indirect(struct vg_device *dev, const struct vg_queue *queue, uint64_t addr, uint32_t len,
                                 uint16_t flags, struct table *table)
{
    uint64_t contiguous;
    if (!queue->indirect)
        return "indirect table, though not negotiated";
    if (flags & VRING_DESC_F_NEXT)
        return "indirect table with NEXT";
    if (len == 0 || len % sizeof(struct vring_desc) != 0)
        return "indirect table of odd size";
    if (len / sizeof(struct vring_desc) > VG_MAX_INDIRECT)
        return "indirect table too long";
    if (!vg_mem_covers(dev, addr, len))
        return "indirect table outside memory";
    table->gpa = addr;
    table->size = len / sizeof(struct vring_desc);
    table->host = vg_mem_host(dev, addr, &contiguous);
    if (contiguous < len)
        table->host = NULL;
    return NULL;
}

/* ---- split ---- */

/* Follows the table from index on to the end of the chain, or to an indirect descriptor; *last is what it ended at. */
static const char *follow(struct vg_device *dev, struct vg_walk *walk, const struct table *table, uint32_t index,
                          struct vring_desc *last)
{
    for (uint32_t steps = 0;; steps++) {
        if (index >= table->size)
            return "descriptor index out of range";
        if (steps == table->size)
            return "loop";
        fetch(dev, table, index, last);
        if (last->flags & VRING_DESC_F_INDIRECT)
            return NULL;
        const char *why = add(dev, walk, last->addr, last->len, last->flags);
        if (why != NULL || !(last->flags & VRING_DESC_F_NEXT))
            return why;
        index = last->next;
    }
}

const char *vg_walk_split(struct vg_device *dev, struct vg_queue *queue, uint16_t head)
{
    struct vg_walk *walk = begin(queue, head);
    struct table table = {.host = (const uint8_t *)queue->desc, .size = queue->num};
    struct vring_desc last;

    const char *why = follow(dev, walk, &table, head, &last);
    if (why != NULL || !(last.flags & VRING_DESC_F_INDIRECT))
        return why;
    why = open_indirect(dev, queue, last.addr, last.len, last.flags, &table);
    if (why == NULL)
        why = follow(dev, walk, &table, 0, &last);
    if (why == NULL && (last.flags & VRING_DESC_F_INDIRECT))
        why = "indirect table inside an indirect table";
    return why;
}

/* ---- packed ---- */

/* All of a table is the chain, in order. Of the flags only WRITE means anything here (2.8.7). */
static const char *walk_table(struct vg_device *dev, struct vg_queue *queue, const struct vring_packed_desc *ring_desc)
{
    struct table table;
    struct vring_packed_desc desc;
    const char *why = open_indirect(dev, queue, ring_desc->addr, ring_desc->len, ring_desc->flags, &table);
    for (uint32_t i = 0; why == NULL && i < table.size; i++) {
        fetch(dev, &table, i, &desc);
        why = add(dev, &queue->walk, desc.addr, desc.len, desc.flags);
    }
    return why;
}

/*
 * The guest makes a chain available by the flags of its first descriptor, which therefore were loaded first and are not
 * read again; the bits of the others must say the same (2.8.6). The last one holds the buffer id.
 */
const char *vg_walk_packed(struct vg_device *dev, struct vg_queue *queue, uint16_t flags)
{
    const struct table ring = {.host = (const uint8_t *)queue->ring, .size = queue->num};
    struct vg_walk *walk = begin(queue, 0);
    uint32_t index = queue->last_avail, slots = 1;
    uint16_t available = vg_packed_available(queue->avail_wrap);
    struct vring_packed_desc desc;

    fetch(dev, &ring, index, &desc);
    for (desc.flags = flags;; slots++) {
        if (desc.flags & VRING_DESC_F_INDIRECT)
            break;
        const char *why = add(dev, walk, desc.addr, desc.len, desc.flags);
        if (why != NULL)
            return why;
        if (!(desc.flags & VRING_DESC_F_NEXT))
            break;
        if (slots == queue->num)
            return "longer than the ring";
        if (++index == queue->num) {
            index = 0;
            available ^= VG_PACKED_OWNER;
        }
        fetch(dev, &ring, index, &desc);
        if ((desc.flags & VG_PACKED_OWNER) != available)
            return "goes on with a descriptor that is not available";
    }
    walk->popped = (struct vg_popped){.id = desc.id, .slots = (uint16_t)slots};
    if (!(desc.flags & VRING_DESC_F_INDIRECT))
        return NULL;
    return slots > 1 ? "indirect table behind other descriptors" : walk_table(dev, queue, &desc);
}
