/*
 * The C core's interface, read by the C sources and by cffi (backend/_core_build.py feeds this file to cdef),
 * so it holds plain declarations only: no #include, no conditionals, no function-like macros. (The build script drops
 * #pragma lines.)
 *
 * Who may call: one thread (the session's event loop). cffi drops the GIL around every call. With a renderer the core has
 * a second thread of its own, and each function may wait a moment for it.
 * Return conventions:
 *   - functions named vg_*_resource_*, vg_set_scanout, vg_*_cursor, vg_transfer_*: a virtio-gpu response type
 *     (enum virtio_gpu_ctrl_type of /usr/include/linux/virtio_gpu.h: 0x1100 OK_NODATA, 0x1200.. errors);
 *   - other functions returning int: 0 or a positive result, or a negative errno value.
 * Guest memory is read through copies only: copied once, checked, used.
 */
#pragma once

/* ---- device -------------------------------------------------------------------------------------------------- */

typedef struct vg_device vg_device;

#define VG_MAX_SCANOUTS 16
#define VG_NUM_QUEUES 2
#define VG_QUEUE_CONTROL 0
#define VG_QUEUE_CURSOR 1
#define VG_MAX_QUEUE_SIZE 1024
#define VG_MAX_REGIONS 509
#define VG_CURSOR_SIDE 64

/* num_scanouts 1..16; max_hostmem in bytes: the budget for everything a guest can make us hold. NULL: no memory. */
vg_device *vg_device_new(uint32_t num_scanouts, uint64_t max_hostmem);
void vg_device_free(vg_device *dev);
/* How many of the scanouts commands may name from now on: 1..num_scanouts, which it is at first. */
void vg_set_usable_scanouts(vg_device *dev, uint32_t usable);
/* Device reset: every resource, scanout and cursor is gone, images become unreferenced; memory and queues stay.
   Scanouts that showed something get a new generation, so that sinks see the clear. */
void vg_device_reset(vg_device *dev);
/* Bytes charged against max_hostmem now. */
uint64_t vg_hostmem_used(const vg_device *dev);

/* ---- guest memory -------------------------------------------------------------------------------------------- */

/* Maps size bytes at mmap_offset of fd (the caller keeps the fd). -EINVAL: zero, wrapping or overlapping range or file
   too small; -ENOSPC: over VG_MAX_REGIONS; other: errno of mmap. */
int vg_mem_add(vg_device *dev, int fd, uint64_t gpa, uint64_t size, uint64_t uva, uint64_t mmap_offset);
/* -ENOENT when no region has exactly this gpa, size and uva. */
int vg_mem_remove(vg_device *dev, uint64_t gpa, uint64_t size, uint64_t uva);
void vg_mem_clear(vg_device *dev);
/* Copies that may cross regions. -EFAULT when any byte lies outside every region (nothing is copied then). */
int vg_mem_read(vg_device *dev, uint64_t gpa, void *buf, uint64_t len);
int vg_mem_write(vg_device *dev, uint64_t gpa, const void *buf, uint64_t len);
/* Pages that turned out to be gone under their mapping (file shrunk: SIGBUS) and were replaced by zero pages. A command
   that met one is answered with ERR_UNSPEC; a queue whose ring met one breaks. A SIGBUS anywhere else goes to the handler
   that was installed before the first region was added. */
uint64_t vg_mem_faults(const vg_device *dev);

/* ---- virtqueues (split and packed) ------------------------------------------------------------------------------ */

/* Acknowledged virtio feature bits; unknown ones are kept and ignored. RING_PACKED, IN_ORDER, EVENT_IDX and
   INDIRECT_DESC hold for a queue from its next start on: they may be set after the queue was. */
void vg_set_features(vg_device *dev, uint64_t features);
/* -EINVAL: queue index, or num not in 1..1024. A split ring whose num is no power of two breaks when it is started. */
int vg_queue_set_num(vg_device *dev, uint32_t queue, uint32_t num);
/* VMM virtual addresses as in SET_VRING_ADDR; of a packed ring: descriptor ring, driver and device event suppression.
   Checked for alignment here (-EINVAL), and against memory when used. */
