/*
 * The benchmark's front-end in C, so that what is measured is the back-end alone. Read by the C sources and by cffi
 * (bench/_loop_build.py feeds this file to cdef): plain declarations only.
 *
 * Every function blocks, with the GIL dropped; each may run in a thread of its own on objects of its own. Counters may
 * be read while a function runs. Times are nanoseconds of CLOCK_MONOTONIC. int results: 0, or a negative errno value.
 */
#pragma once

#include <stdint.h>

/* ---- driving a virtqueue ------------------------------------------------------------------------------------- */

#define VB_MAX_REQUEST 64
#define VB_MAX_QUEUE 1024

/* One command as it is sent each time. reply_length 0: no room for a response (Linux's cursor commands). A payload
   follows the request from where it lies in guest memory, in a descriptor of its own; it wants indirect descriptors and
   a response. A request with VIRTIO_GPU_FLAG_FENCE gets the queue's next fence id each time. */
typedef struct {
    uint8_t request[64];
    uint64_t payload_gpa;
    uint32_t payload_length;     /* 0: none */
    uint32_t length;
    uint32_t reply_length;
    uint32_t expect;             /* the response's type that is no error */
} vb_command;

/* A queue whose set-up is done and on which nothing is in flight. Pointers lie in the mapped guest memory. */
typedef struct {
    uint32_t size;               /* power of two, at most VB_MAX_QUEUE */
    int indirect, event_idx, packed, in_order;
    void *desc, *avail, *used;   /* packed: descriptor ring, driver area, device area */
    int kick_fd, call_fd;
    int peer_fd;                 /* the vhost-user socket: its end means that no answer will come */
    uint8_t *arena;              /* guest memory for requests and responses, at arena_gpa */
    uint64_t arena_gpa, arena_size;
    uint16_t next_avail, last_used;   /* split: free-running; packed: positions in the ring */
    int avail_wrap, used_wrap;        /* packed: the wrap counters there */
    uint16_t published;               /* split: the avail index that the device has been shown */
    uint16_t added;                   /* packed: descriptors since the last publish */
    uint16_t next_desc;               /* split, in order: the next chain's place in the table */
    /* in order: chains in the order in which they were sent, and the last one of the batch that is coming back */
    uint16_t order_index[1024], order_id[1024];
    uint32_t order_head, order_tail;
    uint32_t batch_end;               /* its id; UINT32_MAX: no batch */
    uint8_t slots[1024];              /* packed: descriptors of each chain in the ring */
    uint64_t fence;                   /* the last fence id that was sent */
} vb_queue;

/* What to run: operations of per_op commands, depth of them in flight, until one of the limits. Operation number n
   sends commands[n % variants * per_op ...]. */
typedef struct {
    const vb_command *commands;
    uint32_t variants, per_op, depth;
    uint64_t max_ops;            /* 0: no limit */
    uint64_t max_ns;             /* 0: no limit */
    uint64_t interval_ns;        /* begin of operation to begin of operation; 0: at once */
    const int *stop;             /* looked at after every operation; may be NULL */
    uint64_t *latency;           /* of each operation, in the order of completion; may be NULL */
    uint64_t latency_room;
} vb_job;

typedef struct {
    uint64_t operations, commands, kicks, interrupts;
    uint64_t batches;            /* looks at the ring that found something: each asks for one interrupt at most */
    uint64_t errors;             /* responses of another type than expected, or too short */
    uint64_t lost_fences;        /* responses without their request's fence */
    uint32_t error_type;         /* the first of them */
    uint64_t latencies;          /* how many were recorded */
    uint64_t ns;                 /* first kick to last completion */
} vb_result;

/* -EINVAL: the job does not fit the queue; -ETIMEDOUT: no answer for ten seconds; -EPIPE: the back-end is gone;
   -EPROTO: the device returned a chain that was not out. */
int vb_run(vb_queue *queue, const vb_job *job, vb_result *result);

/* ---- the VMM's end of the display socket --------------------------------------------------------------------- */

typedef struct {
    int fd;
    const uint8_t *features_reply, *info_reply, *edid_reply;      /* whole messages */
    uint32_t features_size, info_size, edid_size;
    uint64_t messages, scanouts, updates, pixel_bytes, cursor_updates, cursor_moves;
    uint64_t violations;         /* drawing outside a scanout, unknown or broken messages */
} vb_display;

/* Reads as QEMU does until the peer closes: header, then payload; an UPDATE is copied to a surface row by row. */
int vb_display_run(vb_display *display);

/* ---- a viewer ------------------------------------------------------------------------------------------------ */

#define VB_VIEWER_PROMPT 0       /* answers every frame at once */
#define VB_VIEWER_PACED 1        /* at the next multiple of interval_ns */
#define VB_VIEWER_STALLED 2      /* never */

typedef struct {
    int fd;                      /* SOCK_SEQPACKET, connected; HELLO sent */
    int mode;
    uint64_t interval_ns;
    uint64_t frames, damage_pixels, skipped, errors;
    uint64_t latency_ns;         /* sum over the frames: flush to the frame's arrival here */
} vb_viewer;

int vb_viewer_run(vb_viewer *viewer);

/* ---- limits of the machine ----------------------------------------------------------------------------------- */

typedef struct {
    const void *source;
    void *target;
    uint64_t length;
} vb_piece;

/* Copies all the pieces again and again for max_ns; returns how often, and the time that it took in *ns. */
uint64_t vb_copy(const vb_piece *pieces, uint64_t count, uint64_t max_ns, uint64_t *ns);

/* Writes eventfd out, waits for eventfd in as vb_run waits, until max_ns passed or latency is full. Returns how many. */
int64_t vb_ping(int out, int in, uint64_t max_ns, uint64_t *latency, uint64_t room);
/* The other side: until the value 2 or more is read. */
int vb_pong(int in, int out);
/* Does so again and again until stop is set; how often stands in *done meanwhile. 0 or a negative errno. */
int vb_call(int out, int in, const int *stop, uint64_t *done);
/* The other side, which copies the piece each time. */
int vb_serve(int in, int out, const int *stop, const vb_piece *piece);
