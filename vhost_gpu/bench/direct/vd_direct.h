/* The calls that a device makes on virglrenderer, made directly in one loop: what the renderer itself allows.
 *
 * One context in one process, which is gone with it. Functions give 0 or a negative errno value; the renderer's own
 * complaints go to standard error.
 */
#pragma once

#include <stdint.h>

/* How a fence is waited for. */
#define VD_SPIN 0     /* virgl_renderer_poll again and again: never asleep, as no device that has others to serve can */
#define VD_SYNC 1     /* VIRGL_RENDERER_THREAD_SYNC: asleep in poll(2) on the renderer's descriptor */
#define VD_ASYNC 2    /* and VIRGL_RENDERER_ASYNC_FENCE_CB: asleep until the renderer's own thread says so */

typedef struct {
    uint32_t id, target, format, bind, width, height;
} vd_resource;

typedef struct {
    const uint32_t *words;       /* all streams, one behind the other */
    const uint32_t *lengths;     /* of each, in words */
    uint32_t count;
    uint32_t depth;              /* fences that may be out */
    uint32_t read_id;            /* texture of 4-byte pixels that is read back behind each fence that came; 0: none */
    uint32_t read_width, read_height;
    uint64_t max_ops;            /* 0: no limit */
    uint64_t max_ns;             /* 0: no limit */
    uint64_t interval_ns;        /* begin to begin; 0: at once */
    uint64_t *latency;           /* of each stream, in the order of completion; may be NULL */
    uint64_t latency_room;
} vd_job;

typedef struct {
    uint64_t operations, latencies, ns;
} vd_result;

/* render_node: a path, or NULL for EGL without one. Once in a process. */
int vd_open(int mode, const char *render_node);
int vd_create(const vd_resource *resource);
int vd_submit(const uint32_t *words, uint32_t count);
/* Streams one after another, over and over, each with a fence. -ETIMEDOUT: a fence does not come for ten seconds. */
int vd_run(const vd_job *job, vd_result *result);