int vg_queue_set_addr(vg_device *dev, uint32_t queue, uint64_t desc, uint64_t avail, uint64_t used);
/* As in SET_VRING_BASE. split: the next avail index (one over 65535 breaks the queue when it is started); packed: next
   avail index in bits 0-14, its wrap counter in 15, next used index in 16-30, its wrap counter in 31. */
int vg_queue_set_base(vg_device *dev, uint32_t queue, uint32_t base);
/* The same of where the queue is now: the answer to GET_VRING_BASE. */
int vg_queue_get_base(vg_device *dev, uint32_t queue, uint32_t *base);
/* Eventfds; -1 for none. The caller owns them and takes them away (-1) before closing. Blocking ones are never waited
   on, and their flags stay as they are: the VMM shares them. */
int vg_queue_set_kick(vg_device *dev, uint32_t queue, int fd);
int vg_queue_set_call(vg_device *dev, uint32_t queue, int fd);
int vg_queue_set_err(vg_device *dev, uint32_t queue, int fd);
/* A queue runs when it is started (SET_VRING_KICK received) and enabled. Starting clears an earlier broken state, and
   reads the used index back from the ring at the first drain. Starting a queue that runs changes nothing. Drain once
   after starting or enabling: chains may be waiting whose kick came before. Each of the ring's three parts must lie in
   one memory region; they are found anew after memory changed. */
int vg_queue_set_started(vg_device *dev, uint32_t queue, int started);
int vg_queue_set_enabled(vg_device *dev, uint32_t queue, int enabled);

typedef struct {
    uint32_t num;
    uint64_t desc, avail, used;   /* VMM virtual addresses */
    uint32_t base;                /* as vg_queue_get_base says */
    uint16_t used_idx;
    int packed, in_order;         /* of the last start; valid once it was drained */
    int started, enabled, broken;
    uint64_t completed;           /* chains returned since creation */
    uint64_t notified;            /* call eventfd writes since creation */
    uint64_t polls;               /* times that the ring was polled, since creation */
    char reason[128];             /* why it is broken, else "" */
} vg_queue_info;
int vg_queue_describe(vg_device *dev, uint32_t queue, vg_queue_info *out);

/* One command for Python, copied out of guest memory. Valid until completed or dropped. */
typedef struct vg_chain vg_chain;
typedef struct {
    vg_chain *chain;         /* opaque: the popped chain */
    uint32_t queue;
    uint32_t type;           /* virtio_gpu_ctrl_hdr fields */
    uint32_t flags;
    uint64_t fence_id;
    uint32_t ctx_id;
    uint32_t ring_idx;
    const uint8_t *data;     /* the request with its 24-byte header: exactly the command's fixed struct, or, for
                                RESOURCE_ATTACH_BACKING, struct + nr_entries * 16; unknown types: header only */
    uint64_t size;
    uint64_t reply_capacity; /* device-writable bytes of the chain */
} vg_request;

#define VG_DRAIN_IDLE 0      /* ring empty, guest notifications armed again */
#define VG_DRAIN_REQUEST 1   /* *out is a command for the caller */
#define VG_DRAIN_AGAIN 2     /* budget spent: call again */
#define VG_DRAIN_STOPPED 3   /* not started, not enabled, or broken before */
#define VG_DRAIN_BROKEN 4    /* has just been found malformed: stopped, err eventfd signalled, see vg_queue_describe */

/* Reads the kick eventfd (when stopped too, lest a loop spin on it), then serves the ring until it is empty, a command
   for Python comes, or budget_ns passed. TRANSFER_TO_HOST_2D, RESOURCE_FLUSH, SET_SCANOUT, MOVE_CURSOR,
   UPDATE_CURSOR and all commands of blobs complete inside; so do
   requests that are too short for their type (ERR_INVALID_PARAMETER) or for a header (ERR_UNSPEC), commands of the other
   queue (ERR_UNSPEC), and those that the budget has no room for (ERR_OUT_OF_MEMORY). Signals the call eventfd, as the
   ring asks, before it returns IDLE, AGAIN or BROKEN. While a long copy runs, commands at the head of the cursor
   queue are served between its pieces. */
