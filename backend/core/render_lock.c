/* The device's lock, calls of the renderer outside it, parking its thread, and giving up on a renderer that hangs. */
#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "vg_internal.h"

#define SLOW_CALL_NS 100000u /* before a call that may take so long the guest is told of what is done */

/* ---- the lock: recursive, and fair to those who wait ---- */

static void own(struct vg_render *render)
{
    atomic_store_explicit(&render->owner, pthread_self(), memory_order_relaxed);
}

static void disown(struct vg_render *render)
{
    atomic_store_explicit(&render->owner, 0, memory_order_relaxed);
}

/* Who comes second waits at the gate, so that the thread that lets go can't take the lock again before it. */
static void acquire(struct vg_render *render)
{
    if (pthread_mutex_trylock(&render->mutex) != 0) {
        atomic_fetch_add_explicit(&render->waiting, 1, memory_order_relaxed);
        pthread_mutex_lock(&render->gate);
        pthread_mutex_lock(&render->mutex);
        pthread_mutex_unlock(&render->gate);
        atomic_fetch_sub_explicit(&render->waiting, 1, memory_order_relaxed);
    }
    own(render);
}

static void release(struct vg_render *render)
{
    disown(render);
    pthread_mutex_unlock(&render->mutex);
}

void vg_render_lock(struct vg_render *render)
{
    /* Only the owner itself can find its own name here. */
    if (atomic_load_explicit(&render->owner, memory_order_relaxed) != pthread_self())
        acquire(render);
    render->depth++;
}

void vg_render_unlock(struct vg_render *render)
{
    if (--render->depth == 0)
        release(render);
}

void vg_render_yield(struct vg_render *render)
{
    uint32_t depth = render->depth;
    if (atomic_load_explicit(&render->waiting, memory_order_relaxed) == 0)
        return;
    render->depth = 0;
    disown(render);
    pthread_mutex_unlock(&render->mutex);
    pthread_mutex_lock(&render->gate); /* behind whoever waits for the lock */
    pthread_mutex_lock(&render->mutex);
    pthread_mutex_unlock(&render->gate);
    own(render);
    render->depth = depth;
}

bool vg_render_wait(struct vg_render *render, uint64_t until_ns)
{
    uint32_t depth = render->depth;
    struct timespec until = {.tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
    render->depth = 0;
    disown(render);
    int rc = until_ns == 0 ? pthread_cond_wait(&render->changed, &render->mutex)
                           : pthread_cond_timedwait(&render->changed, &render->mutex, &until);
    own(render);
    render->depth = depth;
    return rc != ETIMEDOUT;
}

bool vg_render_is_thread(const struct vg_render *render)
{
    return render->state != VG_THREAD_STARTING && pthread_equal(pthread_self(), render->thread);
}

bool vg_render_usable(const struct vg_device *dev)
{
    return dev->render != NULL && !dev->render->lost && vg_render_is_thread(dev->render);
}

bool vg_render_haunts(const struct vg_render *render)
{
    return render->lost && render->state != VG_THREAD_ENDED;
}

/* ---- calls of the renderer ---- */

/* What is done is not kept waiting by a call that may be a long one; short ones in a row make one interrupt. */
static void tell_guest(struct vg_render *render, uint64_t now)
{
    if (render->dev->queues[VG_QUEUE_CONTROL].unsignalled == 0) {
        render->unsignalled_since = 0;
        return;
    }
    if (render->unsignalled_since == 0)
        render->unsignalled_since = now;
    if (render->last_call_ns > SLOW_CALL_NS || now - render->unsignalled_since > SLOW_CALL_NS) {
        vg_queue_notify(render->dev, VG_QUEUE_CONTROL);
        render->unsignalled_since = 0;
    }
}

/* One timer for many calls: when it goes off, the loop looks how long the call of that moment has lasted. */
static void arm_timer(struct vg_render *render, uint64_t ns)
{
    struct itimerspec when = {.it_value = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)}};
    render->timer_armed = timerfd_settime(render->timer_fd, 0, &when, NULL) == 0;
}

void vg_call_begin(struct vg_render *render)
{
    uint64_t now = vg_now_ns();
    tell_guest(render, now);
    vg_render_tell_if_dirty(render);
    if (!render->timer_armed)
        arm_timer(render, render->limit_ns);
    render->call_started = now;
    /* The depth stays where it is: it is the calling thread's own while nobody else can have the lock twice. */
    render->call_depth = render->depth;
    render->depth = 0;
    release(render);
}

