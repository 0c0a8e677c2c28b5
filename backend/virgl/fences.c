/*
 * Fences: virglrenderer's, in the core's numbers.
 *
 * On a GPU a thread of virglrenderer waits for them and tells of each (THREAD_SYNC, ASYNC_FENCE_CB): nobody polls while
 * a frame renders. But handing a fence to that thread and back takes 15 to 25 us, and most of the work that guests wait
 * for is done by the time they ask. So a fence that none is before is looked at here first, through a GL sync object of
 * our own, and costs 2 us when it is done.
 *
 * In software there is no such thread: the one that renders waits, for objects of our own behind virglrenderer's, when it
 * has nothing else to do. With virglrenderer's thread there, Mesa's llvmpipe (22.3) now and then leaves a texture empty that
 * a second context has just filled.
 *
 * There, a fence with no work for GL since the one before is done with that one, and needs nothing of its own: llvmpipe's
 * contexts share one queue. (A GPU's may have one each.)
 *
 * virglrenderer knows one timeline for each context: rings of one context are told apart here. Its thread looks at a
 * fence's context when the fence is done, and crashes when that is gone (0.10.4): so a context is not destroyed, nor the
 * renderer closed, before the fences are done.
 */
#define VIRGL_RENDERER_UNSTABLE_APIS
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <virglrenderer.h>

#include "vg_virgl.h"

#define FIRST_CAPACITY 256
#define WAIT_NS 1000000

/* Of GL 3.2 (ARB_sync). */
#define GL_SYNC_GPU_COMMANDS_COMPLETE 0x9117u
#define GL_SYNC_FLUSH_COMMANDS_BIT 1u
#define GL_TIMEOUT_EXPIRED 0x911Bu

struct fence {
    uint32_t ctx, ring;
    uint64_t seq;
    void *sync;  /* to wait for; NULL: virglrenderer's thread does */
    int follows; /* done with the one before: virglrenderer does not know it */
};

static const struct vg_renderer_events *listener;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what follows: virglrenderer's thread calls too */
static struct fence *fences;                             /* pending, by seq */
static uint32_t count, capacity;
static pthread_cond_t fewer = PTHREAD_COND_INITIALIZER; /* count went down */

static int own; /* it is we who wait */
static int worked; /* in software: GL may have work that no fence known here is behind */
static int stable_fd = -1; /* stands for virglrenderer's descriptor, which changes when it opens again */

/* ---- a look at what is done already ---- */

static void *(*fence_sync)(unsigned condition, unsigned flags);
static unsigned (*client_wait_sync)(void *sync, unsigned flags, uint64_t timeout);
static void (*delete_sync)(void *sync);

/* Without them every fence goes to virglrenderer's thread. */
static void find_gl(void)
{
    *(void **)&client_wait_sync = vg_gl_function("glClientWaitSync");
    *(void **)&delete_sync = vg_gl_function("glDeleteSync");
    *(void **)&fence_sync = vg_gl_function("glFenceSync");
    if (client_wait_sync == NULL || delete_sync == NULL)
        fence_sync = NULL;
}

/* What can't be waited for is not waited for. */
static int is_done(void *sync, uint64_t wait_ns)
{
    return client_wait_sync(sync, GL_SYNC_FLUSH_COMMANDS_BIT, wait_ns) != GL_TIMEOUT_EXPIRED;
}

/* Behind everything that this thread gave to GL; flushed, so that it will come. NULL: there is none to be had. */
static void *sync_here(int *done)
{
    void *sync = fence_sync == NULL ? NULL : fence_sync(GL_SYNC_GPU_COMMANDS_COMPLETE, 0);
    *done = sync != NULL && is_done(sync, 0);
    return sync;
}

static int all_done(void)
{
    int done;
    void *sync = sync_here(&done);
    if (sync != NULL)
        delete_sync(sync);
    return done;
}

/* ---- pending fences ---- */

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

/* Under the lock. */
static void remove_at(uint32_t index)
{
    count--;
    memmove(&fences[index], &fences[index + 1], (count - index) * sizeof(fences[0]));
    pthread_cond_signal(&fewer);
}

/* Takes the oldest fence of the context up to seq. */
static int take(uint32_t ctx, uint64_t upto, struct fence *out)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (uint32_t index = 0; !found && index < count && fences[index].seq <= upto; index++) {
        if (fences[index].ctx == ctx) {
            *out = fences[index];
            remove_at(index);
            found = 1;
        }
    }
    pthread_mutex_unlock(&lock);
    return found;
}

static void report(uint32_t ctx, uint64_t upto)
{
    struct fence fence;
    while (take(ctx, upto, &fence)) {
        if (fence.sync != NULL)
            delete_sync(fence.sync);
        listener->fence_done(listener->cookie, fence.ctx, fence.ring, fence.seq);
    }
}

/* ---- without virglrenderer's thread: only the thread that renders comes here ---- */

/* Whether the oldest fence is told of now. virglrenderer tells of it, and of the queries before it, when it is asked: it is
   when ours, behind it, is done. */
static int ask_first(uint64_t wait_ns)
{
    const struct fence first = fences[0];
    if (first.follows) {
        report(first.ctx, first.seq);
        return 1;
    }
    if (first.sync != NULL && !is_done(first.sync, wait_ns))
        return 0;
    virgl_renderer_poll();
    return count == 0 || fences[0].seq != first.seq;
}