int vg_queue_drain(vg_device *dev, uint32_t queue, uint64_t budget_ns, vg_request *out);
/* Writes header (type, and the request's fence: flags & FENCE, fence_id, ctx_id, ring_idx if RING_IDX) and payload as
   far as the chain has room (a payload that does not fit turns into ERR_UNSPEC), gives the chain back and frees the
   request. A request of an earlier start of the queue is only freed. With IN_ORDER the guest sees a chain when all that
   it made available before are back too. */
void vg_request_complete(vg_device *dev, vg_request *req, uint32_t type, const void *payload, uint64_t len);
/* While commands keep coming, an empty control ring is looked at for poll_us microseconds more (at most 50; 0, as it is at
   first: never) before vg_queue_drain returns IDLE. */
void vg_set_poll_us(vg_device *dev, uint32_t poll_us);
/* Frees the request without giving the chain back (queue stopped; with IN_ORDER later ones would wait for it). */
void vg_request_drop(vg_device *dev, vg_request *req);
/* Signals the call eventfd if the ring asks for it. For completions outside a drain loop. */
void vg_queue_notify(vg_device *dev, uint32_t queue);

/* ---- 2D resources -------------------------------------------------------------------------------------------- */

uint32_t vg_resource_create_2d(vg_device *dev, uint32_t id, uint32_t format, uint32_t width, uint32_t height);
uint32_t vg_resource_unref(vg_device *dev, uint32_t id);
/* entries: nr_entries * struct virtio_gpu_mem_entry (addr, length, padding), already private to us. */
uint32_t vg_resource_attach_backing(vg_device *dev, uint32_t id, const uint8_t *entries, uint32_t nr_entries);
uint32_t vg_resource_detach_backing(vg_device *dev, uint32_t id);
uint32_t vg_transfer_to_host_2d(vg_device *dev, uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                                uint64_t offset);
uint32_t vg_resource_flush(vg_device *dev, uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height);
/* id 0 clears the scanout. */
uint32_t vg_set_scanout(vg_device *dev, uint32_t scanout, uint32_t id, uint32_t x, uint32_t y, uint32_t width,
                        uint32_t height);

/* A blob of guest memory: size bytes. The only blob_mem there is: 1, VIRTIO_GPU_BLOB_MEM_GUEST. entries as above; none:
   backing is attached later. Transfers of blobs do nothing: flushes read guest memory. */
uint32_t vg_resource_create_blob(vg_device *dev, uint32_t id, uint32_t blob_mem, uint32_t blob_flags, uint64_t size,
                                 const uint8_t *entries, uint32_t nr_entries);
/* How bytes of a blob are a picture: stride and offset of its first row in bytes. */
typedef struct {
    uint32_t width, height, format, stride, offset;
} vg_blob_picture;
/* The rectangle is one of the picture. What is in guest memory then is shown at once, or, of commands that come by ring,
   when a flush follows or the drain ends. */
uint32_t vg_set_scanout_blob(vg_device *dev, uint32_t scanout, uint32_t id, uint32_t x, uint32_t y, uint32_t width,
                             uint32_t height, const vg_blob_picture *picture);
/* 1: the guest has a blob on the scanout, and *out is its picture; 0: it has not. */
int vg_scanout_blob(vg_device *dev, uint32_t scanout, vg_blob_picture *out);

typedef struct {
    uint32_t id, format, width, height, stride; /* stride in bytes */
    uint32_t nr_entries;
    const uint64_t *entries;  /* nr_entries pairs (guest-physical address, length) */
    uint64_t blob_size;       /* bytes of a blob, which has no format and no geometry; else 0 */
} vg_resource_info;
/* The resource with the smallest id greater than after (0: first); 0 when there is none, 1 when *out is filled. */
int vg_resource_next(vg_device *dev, uint32_t after, vg_resource_info *out);
/* Copies a rectangle of a resource's present content, format unchanged, dst_stride in bytes: for tests and state. */
int vg_resource_read(vg_device *dev, uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, void *dst,
                     uint64_t dst_stride);

/* ---- scanouts, published frames, images ---------------------------------------------------------------------- */

typedef struct { uint32_t x, y, width, height; } vg_rect;

