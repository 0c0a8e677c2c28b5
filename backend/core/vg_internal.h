/*
 * What the C core's files share among themselves. Each part keeps its state in a struct of its own header; the device
 * holds one of each. Callers of the core see vg_api.h only.
 */
#ifndef VG_INTERNAL_H
#define VG_INTERNAL_H

#include <stdint.h>

#include "vg_api.h"
#include "vg_memory.h"   /* struct vg_memory: region table, translation, SIGBUS containment (memory.c) */
#include "vg_ring.h"     /* struct vg_queue, struct vg_chain: split rings (ring.c), dispatch (drain.c) */
#include "vg_resource.h" /* struct vg_resources: table, backing, transfer (resource.c); budget (budget.c) */
#include "vg_image.h"    /* struct vg_images: memfd images, holds, retirement (image.c) */
#include "vg_render.h"   /* struct vg_render: the render thread, contexts, fences (render*.c) */
#include "vg_trace.h"    /* struct vg_trace: what happens to each command, in a file (trace.c) */
#include "vg_update.h"   /* struct vg_picture: messages for the VMM's display (update.c, sender.c) */
#include "vg_latency.h"  /* when threads run (latency.c) */
#include "vg_scanout.h"  /* struct vg_scanout, struct vg_cursor_state: frames, damage, cursor (scanout.c, cursor.c) */

struct vg_device {
    uint32_t num_scanouts;
    uint32_t usable_scanouts; /* that commands may name: 1..num_scanouts */
    uint64_t max_hostmem; /* bytes; set before the parts' init functions run */
    uint64_t features;
    struct vg_memory memory;
    struct vg_queue queues[VG_NUM_QUEUES];
    struct vg_budget budget;
    struct vg_resources resources;
    struct vg_blobs blobs;
    struct vg_images images;
    struct vg_scanout scanouts[VG_MAX_SCANOUTS];
    struct vg_cursor_state cursors[VG_MAX_SCANOUTS];
    uint32_t dirty;
    uint64_t copied;      /* bytes of pictures since drain.c had news told of them */
    uint64_t poll_ns;     /* how long an eager queue is polled: 0 or up to 50 us (poll.c) */
    int draining;         /* index of the queue being drained now, else -1 (drain.c) */
    int polling_cursor;   /* inside vg_poll_cursor (drain.c) */
    struct vg_render *render; /* NULL: no renderer, no second thread, no lock */
    struct vg_trace trace;    /* off: nothing is written (trace.c) */
};

/* ---- the lock: at the top of every public function ---- */

static inline struct vg_device *vg_enter(struct vg_device *dev)
{
    if (__builtin_expect(dev->render != NULL, 0))
        vg_render_lock(dev->render);
    return dev;
}

static inline void vg_leave(struct vg_device **dev)
{
    if (__builtin_expect((*dev)->render != NULL, 0))
        vg_render_unlock((*dev)->render);
}

#define VG_ENTER(dev) __attribute__((cleanup(vg_leave), unused)) struct vg_device *vg_entered = vg_enter(dev)

/* The same, with the render thread parked, having done tasks: for what must not change under a call of the renderer. */
static inline struct vg_device *vg_enter_parked(struct vg_device *dev, uint32_t tasks)
{
    vg_enter(dev);
    if (__builtin_expect(dev->render != NULL, 0))
        vg_render_park(dev, tasks);
    return dev;
}

static inline void vg_leave_parked(struct vg_device **dev)
{
    if (__builtin_expect((*dev)->render != NULL, 0))
        vg_render_unpark(*dev);
    vg_leave(dev);
}

#define VG_ENTER_PARKED(dev, tasks)                                                                                     \
    __attribute__((cleanup(vg_leave_parked), unused)) struct vg_device *vg_entered = vg_enter_parked(dev, tasks)

/* ---- each part's beginning and end, called by device.c in this order (and backwards at the end) ---- */
/* init: the device is zeroed memory with num_scanouts and max_hostmem set; 0 or a negative errno value. free: after a
   successful init only. */
int vg_memory_init(struct vg_device *dev);
void vg_memory_free(struct vg_device *dev);
int vg_budget_init(struct vg_device *dev);
void vg_budget_free(struct vg_device *dev);
int vg_queues_init(struct vg_device *dev);
void vg_queues_free(struct vg_device *dev);
int vg_resources_init(struct vg_device *dev);
void vg_resources_free(struct vg_device *dev);
int vg_images_init(struct vg_device *dev);
void vg_images_free(struct vg_device *dev);
int vg_scanouts_init(struct vg_device *dev);
void vg_scanouts_free(struct vg_device *dev);
/* vg_device_reset: scanouts (and cursors) first, then resources. */
void vg_scanouts_reset(struct vg_device *dev);
void vg_resources_reset(struct vg_device *dev);

/* ---- offered by memory.c ---- */
/* Host address of a guest-physical byte and how many bytes follow it in the same region; NULL when it is outside.
   Valid until memory.generation changes. */
uint8_t *vg_mem_host(struct vg_device *dev, uint64_t gpa, uint64_t *contiguous);

/* ---- offered by drain.c ---- */
/* Called between the pieces (at most 256 KiB) of a long copy: serves MOVE_CURSOR at the head of the cursor queue. */
void vg_poll_cursor(struct vg_device *dev);
/* Answers the chain at hand of the queue with a header of this type, and gives it back, now or with its fence. -1: the
   queue is broken. */
int vg_answer(struct vg_device *dev, struct vg_queue *queue, const struct virtio_gpu_ctrl_hdr *request, uint32_t type);

/* ---- offered by budget.c ---- */
/* Charges bytes against max_hostmem, first dropping spare images when it would not fit. 0, or -ENOMEM. */
int vg_budget_charge(struct vg_device *dev, uint64_t bytes);
void vg_budget_return(struct vg_device *dev, uint64_t bytes);

#endif