static void ask(uint64_t wait_ns)
{
    while (own && count > 0 && ask_first(wait_ns))
        wait_ns = 0;
}

/* ---- what virglrenderer says, on its thread ---- */

/* Only 32 bits come back: those of a pending fence, or of one that is gone. */
static uint64_t whole_number(uint32_t number)
{
    uint64_t seq = 0;
    pthread_mutex_lock(&lock);
    for (uint32_t index = 0; seq == 0 && index < count; index++) {
        if (fences[index].ctx == 0 && (uint32_t)fences[index].seq == number)
            seq = fences[index].seq;
    }
    pthread_mutex_unlock(&lock);
    return seq;
}

void vg_fences_on_global(void *cookie, uint32_t number)
{
    (void)cookie;
    report(0, whole_number(number));
}

void vg_fences_on_context(void *cookie, uint32_t ctx, uint32_t ring, uint64_t number)
{
    (void)cookie;
    (void)ring;
    report(ctx, number);
}

/* ---- offered to the others ---- */

static int open_descriptor(void)
{
    int fd = virgl_renderer_get_poll_fd();
    if (fd < 0)
        return -ENOTSUP;
    int rc = stable_fd < 0 ? dup(fd) : dup2(fd, stable_fd);
    if (rc < 0)
        return -errno;
    stable_fd = rc;
    return 0;
}

int vg_fences_open(const struct vg_renderer_events *events, int software)
{
    find_gl();
    listener = events;
    own = software;
    worked = 1;
    if (own)
        return fence_sync == NULL ? -ENOTSUP : 0;
    return open_descriptor();
}

void vg_fences_forget(void)
{
    pthread_mutex_lock(&lock);
    free(fences);
    fences = NULL;
    count = capacity = 0;
    pthread_mutex_unlock(&lock);
}

void vg_fences_close(void)
{
    vg_fences_forget();
    if (stable_fd >= 0)
        close(stable_fd);
    stable_fd = -1;
    listener = NULL;
}

/* Under the lock. */
static int is_pending(uint32_t ctx)
{
    for (uint32_t index = 0; index < count; index++) {
        if (ctx == 0 || fences[index].ctx == ctx)
            return 1;
    }
    return 0;
}

/* virglrenderer's thread may want results of queries looked after in between. */
void vg_fences_wait(uint32_t ctx)
{
    pthread_mutex_lock(&lock);
    while (is_pending(ctx)) {
        struct timespec until;
        if (own) {
            pthread_mutex_unlock(&lock);
            ask(WAIT_NS);
            pthread_mutex_lock(&lock);
            continue;
        }
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += WAIT_NS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&fewer, &lock, &until);
        pthread_mutex_unlock(&lock);
        virgl_renderer_poll();
        pthread_mutex_lock(&lock);
    }
    pthread_mutex_unlock(&lock);
}

int vg_fences_poll_fd(void)
{
    return stable_fd;
}

/* Queries whose results are due: virglrenderer's thread tells of no fence behind them before. */
void vg_fences_poll(void)
{
    if (own)
        ask(0);
    else
        virgl_renderer_poll();
}

void vg_fences_wait_some(uint64_t ns)
{
    ask(ns);
}

static int hand_over(uint32_t ctx, uint64_t seq)
{
    if (ctx == 0)
        return virgl_renderer_create_fence((int)(uint32_t)seq, 0);
    return virgl_renderer_context_create_fence(ctx, 0, 0, seq);
}

static int add(const struct fence *fence)
{
    pthread_mutex_lock(&lock);
    int rc = make_room();
    if (rc == 0)
        fences[count++] = *fence;
    pthread_mutex_unlock(&lock);
    return rc;
}

static int is_first(void)
{
    pthread_mutex_lock(&lock);
    int first = count == 0;
    pthread_mutex_unlock(&lock);
    return first;
}

/* To be waited for, if virglrenderer has not told of the fence already. */
static void add_sync(uint64_t seq)
{
    int done;
    if (count > 0 && fences[count - 1].seq == seq)
        fences[count - 1].sync = sync_here(&done);
}

static int make(const struct fence *fence)
{
    struct fence gone;
    if (hand_over(fence->ctx, fence->seq) == 0)
        return 0;
    take(fence->ctx, fence->seq, &gone);
    return -EINVAL;
}

static int make_own(const struct fence *fence, int first)
{
    if (fence->follows)
        return 0;
    int rc = make(fence);
    if (rc < 0)
        return rc;
    if (first)
        virgl_renderer_poll();
    add_sync(fence->seq);
    worked = 0;
    return 0;
}

static int create(const struct fence *fence, int first)
{
    if (first && all_done()) {
        virgl_renderer_poll();
        report(fence->ctx, fence->seq);
        return 0;
    }
    return make(fence);
}

int vg_fences_create(uint32_t ctx, uint32_t ring, uint64_t seq)
{
    struct fence fence = {.ctx = ctx, .ring = ring, .seq = seq, .follows = own && !worked};
    int first = is_first();
    if (first && fence.follows) {
        listener->fence_done(listener->cookie, ctx, ring, seq);
        return 0;
    }
    int rc = add(&fence);
    if (rc < 0)
        return rc;
    return own ? make_own(&fence, first) : create(&fence, first);
}

void vg_fences_note_work(void)
{
    worked = 1;
}