/* A short list of rectangles that covers at least what was added to it. */
#define VG_MAX_RECTS 32
typedef struct {
    uint32_t count;
    vg_rect rects[VG_MAX_RECTS];
} vg_region;
/* Adds rectangles of a surface (no side past 2^31); those that waste least are joined when the list is full. */
void vg_region_add(vg_region *region, const vg_rect *rects, uint32_t count);

/* What a scanout shows now. generation changes with mode, resource geometry or clear; sequence with every frame. */
typedef struct {
    uint64_t generation;
    uint64_t sequence;
    uint64_t flush_ns;        /* CLOCK_MONOTONIC of the flush that published it */
    uint32_t resource_id;     /* 0: nothing is shown; the rest is zero then */
    uint32_t width, height;   /* of the scanout */
    uint32_t x, y;            /* of the scanout inside the image */
    uint32_t format;          /* virtio_gpu_formats */
    uint64_t image;           /* id of the image, unique for the device's life, never 0 */
} vg_frame;
int vg_scanout_frame(vg_device *dev, uint32_t scanout, vg_frame *out);

/* Scanouts (bits 0..15) with a new frame or generation, and cursors (bits 16..31) with a change, since last asked. */
uint32_t vg_take_dirty(vg_device *dev);
/* Takes the damage of a scanout since last asked: up to max rectangles, relative to the scanout, merged to fit. */
int vg_scanout_take_damage(vg_device *dev, uint32_t scanout, vg_rect *out, uint32_t max);

/* An image is one sealed memfd with a whole resource's pixels. It never changes while a scanout shows it or a sink
   holds it. */
typedef struct {
    uint64_t id;
    int fd;                   /* owned by the core; duplicate it to send it on */
    uint32_t width, height, stride, format;
    uint64_t size;            /* bytes of the memfd */
} vg_image_info;
int vg_image_describe(vg_device *dev, uint64_t image, vg_image_info *out);   /* -ENOENT */
/* A sink's hold (counted), for an image that a scanout shows or that is held already: any other may be written at any
   moment. -ENOENT otherwise. */
int vg_image_hold(vg_device *dev, uint64_t image);
/* Releasing may publish a frame that waited for a free image (see vg_take_dirty). */
void vg_image_release(vg_device *dev, uint64_t image);
/* Nonzero while a flush waits because every image of its resource is held by sinks. */
int vg_images_starved(const vg_device *dev);
/* Ids of images that ceased to exist since last asked. Returns how many were written to out; call until 0. */
int vg_take_retired_images(vg_device *dev, uint64_t *out, uint32_t max);
/* Copies a rectangle (image coordinates) as x8r8g8b8, the display socket's format (bytes B G R X, X = 0).
   -ENOENT, -EINVAL (outside the image). */
int vg_image_read_xrgb(vg_device *dev, uint64_t image, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                       void *dst, uint64_t dst_stride);

/* ---- sending pictures: a thread, for a socket that the caller keeps and uses while nothing runs here ---------------- */

typedef struct vg_sender vg_sender;
/* The most that is copied at a time. */
#define VG_UPDATE_BUFFER 131072
/* A scanout as the VMM knows it, and where it is in the image. */
typedef struct {
    uint32_t scanout, x, y, width, height;
} vg_place;
typedef struct {
    uint64_t sent;            /* bytes that the socket has taken from here */
    uint64_t posted;          /* bytes that wait */
    int has_job;
    int by_reference;         /* the last job: the socket may still refer to its image */
    int error;                /* an errno: the socket is of no use any more; 0 */
} vg_sender_state;
/* socket: a stream socket of the vhost-user-gpu protocol. A message is begun when at most queue_limit bytes wait in it.
   NULL: no thread or no memory. */
vg_sender *vg_sender_new(int socket, uint64_t queue_limit);
/* Ends it, in the middle of whatever it does. */
void vg_sender_free(vg_sender *sender);
/* An eventfd that says when a job is done, and when what was posted is gone. */
int vg_sender_news_fd(const vg_sender *sender);
/* How things are; takes the news. */
void vg_sender_status(vg_sender *sender, vg_sender_state *out);
/* Begins a job: sends the damage (relative to the place) of an image that the caller holds until it is done, or, by
   reference, until it was read. Returns how many pixels that are (0: no job), -EBUSY (there is one), -ENOENT, -EINVAL (no
   such image or place in it), -ENOMEM, or the sender's error. */
