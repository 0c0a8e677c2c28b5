/*
 * The render thread's loop: serve the control queue, give back what the renderer has done, hand what it does not know to
 * the event loop, wait.
 *
 * It never touches Python. While a command is with the event loop, the ring waits (order is kept) and fences go on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "vg_internal.h"

#define BUDGET_NS 1000000u      /* of one drain */
#define SHORTEST_NAP_NS 200000u /* without a poll_fd: between two looks at the fences */
#define LONGEST_NAP_NS 1000000u
#define KICKLESS_NS 1000000     /* a ring without a kick eventfd is looked at so often */
#define SETTLE_NS 500000000u    /* how long a queue that stops waits for fences */

static struct vg_queue *control(struct vg_render *render)
{
    return &render->dev->queues[VG_QUEUE_CONTROL];
}

/* ---- the beginning ---- */

/* The loop's signals are the loop's; faults are whose they are. Threads of the renderer inherit this. */
static void block_signals(void)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    sigset_t set;
    sigfillset(&set);
    for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
        sigdelset(&set, faults[i]);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void fetch_capset(struct vg_render *render, uint32_t id)
{
    struct vg_capset *capset = &render->capsets[id];
    if (render->ops->capset(id, &capset->version, &capset->size) < 0)
        return;
    if (capset->size == 0 || capset->size > VG_MAX_CAPSET_BYTES)
        return;
    void *data = calloc(1, capset->size);
    if (data == NULL || render->ops->fill_capset(id, capset->version, data) < 0) {
        free(data);
        return;
    }
    capset->data = data;
}

/* Without the lock: nobody else is there yet but the starter, who waits. */
static int open_renderer(struct vg_render *render)
{
    int rc = render->ops->open(render->node, &render->events, render->why, sizeof(render->why));
    render->why[sizeof(render->why) - 1] = '\0';
    if (rc < 0)
        return rc;
    render->poll_fd = render->ops->poll_fd();
    for (uint32_t id = 1; id < VG_MAX_CAPSET_ID; id++)
        fetch_capset(render, id);
    return 0;
}

/* ---- parking ---- */

static void settle(struct vg_render *render)
{
    const struct timespec nap = {.tv_nsec = SHORTEST_NAP_NS};
    uint64_t start = vg_now_ns();
    vg_fences_poll(render);
    while (render->pending > 0 && vg_now_ns() - start < SETTLE_NS) {
        vg_call_begin(render);
        nanosleep(&nap, NULL);
        vg_call_end(render);
        vg_fences_poll(render);
    }
    vg_fences_finish_all(render);
    vg_queue_notify(render->dev, VG_QUEUE_CONTROL);
}

static void do_tasks(struct vg_render *render)
{
    if (render->tasks & VG_TASK_SETTLE)
        settle(render);
    if (render->tasks & VG_TASK_DETACH)
        vg_render_detach_all(render->dev);
    if (render->tasks & VG_TASK_RESET) {
        vg_call_begin(render);
        render->ops->reset();
        vg_call_end(render);
        vg_fences_finish_all(render); /* nobody would tell of them any more */
        vg_queue_notify(render->dev, VG_QUEUE_CONTROL);
    }
    render->tasks = 0;
}

static void park(struct vg_render *render)
{
    do_tasks(render);
    render->state = VG_THREAD_PARKED;
    pthread_cond_broadcast(&render->changed);
    while (render->parks > 0 && render->tasks == 0 && !render->stopping)
        vg_render_wait(render, 0);
    render->state = VG_THREAD_RUNNING;
}

/* ---- in the middle of a drain ---- */

static bool is_wanted(const struct vg_render *render)
{
    return render->parks > 0 || render->stopping || render->cursor_jobs != 0;
}

bool vg_render_goes_on(struct vg_render *render)
{
    vg_render_yield(render);
    return !is_wanted(render);
}

bool vg_render_ring_empty(struct vg_render *render)
{
    if (render->pending > 0)
        vg_fences_poll(render);
    return vg_render_goes_on(render);
}

/* ---- a turn ---- */

static void offer_request(struct vg_render *render)
{
    vg_queue_notify(render->dev, VG_QUEUE_CONTROL); /* this may take a while */
    render->request_state = VG_REQUEST_OFFERED;
    vg_render_tell(render);
}

/* Serves what there is. Returns whether to wait, and whether for kicks. */
static bool turn(struct vg_render *render, bool *kicks)
{
    *kicks = false;
    if (render->cursor_jobs != 0)
        vg_render_cursor_jobs(render);
    if (render->pending > 0)
        vg_fences_poll(render);
    if (render->owes)
        vg_readback_pay(render);
    if (render->request_state != VG_NO_REQUEST)
        return true;
    switch (vg_queue_drain(render->dev, VG_QUEUE_CONTROL, BUDGET_NS, &render->request)) {
    case VG_DRAIN_REQUEST:
        offer_request(render);
        return true;
    case VG_DRAIN_AGAIN:
        return false;
    case VG_DRAIN_BROKEN:
        vg_render_event_add(render, VG_EVENT_QUEUE_BROKEN, 0, control(render)->reason);
        vg_render_tell(render);
        return true;
    case VG_DRAIN_IDLE:
        *kicks = true;
        return true;
    default:
        return true;
    }
}

