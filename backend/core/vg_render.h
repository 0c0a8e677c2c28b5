/*
 * Rendering: a thread of its own that owns the control queue, where the session has a renderer (vg_renderer.h).
 *
 * Without one, dev->render is NULL and nothing here costs anything. With one, every public function takes the device's
 * lock. The render thread holds it while it touches rings and tables, and lets go of it around each call of the renderer
 * (vg_call_begin, vg_call_end) and for threads that wait. What must not change under such a call (memory table, queue
 * set-up, all of the resources) is changed by others only while the thread is parked, between two commands.
 *
 * A renderer that does not return is lost: from then on the thread owns nothing, and ends, should it ever come back,
 * without looking at the device. What the call may still write to stays mapped for good.
 *
 * render.c: the beginning and the end, what Python calls; render_lock.c: lock, calls, parking, loss; render_thread.c: the
 * thread's loop; render_fences.c; render_contexts.c; render_resources.c;
 * readback.c; render_commands.c.
 */
#ifndef VG_RENDER_H
#define VG_RENDER_H

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "vg_api.h"
#include "vg_renderer.h"
#include "vg_ring.h"

struct vg_device;
struct vg_resource;

#define VG_MAX_CONTEXTS 64u           /* one bit each in vg_resource.contexts */
#define VG_MAX_CONTEXT_RESOURCES 16384u
#define VG_MAX_RINGS 64u              /* timelines of a context (virtio 1.3, 5.7.6.7) */
#define VG_MAX_STREAM (16u << 20)     /* bytes of a SUBMIT_3D */
#define VG_CONTEXT_OVERHEAD (1u << 20) /* what a context is charged */
#define VG_MAX_CAPSET_ID 8u
#define VG_MAX_CAPSET_BYTES 65536u
#define VG_MAX_EVENTS 16u

/* ---- fences ---- */

/* A command that was executed and answered, but is given back only when its fence is done. */
struct vg_fence {
    struct vg_fence *next; /* of the same timeline, or of the free ones */
    uint64_t seq;
    uint64_t asked_ns;
    uint64_t epoch; /* of the control queue */
    struct vg_popped popped;
    uint32_t written;
    bool full;
};

struct vg_timeline {
    struct vg_fence *first, *last;
    struct vg_timeline *next_busy; /* among those with fences */
    uint64_t retired;              /* under done_lock: what the renderer has told */
    bool busy;
};

/* ---- contexts ---- */

struct vg_context {
    uint32_t id; /* 0: free */
    uint32_t num_resources;
    uint32_t num_plain; /* of them: 2D resources that the renderer does not know yet */
    bool complained;    /* an error of this context was told already */
    struct vg_timeline rings[VG_MAX_RINGS];
};

struct vg_capset {
    uint32_t version, size;
    void *data; /* NULL: not offered */
};

enum vg_thread_state {
    VG_THREAD_STARTING,
    VG_THREAD_RUNNING,
    VG_THREAD_WAITING, /* in poll(): takes the lock before it does anything */
    VG_THREAD_PARKED,
    VG_THREAD_ENDED,
};

/* What the thread does before it parks. */
#define VG_TASK_SETTLE 1u /* waits a moment for fences, then gives back every command */
#define VG_TASK_DETACH 2u /* takes guest memory away from the renderer */
#define VG_TASK_RESET 4u  /* resets the renderer */

struct vg_render {
    struct vg_device *dev;
    const struct vg_renderer_ops *ops;
    struct vg_renderer_events events;
    char *node;

    /* lock */
    pthread_mutex_t mutex, gate;
    _Atomic(pthread_t) owner; /* 0: nobody */
    uint32_t depth;
    atomic_uint waiting;
    pthread_cond_t changed; /* state, tasks, parks */

    /* the thread; everything from here on under the lock */
    pthread_t thread;        /* as it calls itself */
    pthread_t handle;        /* the same for who started it */
    enum vg_thread_state state;
    bool stopping, lost, paused;
    bool closed;             /* the renderer has no thread any more that could call back */
    uint32_t parks;          /* reasons to be parked */
    uint32_t tasks;
    int open_result;
    char why[128];
    jmp_buf escape;          /* where a thread that has lost the device ends */
    int wake_fd, poll_fd;

    /* the call that is being made */
    uint64_t call_started;   /* 0: none */
    uint32_t call_depth;
    uint64_t limit_ns;       /* for a call */
    uint64_t park_limit_ns;  /* for the thread to park */
    uint64_t last_call_ns;
    uint64_t unsignalled_since;
    bool timer_armed;
    const struct virtio_gpu_ctrl_hdr *hand; /* the command being executed, which is the control queue's walk at hand */