int64_t vg_sender_begin(vg_sender *sender, vg_device *dev, uint64_t image, const vg_place *place, const vg_region *damage);
/* Whole messages, to be sent before the job's next one. -ENOMEM. */
int vg_sender_post(vg_sender *sender, const void *data, uint64_t size);
/* Has a job end before its next message, soon: what is missing of a message that the socket does not take at once is
   copied. Until then, which is told like any other end, the image is read. */
void vg_sender_cancel(vg_sender *sender);

/* ---- frames for a viewer -------------------------------------------------------------------------------------- */

/* Bytes of its largest packet, rounded up. */
#define VG_FEED_PACKET 1024
#define VG_FEED_KNOWN 64
typedef struct {
    uint64_t generation;      /* last SCANOUT sent; 0, which no scanout that ever showed something has: none */
    uint64_t sequence;        /* last FRAME sent */
    uint64_t held;            /* image of the unanswered FRAME; 0: none */
    uint64_t held_since;      /* CLOCK_MONOTONIC, in nanoseconds */
    uint32_t skipped;         /* frames that came while another was still to be told */
    uint32_t dirty;           /* whether there may be something to tell */
    vg_region damage;         /* what the next FRAME tells */
} vg_feed_scanout;
/* One viewer. The caller makes it, of zeros but for the socket (SOCK_SEQPACKET, the caller's) and num_scanouts, and
   releases what is held at the end. */
typedef struct {
    int socket;
    uint32_t num_scanouts;
    uint64_t known[VG_FEED_KNOWN]; /* the image n that was told of stands at n % VG_FEED_KNOWN; or another does */
    vg_feed_scanout scanouts[VG_MAX_SCANOUTS];
} vg_feed;
/* What is left to do; or a negative errno: -EAGAIN, the socket is full; others, the viewer is gone. */
#define VG_FEED_DONE 0        /* nothing, now */
#define VG_FEED_SENT 1        /* nothing: a frame went out */
#define VG_FEED_MODE 2        /* send SCANOUT, then the frame */
#define VG_FEED_IMAGE 3       /* send IMAGE, then the frame */
#define VG_FEED_NEWS 4        /* tell every sink what changed: an image was given back */
#define VG_FEED_OTHER 5       /* deal with the packet */
/* Notes a new frame, or a new generation, of a scanout and what it changes, and sends it if it can be. */
int vg_feed_add(vg_device *dev, vg_feed *feed, uint32_t scanout, const vg_region *damage);
/* Sends the newest frame, if there is one to send. */
int vg_feed_send(vg_device *dev, vg_feed *feed, uint32_t scanout);
/* Reads one packet, if there is one: size bytes (0: the viewer has left) into packet, VG_FEED_PACKET long. A FRAME_DONE is
   answered with the next frame. */
int vg_feed_read(vg_device *dev, vg_feed *feed, void *packet, uint32_t *size);

/* ---- cursor -------------------------------------------------------------------------------------------------- */

/* resource id 0 hides. Anything but 64x64 is ERR_INVALID_PARAMETER and changes nothing. */
uint32_t vg_update_cursor(vg_device *dev, uint32_t scanout, uint32_t x, uint32_t y, uint32_t id, uint32_t hot_x,
                          uint32_t hot_y);
uint32_t vg_move_cursor(vg_device *dev, uint32_t scanout, uint32_t x, uint32_t y, uint32_t id);

typedef struct {
    uint64_t generation;      /* changes with picture, hot spot and visibility; not with position */
    uint32_t x, y, hot_x, hot_y;
    uint32_t resource_id;     /* of the picture, for the session's description */
    int visible;
    uint8_t pixels[16384];    /* 64 x 64 a8r8g8b8: bytes B G R A */
} vg_cursor;
int vg_cursor_describe(vg_device *dev, uint32_t scanout, vg_cursor *out);

