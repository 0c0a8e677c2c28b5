/* The beginning and the end of rendering, and what the event loop asks of it. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "vg_internal.h"

#define CALL_LIMIT_NS 30000000000u /* software may take seconds for a heavy frame */
#define PARK_LIMIT_NS 4000000000u /* the supervisor wants an answer within 5 s, and the loop waits */
#define REST_TIMES 15u
#define LONGEST_REST_NS 15000000u
#define STACK_SIZE (8u << 20) /* compilers of shaders run on it */

/* ---- descriptors ---- */

static int join_news(int epoll_fd, int fd)
{
    struct epoll_event event = {.events = EPOLLIN};
    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
}

static int open_fds(struct vg_render *render)
{
    render->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    render->news_event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    render->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    render->news_fd = epoll_create1(EPOLL_CLOEXEC);
    if (render->wake_fd < 0 || render->news_event_fd < 0 || render->timer_fd < 0 || render->news_fd < 0)
        return -errno;
    if (join_news(render->news_fd, render->news_event_fd) < 0 || join_news(render->news_fd, render->timer_fd) < 0)
        return -errno;
    return 0;
}

static void close_fds(struct vg_render *render)
{
    const int fds[] = {render->wake_fd, render->news_event_fd, render->timer_fd, render->news_fd};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

/* ---- life ---- */

static void init_locks(struct vg_render *render)
{
    pthread_condattr_t attributes;
    pthread_mutex_init(&render->mutex, NULL);
    pthread_mutex_init(&render->gate, NULL);
    pthread_mutex_init(&render->done_lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&render->changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void render_delete(struct vg_render *render)
{
    close_fds(render);
    for (uint32_t id = 0; id < VG_MAX_CAPSET_ID; id++)
        free(render->capsets[id].data);
    free(render->scratch);
    free(render->node);
    free(render);
}

static struct vg_render *render_new(vg_device *dev, const struct vg_renderer_ops *ops, const char *node)
{
    struct vg_render *render = calloc(1, sizeof(*render));
    if (render == NULL)
        return NULL;
    render->dev = dev;
    render->ops = ops;
    render->events = (struct vg_renderer_events){render, vg_render_fence_done, vg_render_message};
    render->limit_ns = CALL_LIMIT_NS;
    render->park_limit_ns = PARK_LIMIT_NS;
    render->rest_times = REST_TIMES;
    render->longest_rest_ns = LONGEST_REST_NS;
    render->poll_fd = -1;
    render->node = node != NULL ? strdup(node) : NULL;
    init_locks(render);
    vg_fences_init(render);
    if ((node != NULL && render->node == NULL) || open_fds(render) < 0) {
        render_delete(render);
        return NULL;
    }
    return render;
}

static int start_thread(struct vg_render *render)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    int rc = pthread_create(&render->handle, &attributes, vg_render_main, render);
    pthread_attr_destroy(&attributes);
    if (rc == 0)
        pthread_setname_np(render->handle, "render");
    return -rc;
}

/* The device is the starter's alone until the renderer is open. */
static int open_on_thread(struct vg_render *render)
{
    int rc = start_thread(render);
    if (rc < 0) {
        snprintf(render->why, sizeof(render->why), "no thread: %s", strerror(-rc));
        return rc;
    }
    vg_render_lock(render);
    while (render->state == VG_THREAD_STARTING)
        vg_render_wait(render, 0);
    rc = render->open_result;
    vg_render_unlock(render);
    if (rc < 0)
        pthread_join(render->handle, NULL);
    return rc;
}

int vg_render_start(vg_device *dev, const void *ops, const char *render_node, char *why, uint64_t size)
{
    const struct vg_renderer_ops *table = ops;
    if (dev->render != NULL || table->version != VG_RENDERER_VERSION) {
        snprintf(why, size, "%s", dev->render != NULL ? "there is a renderer" : "a renderer of another version");
        return -EINVAL;
    }
    struct vg_render *render = render_new(dev, table, render_node);
    if (render == NULL) {
        snprintf(why, size, "no memory, or no descriptors");
        return -ENOMEM;
    }
    render->paused = true; /* it begins with the first vg_render_resume */
    render->parks = 1;
    int rc = open_on_thread(render);
    if (rc < 0) {
        snprintf(why, size, "%s", render->why);
        render_delete(render);
        return rc;
    }
    dev->render = render;
    vg_short_slices(); /* this thread's: the renderer's own may be many, and each frame of theirs long */
    return 0;
}

void vg_render_stop(vg_device *dev)
{
    struct vg_render *render = dev->render;
    if (render == NULL)
        return;
    vg_render_lock(render);
    uint64_t until = vg_now_ns() + render->park_limit_ns;
    render->stopping = true;
    vg_render_wake(render);
    pthread_cond_broadcast(&render->changed);
    while (render->state != VG_THREAD_ENDED && !render->lost) {
        if (!vg_render_wait(render, until) && render->state != VG_THREAD_ENDED)
            vg_render_lose(render);
    }
    render->lost = true;
    vg_render_unlock(render);
}

/* A thread that never came back, or came back too late to close the renderer, keeps what may be looked at. */
void vg_render_free(struct vg_device *dev)
{
    struct vg_render *render = dev->render;
    if (render == NULL)
        return;
    vg_render_lock(render);
    bool ended = render->state == VG_THREAD_ENDED;
    vg_render_unlock(render);
    dev->render = NULL;
    if (!ended) {
        pthread_detach(render->handle);
        return;
    }
    pthread_join(render->handle, NULL);
    if (render->closed)
        render_delete(render);
}

void vg_render_set_limits(vg_device *dev, uint32_t call_ms, uint32_t park_ms)
{
    VG_ENTER(dev);
    if (dev->render == NULL)
        return;
    dev->render->timer_armed = false; /* the next call arms it anew */
    dev->render->limit_ns = (uint64_t)call_ms * 1000000u;
    dev->render->park_limit_ns = (uint64_t)park_ms * 1000000u;
}

void vg_render_set_rest(vg_device *dev, uint32_t times, uint64_t longest_ns)
{
    VG_ENTER(dev);
    if (dev->render == NULL)
        return;
    dev->render->rest_times = times;
    dev->render->longest_rest_ns = longest_ns;
    dev->render->rest_until = vg_now_ns();
    vg_render_wake(dev->render);
}

/* ---- pausing ---- */

void vg_render_pause(vg_device *dev, int settle)
{
    VG_ENTER(dev);
    struct vg_render *render = dev->render;
    if (render == NULL)
        return;
    vg_render_park(dev, settle ? VG_TASK_SETTLE : 0);
    if (render->paused)
        vg_render_unpark(dev); /* once is enough */
    render->paused = true;
}

void vg_render_resume(vg_device *dev)
{
    VG_ENTER(dev);
    if (dev->render == NULL)
        return;
    if (dev->render->paused)
        vg_render_unpark(dev);
    dev->render->paused = false;
    vg_render_wake(dev->render);
}

/* ---- news ---- */

int vg_render_news_fd(const vg_device *dev)
{
    return dev->render != NULL ? dev->render->news_fd : -1;
}

void vg_render_clear_news(vg_device *dev)
{
    VG_ENTER(dev);
    uint64_t count;
    if (dev->render == NULL)
        return;
    vg_render_check(dev);
    dev->render->told = false;
    if (read(dev->render->news_event_fd, &count, sizeof(count)) < 0)
        return; /* it was the timer */
}

int vg_render_take_request(vg_device *dev, vg_request *out)
{
    VG_ENTER(dev);
    if (dev->render == NULL || dev->render->request_state != VG_REQUEST_OFFERED)
        return 0;
    *out = dev->render->request;
    dev->render->request_state = VG_REQUEST_TAKEN;
    return 1;
}

/* The command that the loop had is done with: the ring goes on. */
void vg_render_request_done(struct vg_device *dev)
{
    if (dev->render == NULL || dev->render->request_state != VG_REQUEST_TAKEN)
        return;
    dev->render->request_state = VG_NO_REQUEST;
    vg_render_wake(dev->render);
}

int vg_render_lost(const vg_device *dev)
{
    VG_ENTER((vg_device *)dev);
    return dev->render != NULL && dev->render->lost;
}

/* ---- capability sets: read at the start, never changed ---- */

static const struct vg_capset *capset_of(const vg_device *dev, uint32_t id)
{
    if (dev->render == NULL || id >= VG_MAX_CAPSET_ID || dev->render->capsets[id].data == NULL)
        return NULL;
    return &dev->render->capsets[id];
}

int vg_render_capset(const vg_device *dev, uint32_t id, uint32_t *version, uint32_t *size)
{
    const struct vg_capset *capset = capset_of(dev, id);
    if (capset == NULL)
        return -ENOENT;
    *version = capset->version;
    *size = capset->size;
    return 0;
}

int vg_render_fill_capset(const vg_device *dev, uint32_t id, void *out)
{
    const struct vg_capset *capset = capset_of(dev, id);
    if (capset == NULL)
        return -ENOENT;
    memcpy(out, capset->data, capset->size);
    return 0;
}