    /* news for the loop */
    int news_fd, news_event_fd, timer_fd; /* news_fd: an epoll of the other two */
    bool told;
    bool dirty_told; /* of frames, cursors and images; the loop takes them a while after it has read news_event_fd */
    vg_request request;
    enum { VG_NO_REQUEST, VG_REQUEST_OFFERED, VG_REQUEST_TAKEN } request_state;

    /* under done_lock, which is taken last and held for moments: any thread of the renderer comes here */
    pthread_mutex_t done_lock;
    atomic_bool any_done;
    vg_render_event event[VG_MAX_EVENTS];
    atomic_uint num_events;
    uint32_t lost_events;

    /* fences */
    uint64_t last_seq;
    uint64_t made_seq;       /* of the command in hand, made with it; 0: none was */
    bool unfenced_work;      /* submitted since the last fence of the global timeline */
    uint32_t pending;        /* fences */
    uint64_t nap_ns;         /* between two calls of poll, without a poll_fd */
    uint64_t short_nap_ns;   /* the longest that a fence outlasted lately, with nothing else to do meanwhile */
    uint64_t last_done_ns;   /* when the last fence was */
    uint32_t slow_fences;    /* in a row */
    bool gave_way;
    struct vg_timeline global;
    struct vg_timeline *busy;
    struct vg_fence *free_fences;
    struct vg_fence fences[VG_MAX_QUEUE_SIZE];

    /* streams on their way from the guest to the renderer */
    uint8_t *scratch;
    uint64_t scratch_size;   /* charged */

    uint64_t content;        /* grows with whatever may change a resource's pixels */
    uint32_t rest_times;     /* read-backs rest for so many times the time that one took */
    uint64_t longest_rest_ns, rest_until;
    bool owes;               /* a flush in the rest: resources with vg_resource.owed */
    uint64_t owed_since, owed_content;
    uint32_t num_owed;       /* flushes in the rest */
    uint64_t generation;     /* of the memory table that the renderer's iovecs were made for */
    uint32_t cursor_jobs;    /* scanouts whose cursor picture is to be read from a resource */
    uint8_t cursor_pixels[VG_CURSOR_SIDE * VG_CURSOR_SIDE * 4];
    struct vg_capset capsets[VG_MAX_CAPSET_ID];
    struct vg_context *last_context;
    struct vg_context contexts[VG_MAX_CONTEXTS];
};

/* ---- render_lock.c ---- */
void vg_render_lock(struct vg_render *render);
void vg_render_unlock(struct vg_render *render);
/* Lets go of the lock and takes it again, for threads that wait. */
void vg_render_yield(struct vg_render *render);
/* Waits on render->changed until the time (CLOCK_MONOTONIC, ns; 0: for ever). False: it has passed. */
bool vg_render_wait(struct vg_render *render, uint64_t until_ns);
bool vg_render_is_thread(const struct vg_render *render);
/* Whether functions of the renderer may be called: on its thread, and it is not lost. */
bool vg_render_usable(const struct vg_device *dev);
/* Whether a call that was given up may still be running. */
bool vg_render_haunts(const struct vg_render *render);
/* Around calls of the renderer. vg_call_end does not return when the renderer was lost meanwhile. */
void vg_call_begin(struct vg_render *render);
void vg_call_end(struct vg_render *render);
/* Parks the thread, having done tasks; the lock is held. Balanced by vg_render_unpark. On the thread itself, or without
   one, nothing happens. */
void vg_render_park(struct vg_device *dev, uint32_t tasks);
void vg_render_unpark(struct vg_device *dev);
/* The renderer is given up: its command is answered, its fences are given back, the thread owns nothing any more. */
void vg_render_lose(struct vg_render *render);
/* The timer may have gone off: gives up on a call that lasts too long. */
void vg_render_check(struct vg_device *dev);
void vg_render_wake(struct vg_render *render);
/* Writes to an eventfd. */
void vg_render_signal(int fd);
/* Tells the loop that there is something for it. */
void vg_render_tell(struct vg_render *render);
void vg_render_tell_if_dirty(struct vg_render *render);
/* What was dirty has been taken: what is so from now on is news again. */
void vg_render_news_taken(struct vg_device *dev);

/* ---- render_thread.c ---- */
void *vg_render_main(void *arg);
/* On the thread, before each command: lets others in. False: the drain is to end. */
bool vg_render_goes_on(struct vg_render *render);
/* On the thread, when the ring is empty: gives back what is done, and lets others in. False: the drain is to end. */
bool vg_render_ring_empty(struct vg_render *render);

/* ---- render_fences.c ---- */
void vg_fences_init(struct vg_render *render);
/* The command that was just executed and answered waits for its fence. False: it need not, and is to be given back. */
bool vg_fence_hold(struct vg_device *dev, const struct virtio_gpu_ctrl_hdr *hdr, const struct vg_popped *popped,
                   uint32_t written, bool full);
