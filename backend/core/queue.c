/* What the VMM sets on a queue, its eventfds, starting and stopping it, describing it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "vg_internal.h"

int vg_queues_init(struct vg_device *dev)
{
    dev->draining = -1;
    for (int i = 0; i < VG_NUM_QUEUES; i++) {
        struct vg_queue *queue = &dev->queues[i];
        queue->kick_fd = queue->call_fd = queue->err_fd = -1;
        queue->fresh = 1;
        if (vg_walk_grow(&queue->walk) < 0) {
            vg_queues_free(dev);
            return -ENOMEM;
        }
    }
    return 0;
}

void vg_queues_free(struct vg_device *dev)
{
    for (int i = 0; i < VG_NUM_QUEUES; i++) {
        vg_chains_free_all(dev, &dev->queues[i]);
        free(dev->queues[i].walk.segments);
    }
}

static struct vg_queue *queue_at(vg_device *dev, uint32_t queue)
{
    return queue < VG_NUM_QUEUES ? &dev->queues[queue] : NULL;
}

/* The render thread rests while its queue is set up; the cursor queue is the caller's anyway. */
static struct vg_device *park_control(struct vg_device *dev, uint32_t index)
{
    if (dev->render == NULL || index != VG_QUEUE_CONTROL)
        return NULL;
    vg_render_park(dev, 0);
    return dev;
}

static void leave_control(struct vg_device **dev)
{
    if (*dev != NULL && (*dev)->render != NULL)
        vg_render_unpark(*dev);
}

#define VG_ENTER_QUEUE(dev, index)                                                                                      \
    VG_ENTER(dev);                                                                                                      \
    __attribute__((cleanup(leave_control), unused)) struct vg_device *parked = park_control(dev, index)

/* ---- ring layout ---- */

/* The guest's ring may have been laid out anew: nothing that was learned from it holds, what is in flight is forgotten. */
static void begin_at(struct vg_queue *queue, uint32_t base)
{
    queue->base = base;
    queue->fresh = 1;
    queue->generation = 0;
    queue->epoch++;
    queue->signalled_valid = 0;
    queue->unsignalled = 0;
    queue->inflight = 0;
    queue->armed = 1;
    vg_order_begin(&queue->order);
}

int vg_queue_set_num(vg_device *dev, uint32_t index, uint32_t num)
{
    VG_ENTER_QUEUE(dev, index);
    struct vg_queue *queue = queue_at(dev, index);
    if (queue == NULL || num == 0 || num > VG_MAX_QUEUE_SIZE)
        return -EINVAL;
    if (queue->num != num) /* else a packed ring's place could lie outside it */
        begin_at(queue, vg_ring_base(queue));
    queue->num = num;
    queue->generation = 0;
    return 0;
}

int vg_queue_set_addr(vg_device *dev, uint32_t index, uint64_t desc, uint64_t avail, uint64_t used)
{
    VG_ENTER_QUEUE(dev, index);
    struct vg_queue *queue = queue_at(dev, index);
    if (queue == NULL || desc % VRING_DESC_ALIGN_SIZE || avail % VRING_AVAIL_ALIGN_SIZE || used % VRING_USED_ALIGN_SIZE)
        return -EINVAL;
    queue->desc_uva = desc;
    queue->avail_uva = avail;
    queue->used_uva = used;
    queue->generation = 0;
    return 0;
}

int vg_queue_set_base(vg_device *dev, uint32_t index, uint32_t base)
{
    VG_ENTER_QUEUE(dev, index);
    struct vg_queue *queue = queue_at(dev, index);
    if (queue == NULL)
        return -EINVAL;
    begin_at(queue, base);
    return 0;
}

int vg_queue_get_base(vg_device *dev, uint32_t index, uint32_t *base)
{
    VG_ENTER(dev);
    struct vg_queue *queue = queue_at(dev, index);
    if (queue == NULL)
        return -EINVAL;
    *base = vg_ring_base(queue);
    return 0;
}

/* ---- eventfds ---- */

/* Their file status flags are shared with the VMM, which may wait on the other end: never changed here. */
static int blocks(int fd)
{
    int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    return flags >= 0 && !(flags & O_NONBLOCK);
}