/* ---- waiting ---- */

/* Of two times to wait, -1 standing for ever. */
static int64_t sooner(int64_t a, int64_t b)
{
    return a < 0 || (b >= 0 && b < a) ? b : a;
}

static int64_t until_due(const struct vg_render *render)
{
    uint64_t due = vg_readback_due(render), now = vg_now_ns();
    if (due == 0)
        return -1;
    return due > now ? (int64_t)(due - now) : 0;
}

static uint64_t longer(uint64_t nap_ns)
{
    return nap_ns == 0 ? SHORTEST_NAP_NS : nap_ns * 2 < LONGEST_NAP_NS ? nap_ns * 2 : LONGEST_NAP_NS;
}

static int64_t nap(struct vg_render *render, bool kicks)
{
    int64_t ns = kicks && control(render)->kick_fd < 0 ? KICKLESS_NS : -1;
    ns = sooner(ns, until_due(render));
    if (render->pending == 0 || render->poll_fd >= 0)
        return ns;
    render->nap_ns = longer(render->nap_ns == 0 ? render->short_nap_ns : render->nap_ns);
    return sooner(ns, (int64_t)render->nap_ns);
}

static void take_wake(struct vg_render *render)
{
    uint64_t count;
    if (read(render->wake_fd, &count, sizeof(count)) < 0)
        return; /* somebody woke us in another way */
}

/* A nap that is over before the fence costs the renderer CPU time for nothing; one that only the fence ends keeps a guest
   waiting that has kicked meanwhile. So the next fence's first one depends on how the last ones went. */
static void learn(struct vg_render *render, bool wanted, uint64_t ns)
{
    if (wanted)
        render->short_nap_ns = 0;
    else if (ns > render->short_nap_ns && !atomic_load_explicit(&render->any_done, memory_order_relaxed))
        render->short_nap_ns = ns;
}

/* In the renderer, for fences, unless there is something else to do. */
static void wait_in_renderer(struct vg_render *render, struct pollfd *fds, nfds_t count, uint64_t ns)
{
    if (poll(fds, count, 0) == 0) {
        vg_call_begin(render);
        render->ops->wait(ns);
        vg_call_end(render);
        learn(render, poll(fds, count, 0) > 0, ns);
    } else if (fds[0].revents) {
        take_wake(render);
    }
}

/* Descriptors of -1 are passed over by poll(). */
static void wait_for_work(struct vg_render *render, bool kicks)
{
    struct pollfd fds[] = {
        {.fd = render->wake_fd, .events = POLLIN},
        {.fd = kicks ? control(render)->kick_fd : -1, .events = POLLIN},
        {.fd = render->pending > 0 ? render->poll_fd : -1, .events = POLLIN},
    };
    const nfds_t count = sizeof(fds) / sizeof(fds[0]);
    int64_t ns = nap(render, kicks);
    struct timespec timeout = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
    if (ns > 0 && render->pending > 0 && render->poll_fd < 0 && render->ops->wait != NULL) {
        wait_in_renderer(render, fds, count, (uint64_t)ns);
        return;
    }
    render->state = VG_THREAD_WAITING;
    pthread_cond_broadcast(&render->changed);
    vg_render_unlock(render);
    ppoll(fds, count, ns < 0 ? NULL : &timeout, NULL);
    vg_render_lock(render);
    render->state = VG_THREAD_RUNNING;
    if (fds[0].revents)
        take_wake(render);
}

static void serve(struct vg_render *render)
{
    bool kicks;
    while (!render->stopping) {
        if (render->parks > 0) {
            park(render);
            continue;
        }
        bool wait = turn(render, &kicks);
        vg_render_tell_if_dirty(render);
        if (wait && !is_wanted(render))
            wait_for_work(render, kicks);
        else
            vg_render_yield(render);
    }
}

/* ---- the end ---- */

static void end(struct vg_render *render)
{
    vg_render_lock(render);
    render->state = VG_THREAD_ENDED;
    pthread_cond_broadcast(&render->changed);
    vg_render_unlock(render);
}

/* Whoever has lost the device comes back here by longjmp, without the lock. */
static __attribute__((noinline)) void serve_to_the_end(struct vg_render *render)
{
    if (setjmp(render->escape) != 0)
        return;
    vg_render_lock(render);
    serve(render);
    vg_fences_finish_all(render);
    vg_render_unlock(render);
    render->ops->close();
    render->closed = true;
}

void *vg_render_main(void *arg)
{
    struct vg_render *render = arg;
    block_signals();
    render->thread = pthread_self();
    int rc = open_renderer(render);
    vg_render_lock(render);
    render->open_result = rc;
    render->state = VG_THREAD_RUNNING;
    pthread_cond_broadcast(&render->changed);
    vg_render_unlock(render);
    if (rc == 0)
        serve_to_the_end(render);
    end(render);
    return NULL;
}
