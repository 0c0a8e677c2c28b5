/*
 * Fences: virglrenderer's, in the core's numbers.
 *
 * A fence is a GL sync object that virglrenderer looks at when it is asked to. It could wait for them in a thread of its
 * own (VIRGL_RENDERER_THREAD_SYNC), but then even a command that is done at once takes two changes of threads: 15 to 21
 * us in place of 3. So the core asks right after each command, and what is not done then is asked for again by a timer,
 * which stands in for the descriptor that THREAD_SYNC has: at intervals that grow with the wait, so that a frame is seen
 * to be done at most a sixteenth of its time too late. Nothing ticks when nothing is pending.
 *
 * virglrenderer knows one timeline for each context: rings of one context are told apart here. The fences of a context
 * that is destroyed vanish with it, so they are reported here too.
 */
#define VIRGL_RENDERER_UNSTABLE_APIS
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include <virglrenderer.h>

#include "vg_virgl.h"

#define MIN_WAIT_NS 50000
#define MAX_WAIT_NS 1000000
/* The next look comes after this part of the time waited so far. */
#define WAIT_PART 16
#define FIRST_CAPACITY 256

struct fence {
    uint32_t ctx, ring;
    uint64_t seq;
    int done; /* to be told of */
};

static const struct vg_renderer_events *listener;
static struct fence *fences; /* pending, by seq */
static uint32_t count, capacity;
static int any_done;
static int timer = -1;
static uint64_t waiting_since, timer_ends; /* CLOCK_MONOTONIC, ns; 0: not */

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- what virglrenderer says ---- */

static void mark(uint32_t ctx, uint64_t upto)
{
    for (uint32_t index = 0; index < count && fences[index].seq <= upto; index++) {
        if (fences[index].ctx == ctx)
            fences[index].done = any_done = 1;
    }
}

/* Only 32 bits come back. They are those of a pending fence or of one that is gone. */
void vg_fences_on_global(void *cookie, uint32_t number)
{
    (void)cookie;
    for (uint32_t index = 0; index < count; index++) {
        if (fences[index].ctx == 0 && (uint32_t)fences[index].seq == number) {
            mark(0, fences[index].seq);
            return;
        }
    }
}

void vg_fences_on_context(void *cookie, uint32_t ctx, uint32_t ring, uint64_t number)
{
    (void)cookie;
    (void)ring;
    mark(ctx, number);
}

/* Tells of what is done, and closes the ranks of the others. */
static void sweep(void)
{
    uint32_t kept = 0;
    any_done = 0;
    for (uint32_t index = 0; index < count; index++) {
        struct fence fence = fences[index];
        if (fence.done)
            listener->fence_done(listener->cookie, fence.ctx, fence.ring, fence.seq);
        else
            fences[kept++] = fence;
    }
    count = kept;
}

/* ---- the timer ---- */

static void set_timer(uint64_t now)
{
    uint64_t wait = (now - waiting_since) / WAIT_PART;
    if (wait < MIN_WAIT_NS)
        wait = MIN_WAIT_NS;
    if (wait > MAX_WAIT_NS)
        wait = MAX_WAIT_NS;
    struct itimerspec when = {.it_value.tv_nsec = (long)wait};
    timer_ends = timerfd_settime(timer, 0, &when, NULL) == 0 ? now + wait : 0;
}

/* A timer that runs when the last fence is done runs out once, for nothing. */
static void wait_on(int progress)
{
    uint64_t expirations;
    if (count == 0) {
        waiting_since = 0;
        if (timer_ends != 0 && read(timer, &expirations, sizeof(expirations)) > 0)
            timer_ends = 0;
        return;
    }
    uint64_t now = now_ns();
    if (waiting_since == 0 || progress)
        waiting_since = now;
    if (now < timer_ends)
        return;
    if (timer_ends != 0 && read(timer, &expirations, sizeof(expirations)) < 0 && errno == EAGAIN)
        return; /* about to run out */
    set_timer(now);
}

/* ---- offered to the others ---- */

int vg_fences_open(const struct vg_renderer_events *events)
{
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer < 0)
        return -errno;
    listener = events;
    count = 0;
    any_done = 0;
    waiting_since = timer_ends = 0;
    return 0;
}

void vg_fences_close(void)
{
    free(fences);
    fences = NULL;
    count = capacity = 0;
    if (timer >= 0)
        close(timer);
    timer = -1;
    listener = NULL;
}

void vg_fences_drop(uint32_t ctx)
{
    for (uint32_t index = 0; index < count; index++) {
        if (ctx == 0 || fences[index].ctx == ctx)
            fences[index].done = 1;
    }
    sweep();
    wait_on(0);
}

int vg_fences_poll_fd(void)
{
    return timer;
}

void vg_fences_poll(void)
{
    if (count != 0)
        virgl_renderer_poll();
    int progress = any_done;
    if (progress)
        sweep();
    wait_on(progress);
}

static int make_room(void)
{
    if (count < capacity)
        return 0;
    uint32_t wanted = capacity == 0 ? FIRST_CAPACITY : capacity * 2;
    struct fence *larger = realloc(fences, wanted * sizeof(*larger));
    if (larger == NULL)
        return -ENOMEM;
    fences = larger;
    capacity = wanted;
    return 0;
}

int vg_fences_create(uint32_t ctx, uint32_t ring, uint64_t seq)
{
    int rc = make_room();
    if (rc < 0)
        return rc;
    /* First the entry: virglrenderer may find the fence done at once. */
    fences[count++] = (struct fence){.ctx = ctx, .ring = ring, .seq = seq};
    if (ctx == 0)
        rc = virgl_renderer_create_fence((int)(uint32_t)seq, 0);
    else
        rc = virgl_renderer_context_create_fence(ctx, 0, 0, seq);
    if (rc == 0)
        return 0;
    count--;
    return -EINVAL;
}