/* SUBMIT_3D makes its fence in the same call: whether there is to be one, and it, without the lock. */
bool vg_fence_wanted(struct vg_render *render, const struct virtio_gpu_ctrl_hdr *hdr);
int vg_fence_call(struct vg_render *render, const struct virtio_gpu_ctrl_hdr *hdr, uint64_t seq);
/* Asks the renderer which fences are done, and gives those commands back. */
void vg_fences_poll(struct vg_render *render);
/* Gives back the commands whose fences are done; of a timeline, or everywhere: all. */
void vg_fences_collect(struct vg_render *render);
void vg_fences_finish(struct vg_render *render, struct vg_timeline *timeline);
void vg_fences_finish_all(struct vg_render *render);
void vg_render_fence_done(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t seq);

/* ---- render_events.c ---- */
void vg_render_event_add(struct vg_render *render, uint32_t kind, uint32_t ctx_id, const char *text);
void vg_render_message(void *cookie, const char *text);

/* ---- render_contexts.c ---- */
struct vg_context *vg_context_find(struct vg_render *render, uint32_t id);
/* The response for a renderer's result. */
uint32_t vg_render_error(int rc);
uint32_t vg_context_create(struct vg_device *dev, const struct virtio_gpu_ctx_create *create);
uint32_t vg_context_destroy(struct vg_device *dev, uint32_t id);
uint32_t vg_context_attach(struct vg_device *dev, uint32_t id, uint32_t resource_id);
uint32_t vg_context_detach(struct vg_device *dev, uint32_t id, uint32_t resource_id);
/* The resource is gone. */
void vg_contexts_forget(struct vg_device *dev, struct vg_resource *res);
/* A plain resource has become host3d: attaches it where it is attached. */
void vg_contexts_attach_converted(struct vg_device *dev, struct vg_resource *res);
/* After the renderer was reset. */
void vg_contexts_reset(struct vg_device *dev);

/* ---- render_resources.c ---- */
uint32_t vg_render_create_3d(struct vg_device *dev, const struct virtio_gpu_resource_create_3d *create);
/* Has the renderer know a plain 2D resource too; its pixels live there from then on. A response type. */
uint32_t vg_render_convert(struct vg_device *dev, struct vg_resource *res);
uint32_t vg_render_convert_attached(struct vg_device *dev, struct vg_context *context);
/* The renderer's part of the commands of the same names. */
uint32_t vg_render_unref(struct vg_device *dev, struct vg_resource *res);
uint32_t vg_render_attach_backing(struct vg_device *dev, struct vg_resource *res);
uint32_t vg_render_detach_backing(struct vg_device *dev, struct vg_resource *res);
/* Gives the renderer the guest's memory again after the memory table has changed. */
void vg_render_reattach(struct vg_device *dev);
void vg_render_detach_all(struct vg_device *dev);
/* What a host3d resource holds beside what all have; after it is gone in the renderer. */
void vg_render_resource_free(struct vg_device *dev, struct vg_resource *res);

/* ---- readback.c ---- */
/* RESOURCE_FLUSH and SET_SCANOUT of a host3d resource that has images, of a rectangle inside it. A response type. */
uint32_t vg_readback_flush(struct vg_device *dev, struct vg_resource *res, vg_rect rect);
uint32_t vg_readback_point(struct vg_device *dev, uint32_t scanout, struct vg_resource *res, vg_rect rect);
/* When a frame that was not read back when it was flushed is to be (CLOCK_MONOTONIC, ns); 0: there is none. */
uint64_t vg_readback_due(const struct vg_render *render);
/* Reads it back if it is time. */
void vg_readback_pay(struct vg_render *render);

/* ---- render_commands.c ---- */
/* Bytes of the fixed struct of a command that only a renderer makes known; 0: another command. */
uint64_t vg_render_request_size(uint32_t type);
/* Executes the command at hand if it is one that is served here when there is a renderer; 0: it is not. */
uint32_t vg_render_run(struct vg_device *dev, const union vg_request_data *data);
/* The same for commands of 2D on a host3d resource, which the caller has checked. */
uint32_t vg_render_transfer_2d(struct vg_device *dev, struct vg_resource *res, vg_rect rect, uint64_t offset);
/* Memory of at least size bytes, charged. NULL: there is none. */
uint8_t *vg_render_scratch(struct vg_device *dev, uint64_t size);
void vg_render_scratch_free(struct vg_device *dev);
/* UPDATE_CURSOR of a host3d resource: the thread reads the picture soon. */
void vg_render_cursor(struct vg_device *dev, uint32_t scanout);
void vg_render_cursor_jobs(struct vg_render *render);

/* ---- render.c ---- */
/* After vg_request_complete or vg_request_drop of a command of the control queue. */
void vg_render_request_done(struct vg_device *dev);
/* After vg_render_stop, and after everything else of the device. */
void vg_render_free(struct vg_device *dev);

#endif
