/*
 * Virtqueues. ring.c: what both kinds of rings have in common; split.c: split rings (virtio 1.3, section 2.7); packed.c:
 * packed rings (2.8); in_order.c: VIRTIO_F_IN_ORDER; walk.c and chain.c: descriptor chains; queue.c: what the VMM sets;
 * drain.c: commands. Legacy rings are treated as split ones (this is a little-endian device on little-endian hosts).
 *
 * Each of a ring's three parts must lie in one memory region; buffers and indirect tables may cross regions.
 */
#ifndef VG_RING_H
#define VG_RING_H

#include <linux/virtio_config.h>
#include <linux/virtio_gpu.h>
#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vg_api.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings and commands are read in host byte order");

struct vg_device;

#define VG_F_INDIRECT_DESC (1ull << VIRTIO_RING_F_INDIRECT_DESC)
#define VG_F_EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)
#define VG_F_RING_PACKED (1ull << VIRTIO_F_RING_PACKED)
#define VG_F_IN_ORDER (1ull << VIRTIO_F_IN_ORDER)

#define VG_MAX_INDIRECT 32768u          /* entries of an indirect table */
#define VG_MAX_CHAIN_BYTES (1ull << 32) /* virtio 1.3, 2.7.4: drivers must not exceed it */
#define VG_FIXED_REQUEST 96             /* room for the largest fixed struct of a command (SET_SCANOUT_BLOB) */
#define VG_INLINE_SEGMENTS 8

/* A buffer of a chain: guest-physical, not empty, checked to be inside memory when the chain was popped. */
struct vg_segment {
    uint64_t gpa;
    uint32_t len;
};

/* What it takes to give a chain back. */
struct vg_popped {
    uint16_t id;    /* split: index of the head; packed: the buffer id, which is the driver's affair */
    uint16_t slots; /* entries of the ring that it occupies. split: 1; packed: its descriptors */
    uint16_t turn;  /* with IN_ORDER: the how manieth chain since the start it is */
};

/* The chain at hand. segments: the readable ones, then the writable ones. Scratch: reused by the next chain. */
struct vg_walk {
    struct vg_segment *segments;
    uint32_t capacity, count, readable_count;
    uint64_t readable, writable; /* bytes */
    struct vg_popped popped;
    int seen_writable;
};

/* A request with its header, copied out of guest memory once. */
union vg_request_data {
    uint8_t bytes[VG_FIXED_REQUEST];
    struct virtio_gpu_ctrl_hdr hdr;
    struct virtio_gpu_transfer_to_host_2d transfer;
    struct virtio_gpu_resource_flush flush;
    struct virtio_gpu_set_scanout scanout;
    struct virtio_gpu_resource_attach_backing attach;
    struct virtio_gpu_update_cursor cursor;
    struct virtio_gpu_resource_create_2d create_2d;
    struct virtio_gpu_resource_unref unref;
    struct virtio_gpu_resource_detach_backing detach;
    struct virtio_gpu_ctx_create ctx_create;
    struct virtio_gpu_ctx_resource ctx_resource;
    struct virtio_gpu_resource_create_3d create_3d;
    struct virtio_gpu_transfer_host_3d transfer_3d;
    struct virtio_gpu_cmd_submit submit;
    struct virtio_gpu_resource_create_blob create_blob;
    struct virtio_gpu_set_scanout_blob scanout_blob;
    struct virtio_gpu_resource_map_blob map_blob;
    struct virtio_gpu_resource_unmap_blob unmap_blob;
};

/* A popped chain in the hands of the caller: what its reply needs, and its request. */
struct vg_chain {
    struct vg_chain *next, **link; /* in its queue's list of live chains; next alone in the list of spare ones */
    uint64_t epoch;                /* of the queue when it was popped */
    uint64_t writable;
    uint64_t charged;              /* bytes charged against the budget: segments and tail */
    struct vg_segment *segments;   /* writable ones: inline_segments, or allocated when there are many */
    uint32_t count;
    uint32_t queue;
    struct vg_popped popped;
    uint8_t *tail;                 /* request with its variable part, or NULL: request is all */
    union vg_request_data request;
    struct vg_segment inline_segments[VG_INLINE_SEGMENTS];
};

/* Ring words are 16 bits wide, a packed ring's event suppression structures 32; all are shared with the guest. */
typedef _Atomic uint16_t vg_ring16;
typedef _Atomic uint32_t vg_ring32;

static inline uint16_t vg_load16(const vg_ring16 *word, memory_order order)
{
    return atomic_load_explicit(word, order);
}

static inline void vg_store16(vg_ring16 *word, uint16_t value, memory_order order)
{
    atomic_store_explicit(word, value, order);
}

/* Bits of a packed descriptor that tell whose it is, and their value in one that is available (virtio 1.3, 2.8.1). */
#define VG_PACKED_AVAIL (1u << VRING_PACKED_DESC_F_AVAIL)
#define VG_PACKED_USED (1u << VRING_PACKED_DESC_F_USED)
#define VG_PACKED_OWNER (VG_PACKED_AVAIL | VG_PACKED_USED)

