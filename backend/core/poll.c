/*
 * Bounded polling: while commands keep coming, the ring is looked at for a moment longer before notifications are
 * turned on and the loop sleeps. The guest saves its kick and the device its wake-up, which is what a short command's
 * round trip mostly costs.
 *
 * Only commands that came soon one after another start it, and one that did not come in time ends it, so that a guest
 * with a few commands a frame, or none, costs nothing.
 */
#include <time.h>

#include "vg_internal.h"

#define EAGER_FROM 4u /* commands in a row that came within the polling time */
#define MAX_POLL_US 50u

uint64_t vg_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void vg_set_poll_us(vg_device *dev, uint32_t poll_us)
{
    dev->poll_ns = (poll_us < MAX_POLL_US ? poll_us : MAX_POLL_US) * 1000u;
}

void vg_poll_kicked(struct vg_device *dev, struct vg_queue *queue)
{
    if (dev->poll_ns == 0)
        return;
    if (vg_now_ns() - queue->idle_since > dev->poll_ns)
        queue->eager = 0;
    else if (queue->eager < EAGER_FROM)
        queue->eager++;
}

void vg_poll_idle(struct vg_device *dev, struct vg_queue *queue)
{
    if (dev->poll_ns != 0)
        queue->idle_since = vg_now_ns();
}

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

int vg_poll_ring(struct vg_device *dev, struct vg_queue *queue)
{
    if (queue->eager < EAGER_FROM || dev->poll_ns == 0 || queue != &dev->queues[VG_QUEUE_CONTROL])
        return 0;
    if (vg_ring_publish(dev, queue) < 0)
        return -1;
    vg_ring_notify(dev, queue);
    for (uint64_t start = vg_now_ns(); vg_now_ns() - start < dev->poll_ns; relax()) {
        int found = vg_ring_peek(dev, queue);
        if (found != 0)
            return found;
        vg_poll_cursor(dev);
    }
    queue->eager = 0;
    return 0;
}
