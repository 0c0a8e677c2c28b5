/*
 * Split virtqueues (virtio 1.3, section 2.7). ring.c: the ring itself; chain.c: descriptor chains; queue.c: what the VMM
 * sets; drain.c: commands. Legacy rings are treated the same (this is a little-endian device on little-endian hosts).
 *
 * Each of a ring's three parts must lie in one memory region; buffers and indirect tables may cross regions.
 */
#ifndef VG_RING_H
#define VG_RING_H

#include <linux/virtio_gpu.h>
#include <linux/virtio_ring.h>
#include <stdint.h>

#include "vg_api.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "rings and commands are read in host byte order");

struct vg_device;

#define VG_F_INDIRECT_DESC (1ull << VIRTIO_RING_F_INDIRECT_DESC)
#define VG_F_EVENT_IDX (1ull << VIRTIO_RING_F_EVENT_IDX)

#define VG_MAX_INDIRECT 32768u          /* entries of an indirect table */
#define VG_MAX_CHAIN_BYTES (1ull << 32) /* virtio 1.3, 2.7.4: drivers must not exceed it */
#define VG_FIXED_REQUEST 64             /* room for the largest fixed struct of a 2D command (56 bytes) */
#define VG_INLINE_SEGMENTS 8

/* A buffer of a chain: guest-physical, not empty, checked to be inside memory when the chain was popped. */
struct vg_segment {
    uint64_t gpa;
    uint32_t len;
};

/* The chain at hand. segments: the readable ones, then the writable ones. Scratch: reused by the next chain. */
struct vg_walk {
    struct vg_segment *segments;
    uint32_t capacity, count, readable_count;
    uint64_t readable, writable; /* bytes */
    uint16_t head;
    int seen_writable;
};

/* A request with its header, copied out of guest memory once. */
union vg_request_data {
    uint8_t bytes[VG_FIXED_REQUEST];
    struct virtio_gpu_ctrl_hdr hdr;
    struct virtio_gpu_transfer_to_host_2d transfer;
    struct virtio_gpu_resource_flush flush;
    struct virtio_gpu_resource_attach_backing attach;
    struct virtio_gpu_update_cursor cursor;
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
    uint16_t head;
    uint8_t *tail;                 /* request with its variable part, or NULL: request is all */
    union vg_request_data request;
    struct vg_segment inline_segments[VG_INLINE_SEGMENTS];
};

/* Ring words are 16 bits wide and shared with the guest. */
typedef _Atomic uint16_t vg_ring16;

struct vg_queue {
    /* set by the VMM */
    uint32_t num;
    uint64_t desc_uva, avail_uva, used_uva;
    int kick_fd, call_fd, err_fd;
    int kick_blocks, call_blocks; /* fd without O_NONBLOCK: asked with poll() first */
    int started, enabled;

    /* where the ring is now; valid while generation is the memory's */
    uint64_t generation;
    const struct vring_desc *desc;
    const vg_ring16 *avail; /* flags, idx, ring[num], used_event */
    uint8_t *used;          /* flags u16, idx u16, ring[num] of {id u32, len u32}, avail_event u16 */

    /* progress */
    uint64_t epoch;       /* grows with every start and stop: requests of an earlier one are only freed */
    int fresh;            /* used_idx must be read back from the ring */
    uint16_t last_avail, seen_avail, used_idx;
    uint16_t signalled_used;
    int signalled_valid;
    uint32_t unsignalled; /* completions since the call eventfd was last considered */
    uint32_t inflight;
    int armed;            /* guest notifications are on, the ring was empty */
    int event_idx, indirect;

    /* what went wrong */
    int broken, report_broken;
    char reason[128];
    uint64_t completed, notified;

    struct vg_walk walk;
    struct vg_chain *live, *spare;
};

/* ---- queue.c ---- */
/* Marks the queue broken, with a printf-style reason, and signals the err eventfd. */
__attribute__((format(printf, 2, 3))) void vg_queue_break(struct vg_queue *queue, const char *format, ...);
/* Takes notice of a kick. */
void vg_queue_clear_kick(struct vg_queue *queue);
/* Writes 1 to the call eventfd. */
void vg_queue_call(struct vg_queue *queue);

/* ---- ring.c ---- */
/* Resolves the ring's addresses if memory changed. 0, or -1: broken. */
int vg_ring_ready(struct vg_device *dev, struct vg_queue *queue);
/* Walks the chain at the head of the avail ring without taking it. 1: queue->walk is filled; 0: empty; -1: broken. */
int vg_ring_peek(struct vg_device *dev, struct vg_queue *queue);
/* Takes the chain that was just peeked at. */
void vg_ring_take(struct vg_queue *queue);
/* Gives a chain back. -1: broken, the ring's memory is gone. */
int vg_ring_give_back(struct vg_device *dev, struct vg_queue *queue, uint16_t head, uint32_t written);
/* Turns guest notifications off while chains are served. Only a hint; with EVENT_IDX nothing needs to be done. 0, or
   -1: broken. */
int vg_ring_disarm(struct vg_device *dev, struct vg_queue *queue);
/* Turns guest notifications on. 1: the ring is still empty; 0: a chain came in between; -1: broken. */
int vg_ring_arm(struct vg_device *dev, struct vg_queue *queue);
/* Signals the call eventfd if the guest wants it and something was given back. */
void vg_ring_notify(struct vg_device *dev, struct vg_queue *queue);

/* ---- chain.c ---- */
/* Room for more segments. 0, or -1: no memory. */
int vg_walk_grow(struct vg_walk *walk);
/* Fills queue->walk from the chain that begins at head. NULL, or why that can't be done (static text). */
const char *vg_chain_walk(struct vg_device *dev, struct vg_queue *queue, uint16_t head);
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