int vg_queue_set_kick(vg_device *dev, uint32_t index, int fd)
{
    VG_ENTER_QUEUE(dev, index);
    struct vg_queue *queue = queue_at(dev, index);
    if (queue == NULL)
        return -EINVAL;
    queue->kick_fd = fd;
    queue->kick_blocks = blocks(fd);
    queue->armed = 1; /* this eventfd has not been read yet */
    return 0;
}

int vg_queue_set_call(vg_device *dev, uint32_t index, int fd)
{
    VG_ENTER(dev);
    struct vg_queue *queue = queue_at(dev, index);
    if (queue == NULL)
        return -EINVAL;
    queue->call_fd = fd;
    queue->call_blocks = blocks(fd);
    return 0;
}

int vg_queue_set_err(vg_device *dev, uint32_t index, int fd)
{
    VG_ENTER(dev);
    struct vg_queue *queue = queue_at(dev, index);
    if (queue == NULL)
        return -EINVAL;
    queue->err_fd = fd;
    return 0;
}

static int would_block(int fd, short events)
{
    struct pollfd one = {.fd = fd, .events = events};
    return poll(&one, 1, 0) != 1 || !(one.revents & events);
}

static int signal_eventfd(int fd, int may_block)
{
    const uint64_t one = 1;
    if (fd < 0 || (may_block && would_block(fd, POLLOUT)))
        return 0;
    return write(fd, &one, sizeof(one)) == (ssize_t)sizeof(one);
}

bool vg_queue_clear_kick(struct vg_queue *queue)
{
    uint64_t count;
    if (queue->kick_fd < 0 || (queue->kick_blocks && would_block(queue->kick_fd, POLLIN)))
        return false;
    return read(queue->kick_fd, &count, sizeof(count)) > 0; /* else an earlier drain took it, or none came */
}

void vg_queue_call(struct vg_queue *queue)
{
    if (queue->call_fd >= 0) {
        signal_eventfd(queue->call_fd, queue->call_blocks);
        queue->notified++;
    }
}

/* ---- state ---- */

void vg_queue_break(struct vg_queue *queue, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(queue->reason, sizeof(queue->reason), format, arguments);
    va_end(arguments);
    queue->broken = queue->report_broken = 1;
    signal_eventfd(queue->err_fd, blocks(queue->err_fd));
}

int vg_queue_set_started(vg_device *dev, uint32_t index, int started)
{
    VG_ENTER_QUEUE(dev, index);
    struct vg_queue *queue = queue_at(dev, index);
    if (queue == NULL)
        return -EINVAL;
    if (started && queue->started && !queue->broken)
        return 0;
    queue->started = started != 0;
    queue->epoch++;
    if (started) {
        queue->broken = queue->report_broken = 0;
        queue->reason[0] = '\0';
        begin_at(queue, vg_ring_base(queue));
    }
    return 0;
}

int vg_queue_set_enabled(vg_device *dev, uint32_t index, int enabled)
{
    VG_ENTER_QUEUE(dev, index);
    struct vg_queue *queue = queue_at(dev, index);
    if (queue == NULL)
        return -EINVAL;
    queue->enabled = enabled != 0;
    return 0;
}

int vg_queue_describe(vg_device *dev, uint32_t index, vg_queue_info *out)
{
    VG_ENTER(dev);
    const struct vg_queue *queue = queue_at(dev, index);
    if (queue == NULL)
        return -EINVAL;
    *out = (vg_queue_info){
        .num = queue->num,
        .desc = queue->desc_uva,
        .avail = queue->avail_uva,
        .used = queue->used_uva,
        .base = vg_ring_base(queue),
        .used_idx = queue->used_idx,
        .packed = queue->packed,
        .in_order = queue->in_order,
        .started = queue->started,
        .enabled = queue->enabled,
        .broken = queue->broken,
        .completed = queue->completed,
        .notified = queue->notified,
        .polls = queue->polls,
    };
    snprintf(out->reason, sizeof(out->reason), "%s", queue->reason);
    return 0;
}