void vg_call_end(struct vg_render *render)
{
    acquire(render);
    if (render->lost) { /* the device may be gone: nothing but what is in *render is looked at */
        release(render);
        longjmp(render->escape, 1);
    }
    render->depth = render->call_depth;
    render->last_call_ns = vg_now_ns() - render->call_started;
    render->call_started = 0;
}

/* ---- giving up ---- */

static void answer_command_in_hand(struct vg_render *render)
{
    struct vg_device *dev = render->dev;
    struct vg_queue *queue = &dev->queues[VG_QUEUE_CONTROL];
    if (render->hand == NULL)
        return;
    if (queue->started && !queue->broken && vg_ring_ready(dev, queue) == 0)
        vg_answer(dev, queue, render->hand, VIRTIO_GPU_RESP_ERR_UNSPEC);
    render->hand = NULL;
}

void vg_render_lose(struct vg_render *render)
{
    if (render->lost)
        return;
    render->lost = true;
    render->tasks = 0;
    vg_budget_return(render->dev, render->scratch_size);
    render->scratch = NULL; /* it may still be read */
    render->scratch_size = 0;
    vg_fences_finish_all(render);
    answer_command_in_hand(render);
    vg_queue_notify(render->dev, VG_QUEUE_CONTROL);
    render->dev->draining = -1;
    render->dev->polling_cursor = 0;
    vg_render_event_add(render, VG_EVENT_LOST, 0, "");
    pthread_cond_broadcast(&render->changed);
    vg_render_tell(render);
}

void vg_render_check(struct vg_device *dev)
{
    struct vg_render *render = dev->render;
    uint64_t expirations, now = vg_now_ns();
    if (render == NULL || read(render->timer_fd, &expirations, sizeof(expirations)) < 0)
        return;
    render->timer_armed = false;
    if (render->call_started == 0 || render->lost)
        return;
    uint64_t lasted = now > render->call_started ? now - render->call_started : 0;
    if (lasted >= render->limit_ns)
        vg_render_lose(render);
    else
        arm_timer(render, render->limit_ns - lasted);
}

/* ---- parking ---- */

/* In poll() it holds nothing, and looks at parks before it does anything. */
static bool is_parked(const struct vg_render *render)
{
    if (render->lost || render->state == VG_THREAD_ENDED)
        return true;
    return render->tasks == 0 && (render->state == VG_THREAD_PARKED || render->state == VG_THREAD_WAITING);
}

void vg_render_park(struct vg_device *dev, uint32_t tasks)
{
    struct vg_render *render = dev->render;
    if (render == NULL || vg_render_is_thread(render))
        return;
    render->parks++;
    if (render->lost || render->state == VG_THREAD_ENDED)
        return;
    render->tasks |= tasks;
    if (is_parked(render))
        return;
    vg_render_wake(render);
    pthread_cond_broadcast(&render->changed);
    uint64_t until = vg_now_ns() + render->park_limit_ns;
    while (!is_parked(render)) {
        if (!vg_render_wait(render, until) && !is_parked(render))
            vg_render_lose(render);
    }
}

void vg_render_unpark(struct vg_device *dev)
{
    struct vg_render *render = dev->render;
    if (render == NULL || vg_render_is_thread(render) || --render->parks > 0)
        return;
    pthread_cond_broadcast(&render->changed);
    vg_render_wake(render);
}

/* ---- waking, telling ---- */

void vg_render_signal(int fd)
{
    const uint64_t one = 1;
    if (write(fd, &one, sizeof(one)) < 0)
        return; /* full: it is readable, which is all that is wanted */
}

void vg_render_wake(struct vg_render *render)
{
    vg_render_signal(render->wake_fd);
}

void vg_render_tell(struct vg_render *render)
{
    if (render->told)
        return;
    render->told = true;
    vg_render_signal(render->news_event_fd);
}

void vg_render_tell_if_dirty(struct vg_render *render)
{
    if (render->dirty_told || (render->dev->dirty == 0 && render->dev->images.num_retired == 0))
        return;
    render->dirty_told = true;
    vg_render_tell(render);
}

void vg_render_news_taken(struct vg_device *dev)
{
    if (dev->render != NULL)
        dev->render->dirty_told = false;
}