/* ---- rendering: a renderer on a thread of its own, which then owns the control queue --------------------------- */

/* Starts the thread, and the renderer on it (ops: struct vg_renderer_ops of vg_renderer.h, which must stay; render_node: a
   path, or NULL); returns when it is open. Paused at first. A negative errno, with one line of text in why. */
int vg_render_start(vg_device *dev, const void *ops, const char *render_node, char *why, uint64_t size);
/* Ends the thread, for good; vg_device_free does it too. */
void vg_render_stop(vg_device *dev);
/* How long a call of the renderer, and stopping or pausing it, may last before it is given up (30 s, 4 s). */
void vg_render_set_limits(vg_device *dev, uint32_t call_ms, uint32_t park_ms);
/* A frame that was read back is followed by so many times (15) the time it took, at most longest_ns (15 ms), without
   another one; twice the longest for a guest that has flushed eight times or more since the one before. What is owed
   waits for three of the longest while the guest draws on without a flush. A rest that goes on is over. */
void vg_render_set_rest(vg_device *dev, uint32_t times, uint64_t longest_ns);
/* The thread rests between two commands until vg_render_resume. settle: it first waits half a second at most for fences,
   then gives back every command that was executed, for a queue that is to be stopped. Pausing twice is pausing once.
   Each call that sets up memory or the control queue pauses for its own moment; pause around several that belong
   together (a new memory table: a ring that is outside memory is broken). */
void vg_render_pause(vg_device *dev, int settle);
/* Also after the queue was set up, started or enabled: the thread looks at it again. */
void vg_render_resume(vg_device *dev);

#define VG_EVENT_MESSAGE 1       /* the renderer says text */
#define VG_EVENT_CONTEXT_ERROR 2 /* a stream of the context was refused; told once for each context */
#define VG_EVENT_QUEUE_BROKEN 3  /* the control queue was found malformed: text says how */
#define VG_EVENT_LOST 4          /* the renderer hangs and was given up: from now on the caller drains the control queue */
typedef struct {
    uint32_t kind, ctx_id;
    uint32_t lost;               /* events that there was no room for before this one was taken */
    char text[180];
} vg_render_event;

/* Readable when there is something for the loop: dirty scanouts, retired images, a command, an event. -1: no renderer. */
int vg_render_news_fd(const vg_device *dev);
/* First of all, when it is readable; looks for a renderer that hangs, too. */
void vg_render_clear_news(vg_device *dev);
/* 1: *out is an event; 0: there is none. */
int vg_render_take_event(vg_device *dev, vg_render_event *out);
/* 1: *out is a command for the caller; the ring waits until vg_request_complete or vg_request_drop. 0: there is none. */
int vg_render_take_request(vg_device *dev, vg_request *out);
/* Whether there was a renderer and is none any more: commands of 3D fail, all else goes on. */
int vg_render_lost(const vg_device *dev);
/* A capability set of the renderer. -ENOENT: it has none of this id. out: size bytes. */
int vg_render_capset(const vg_device *dev, uint32_t id, uint32_t *version, uint32_t *size);
int vg_render_fill_capset(const vg_device *dev, uint32_t id, void *out);
/* RESOURCE_ASSIGN_UUID: 16 bytes, the same for the resource's whole life. A response type. */
uint32_t vg_resource_uuid(vg_device *dev, uint32_t id, uint8_t *out);

/* ---- trace --------------------------------------------------------------------------------------------------- */

/* From now on what happens to every command is appended to fd, which stays the caller's (protocol/trace.py: records). */
void vg_trace_start(vg_device *dev, int fd);
/* The end of it. 0, or the errno of the write that ended it before. */
int vg_trace_stop(vg_device *dev);

/* ---- fault containment --------------------------------------------------------------------------------------- */

/* Aborts the process when the calling thread used seconds of CPU time without a vg_hang_pat() in between. 0 turns it off.
   The timer counts CPU time, so an idle process is never woken; that of other threads (a software renderer's) is not
   counted. */
int vg_hang_watch(uint32_t seconds);
void vg_hang_pat(void);
/* Where the watch says why it aborts; 2 until told. */
void vg_hang_report_to(int fd);
