/* virglrenderer's C API in one loop (virglrenderer.h of 0.10 and later). */
#define _GNU_SOURCE
#define VIRGL_RENDERER_UNSTABLE_APIS
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <virglrenderer.h>

#include "../core/clock.h"
#include "vd_direct.h"

/* Declared in virglrenderer.h, and laid out as struct virtio_gpu_box. */
struct virgl_box {
    uint32_t x, y, z, w, h, d;
};

#define CONTEXT 1u
#define PATIENCE 10000000000u            /* ns */
#define PIXEL 4u                     /* bytes of a pixel */

static struct {
    int mode, node, event;
    uint64_t done;                       /* the newest fence that came; written by the renderer's thread too */
} renderer = {.node = -1, .event = -1};

static void context_fence(void *cookie, uint32_t context, uint32_t ring, uint64_t fence)
{
    (void)cookie, (void)context, (void)ring;
    __atomic_store_n(&renderer.done, fence, __ATOMIC_RELEASE);
    if (renderer.mode == VD_ASYNC)
        vb_signal(renderer.event);
}

static void old_fence(void *cookie, uint32_t fence)
{
    (void)cookie, (void)fence;           /* those without a context, of which there are none */
}

static int drm_fd(void *cookie)
{
    (void)cookie;
    return renderer.node;
}

static struct virgl_renderer_callbacks callbacks = {.version = 3,
                                                    .write_fence = old_fence,
                                                    .write_context_fence = context_fence};

static int init_flags(int mode, bool node)
{
    int flags = VIRGL_RENDERER_USE_EGL | (node ? 0 : VIRGL_RENDERER_USE_SURFACELESS);

    if (mode != VD_SPIN)
        flags |= VIRGL_RENDERER_THREAD_SYNC;
    if (mode == VD_ASYNC)
        flags |= VIRGL_RENDERER_ASYNC_FENCE_CB;
    return flags;
}

int vd_open(int mode, const char *render_node)
{
    renderer.mode = mode;
    renderer.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (renderer.event < 0)
        return -errno;
    if (render_node) {
        renderer.node = open(render_node, O_RDWR | O_CLOEXEC);
        if (renderer.node < 0)
            return -errno;
        callbacks.get_drm_fd = drm_fd;
    }
    if (virgl_renderer_init(&renderer, init_flags(mode, render_node), &callbacks))
        return -ENODEV;
    if (mode == VD_SYNC && virgl_renderer_get_poll_fd() < 0)
        return -ENOTSUP;
    return virgl_renderer_context_create(CONTEXT, 5, "bench") ? -EIO : 0;
}

int vd_create(const vd_resource *resource)
{
    struct virgl_renderer_resource_create_args args = {
        .handle = resource->id,
        .target = resource->target,
        .format = resource->format,
        .bind = resource->bind,
        .width = resource->width,
        .height = resource->height,
        .depth = 1,
        .array_size = 1,
    };

    if (virgl_renderer_resource_create(&args, NULL, 0))
        return -EINVAL;
    virgl_renderer_ctx_attach_resource(CONTEXT, (int)resource->id);
    return 0;
}

int vd_submit(const uint32_t *words, uint32_t count)
{
    /* The renderer's argument is not const, but it does not write there. */
    return virgl_renderer_submit_cmd((void *)(uintptr_t)words, CONTEXT, (int)count) ? -EIO : 0;
}

static uint64_t done(void)
{
    return __atomic_load_n(&renderer.done, __ATOMIC_ACQUIRE);
}

/* One wait for news, as the mode has it. */
static void wait_news(void)
{
    if (renderer.mode == VD_ASYNC) {
        vb_wait(renderer.event, PATIENCE);
        vb_take(renderer.event);
        return;
    }
    if (renderer.mode == VD_SYNC)
        vb_wait(virgl_renderer_get_poll_fd(), PATIENCE);
    virgl_renderer_poll();
}

static int read_back(const vd_job *job, void *pixels)
{
    uint32_t stride = job->read_width * PIXEL;
    struct virgl_box box = {.w = job->read_width, .h = job->read_height, .d = 1};
    struct iovec iov = {.iov_base = pixels, .iov_len = (size_t)stride * job->read_height};

    return virgl_renderer_transfer_read_iov(job->read_id, 0, 0, stride, 0, &box, 0, &iov, 1) ? -EINVAL : 0;
}

typedef struct {
    const vd_job *job;
    vd_result *result;
    uint64_t *begun;         /* of the fences that are out, depth of them */
    uint8_t *pixels;
    uint64_t first;          /* the run's first fence less one */
    uint64_t started, finished;
    uint64_t at;             /* word that the next stream begins with */
    uint64_t due;
} run;

static void pace(run *r)
{
    struct timespec until;

    if (!r->job->interval_ns)
        return;
    until = (struct timespec){.tv_sec = (time_t)(r->due / 1000000000u), .tv_nsec = (long)(r->due % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    r->due += r->job->interval_ns;
}

static int start(run *r)
{
    uint32_t number = (uint32_t)(r->started % r->job->count);
    int error;

    if (!number)
        r->at = 0;
    r->begun[r->started % r->job->depth] = vb_now();
    error = vd_submit(r->job->words + r->at, r->job->lengths[number]);
    r->at += r->job->lengths[number];
    r->started++;
    if (!error && virgl_renderer_context_create_fence(CONTEXT, 0, 0, r->first + r->started))
        error = -EIO;
    return error;
}

static int finish(run *r)
{
    vd_result *result = r->result;
    int error = r->job->read_id ? read_back(r->job, r->pixels) : 0;
    uint64_t begun = r->begun[r->finished++ % r->job->depth];

    if (r->job->latency && result->latencies < r->job->latency_room)
        r->job->latency[result->latencies++] = vb_now() - begun;
    return error;
}

/* Until at most so many fences are out. */
static int settle(run *r, uint64_t out)
{
    uint64_t patience = vb_now() + PATIENCE;
    int error = 0;

    while (!error && r->started - r->finished > out) {
        if (r->first + r->finished < done()) {
            error = finish(r);
            continue;
        }
        wait_news();
        if (done() == r->first + r->finished && vb_now() > patience)
            return -ETIMEDOUT;
    }
    return error;
}

static bool over(const run *r, uint64_t begun)
{
    if (r->job->max_ops && r->started >= r->job->max_ops)
        return true;
    return r->job->max_ns && vb_now() - begun >= r->job->max_ns;
}

static int loop(run *r)
{
    uint64_t begun = vb_now();
    int error = 0;

    r->due = begun;
    while (!error && !over(r, begun)) {
        pace(r);
        error = start(r);
        if (!error)
            error = settle(r, r->job->depth - 1);
    }
    if (!error)
        error = settle(r, 0);
    r->result->operations = r->finished;
    r->result->ns = vb_now() - begun;
    return error;
}

int vd_run(const vd_job *job, vd_result *result)
{
    run r = {.job = job, .result = result, .first = done()};
    int error = -ENOMEM;

    memset(result, 0, sizeof(*result));
    if (!job->count || !job->depth)
        return -EINVAL;
    r.begun = calloc(job->depth, sizeof(*r.begun));
    r.pixels = malloc((size_t)job->read_width * job->read_height * PIXEL + 1);
    if (r.begun && r.pixels)
        error = loop(&r);
    free(r.begun);
    free(r.pixels);
    return error;
}