static inline uint16_t vg_packed_available(int wrap)
{
    return wrap ? VG_PACKED_AVAIL : VG_PACKED_USED;
}

/* With IN_ORDER: a chain that is done, but whose turn has not come. */
struct vg_done {
    uint32_t written;
    uint16_t id, slots;
    uint8_t done, full;
};

/* With IN_ORDER: chains by their turn, and the batch that the guest is to be told of next. */
struct vg_order {
    uint16_t taken, next; /* turns: of the next chain to be taken; of the next one to join the batch */
    uint16_t id;          /* of the batch's last chain */
    uint32_t written;     /* into that one */
    uint32_t slots;       /* of the whole batch; 0: there is none */
    struct vg_done done[VG_MAX_QUEUE_SIZE];
};

struct vg_queue {
    /* set by the VMM */
    uint32_t num;
    uint32_t base;                /* where it starts, as in SET_VRING_BASE; while fresh */
    uint64_t desc_uva, avail_uva, used_uva;
    int kick_fd, call_fd, err_fd;
    int kick_blocks, call_blocks; /* fd without O_NONBLOCK: asked with poll() first */
    int started, enabled;

    /* the guest's features, as they are when the ring is first looked at after a start */
    int packed, in_order, event_idx, indirect;

    /* where the ring is now; valid while generation is the memory's */
    uint64_t generation;
    union {
        struct {
            const struct vring_desc *desc;
            const vg_ring16 *avail; /* flags, idx, ring[num], used_event */
            uint8_t *used;          /* flags u16, idx u16, ring[num] of {id u32, len u32}, avail_event u16 */
        };
        struct {
            struct vring_packed_desc *ring;
            const vg_ring32 *driver_event; /* struct vring_packed_desc_event, read and written as a whole */
            vg_ring32 *device_event;
        };
    };

    /* progress. split: free-running indices; packed: indices below num, and wrap counters (0 or 1) */
    uint64_t epoch;       /* grows with every start and stop: requests of an earlier one are only freed */
    int fresh;            /* nothing was done since base was set: the rest of this block is yet to be filled */
    uint16_t last_avail, seen_avail, used_idx;
    int avail_wrap, used_wrap;
    int signalled_valid;
    uint32_t unsignalled; /* slots given back since the call eventfd was last considered */
    uint32_t inflight;    /* slots */
    int armed;            /* guest notifications are on, the ring was empty */

    uint64_t idle_since;  /* end of the last drain that left the ring empty (poll.c) */
    int eager;            /* kicks in a row that came soon after it; less than that after polling in vain */
    int reluctance;       /* kicks to wait for before polling again */

    /* what went wrong */
    int broken, report_broken;
    char reason[128];
    uint64_t completed, notified, polls;

    struct vg_walk walk;
    struct vg_chain *live, *spare;
    struct vg_order order; /* last: it is large, and most rings do without */
};

/* ---- queue.c ---- */
/* Marks the queue broken, with a printf-style reason, and signals the err eventfd. */
__attribute__((format(printf, 2, 3))) void vg_queue_break(struct vg_queue *queue, const char *format, ...);
/* Takes notice of a kick, if there was one. */
bool vg_queue_clear_kick(struct vg_queue *queue);
/* Writes 1 to the call eventfd. */
void vg_queue_call(struct vg_queue *queue);

/* ---- ring.c ---- */
/* Resolves the ring's addresses if memory changed. 0, or -1: broken. */
int vg_ring_ready(struct vg_device *dev, struct vg_queue *queue);
/* Where the queue is: what GET_VRING_BASE answers. */
uint32_t vg_ring_base(const struct vg_queue *queue);
/* Walks the next available chain without taking it. 1: queue->walk is filled; 0: empty; -1: broken. */
int vg_ring_peek(struct vg_device *dev, struct vg_queue *queue);
/* Takes the chain that was just peeked at. */
void vg_ring_take(struct vg_queue *queue);
/* Gives a chain back; full: all its writable bytes were written. With IN_ORDER the guest may learn of it later: after
   earlier chains, with vg_ring_publish or vg_ring_notify. -1: broken, the ring's memory is gone. */
int vg_ring_give_back(struct vg_device *dev, struct vg_queue *queue, const struct vg_popped *popped, uint32_t written,
                      int full);
/* Shows the guest what was given back and is still held back. Must follow every give_back before control leaves the
   core. -1: broken, the ring's memory is gone. */
int vg_ring_publish(struct vg_device *dev, struct vg_queue *queue);
/* Turns guest notifications off while chains are served. Only a hint; with EVENT_IDX nothing needs to be done. 0, or
   -1: broken. */
int vg_ring_disarm(struct vg_device *dev, struct vg_queue *queue);
/* Turns guest notifications on. 1: the ring is still empty; 0: a chain came in between; -1: broken. */
int vg_ring_arm(struct vg_device *dev, struct vg_queue *queue);
/* Publishes, then signals the call eventfd if the guest wants it and something was given back. */
void vg_ring_notify(struct vg_device *dev, struct vg_queue *queue);

/* For split.c and packed.c: host address of a part of the ring; NULL: not in memory or not aligned, broken. */
void *vg_ring_part(struct vg_device *dev, struct vg_queue *queue, const char *name, uint64_t uva, uint64_t size,
                   uintptr_t align);

/* ---- split.c, packed.c: the two kinds of rings, called by ring.c (and put by in_order.c) ---- */
/* Finds the ring's parts. 0, or -1: broken. */
int vg_split_resolve(struct vg_device *dev, struct vg_queue *queue);
int vg_packed_resolve(struct vg_device *dev, struct vg_queue *queue);
/* Takes the queue's place in the ring from base, and back. */
void vg_split_set_base(struct vg_queue *queue);
void vg_packed_set_base(struct vg_queue *queue);
uint32_t vg_packed_base(const struct vg_queue *queue);
/* As vg_ring_peek. */
int vg_split_peek(struct vg_device *dev, struct vg_queue *queue);
int vg_packed_peek(struct vg_device *dev, struct vg_queue *queue);
/* Moves on by slots after a chain was taken. */
void vg_packed_skip(struct vg_queue *queue, uint32_t slots);
/* One used entry, for so many slots. */
void vg_split_put(struct vg_queue *queue, uint16_t id, uint32_t written, uint32_t slots);
void vg_packed_put(struct vg_queue *queue, uint16_t id, uint32_t written, uint32_t slots);
/* Guest notifications off, where that takes a store; on, and whether the ring is empty then. */
void vg_split_disarm(struct vg_queue *queue);
void vg_packed_disarm(struct vg_queue *queue);
int vg_split_arm(struct vg_queue *queue);
int vg_packed_arm(struct vg_queue *queue);
/* Whether the guest wants to be told of the unsignalled slots. */
int vg_split_wants_call(struct vg_queue *queue);
int vg_packed_wants_call(struct vg_queue *queue);

/* ---- in_order.c ---- */
void vg_order_begin(struct vg_order *order);
/* A chain is done: it, and those that waited for it, join the batch. */
void vg_order_done(struct vg_queue *queue, const struct vg_popped *popped, uint32_t written, int full);
/* Writes the used entry of the batch, if there is one. */
void vg_order_put(struct vg_queue *queue);
/* For ring.c and in_order.c. */
static inline void vg_ring_put(struct vg_queue *queue, uint16_t id, uint32_t written, uint32_t slots)
{
    if (queue->packed)
        vg_packed_put(queue, id, written, slots);
    else
        vg_split_put(queue, id, written, slots);
    queue->inflight -= slots;
    queue->unsignalled += slots;
}

/* ---- walk.c ---- */
/* Room for more segments. 0, or -1: no memory. */
int vg_walk_grow(struct vg_walk *walk);
/* Fills queue->walk from the chain that begins at head, or, in a packed ring, at last_avail, whose flags were loaded
   already. NULL, or why that can't be done (static text). */
const char *vg_walk_split(struct vg_device *dev, struct vg_queue *queue, uint16_t head);
const char *vg_walk_packed(struct vg_device *dev, struct vg_queue *queue, uint16_t flags);

/* ---- poll.c ---- */
uint64_t vg_now_ns(void); /* CLOCK_MONOTONIC */
/* The queue was kicked out of its idleness; the ring has been left empty. */
void vg_poll_kicked(struct vg_device *dev, struct vg_queue *queue);
void vg_poll_idle(struct vg_device *dev, struct vg_queue *queue);
/* An empty ring: looks again for a while if commands keep coming, having told the guest of what is done. As
   vg_ring_peek. */
int vg_poll_ring(struct vg_device *dev, struct vg_queue *queue);

/* ---- chain.c ---- */
/* Copies len bytes from offset on out of the readable segments; the walk holds at least offset + len of them. */
void vg_chain_read(struct vg_device *dev, const struct vg_walk *walk, uint64_t offset, void *buf, uint64_t len);
/* Makes a chain for the caller from the walk at hand; tail_size 0: no tail. NULL: no memory, or over the budget. */
struct vg_chain *vg_chain_new(struct vg_device *dev, struct vg_queue *queue, uint64_t tail_size);
void vg_chain_free(struct vg_device *dev, struct vg_queue *queue, struct vg_chain *chain);
void vg_chains_free_all(struct vg_device *dev, struct vg_queue *queue);

/* Where a reply goes. */
struct vg_reply_space {
    const struct vg_segment *segments;
    uint32_t count;
    uint64_t writable;
};
/* Header and payload as documented at vg_request_complete. Returns the bytes written. */
uint32_t vg_reply_write(struct vg_device *dev, const struct vg_reply_space *space,
                        const struct virtio_gpu_ctrl_hdr *request, uint32_t type, const void *payload, uint64_t len);

#endif
