/*
 * Bounded polling: while commands keep coming, the ring is looked at for a moment longer before notifications are
 * turned on and the loop sleeps. The guest saves its kick and the device its wake-up, which is what a short command's
 * round trip mostly costs. (After a fence the ring has asked for a kick already: only the wake-up is saved.)
 *
 * Only commands that came soon start it: one after another, or after the last fence that the guest waited for. Each time
 * that none came in time it is tried less often, so that a guest with a few commands a frame, or none, costs next to
 * nothing.
 */
#include <time.h>

#include "vg_internal.h"

#define EAGER_FROM 4     /* kicks in a row that came soon */
#define MOST_RELUCTANT 256
#define MAX_POLL_US 50u
#define SOON 4u          /* times the polling time: kick and wake-up, which polling would save, are in it */

uint64_t vg_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void vg_set_poll_us(vg_device *dev, uint32_t poll_us)
{
    VG_ENTER(dev);
    dev->poll_ns = (poll_us < MAX_POLL_US ? poll_us : MAX_POLL_US) * 1000u;
}

void vg_poll_kicked(struct vg_device *dev, struct vg_queue *queue)
{
    if (dev->poll_ns == 0)
        return;
    int soon = vg_now_ns() - queue->idle_since <= SOON * dev->poll_ns;
    if (soon && queue->eager < EAGER_FROM)
        queue->eager++;
    else if (!soon && queue->eager > 0)
        queue->eager = 0;
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

/* The render thread looks after fences meanwhile, and lets others in. */
static int goes_on(struct vg_device *dev)
{
    return dev->render == NULL || !vg_render_usable(dev) || vg_render_ring_empty(dev->render);
}

int vg_poll_ring(struct vg_device *dev, struct vg_queue *queue)
{
    if (queue == &dev->queues[VG_QUEUE_CONTROL] && !goes_on(dev))
        return 0;
    if (dev->render != NULL && dev->render->pending > 0)
        return 0; /* what keeps the guest waiting is not its own next command, and the renderer wants the CPU */
    if (queue->eager < EAGER_FROM || dev->poll_ns == 0 || queue != &dev->queues[VG_QUEUE_CONTROL])
        return 0;
    if (vg_ring_disarm(dev, queue) < 0 || vg_ring_publish(dev, queue) < 0)
        return -1;
    vg_ring_notify(dev, queue);
    queue->polls++;
    for (uint64_t start = vg_now_ns(); vg_now_ns() - start < dev->poll_ns; relax()) {
        int found = vg_ring_peek(dev, queue);
        if (found != 0) {
            queue->reluctance = 0;
            return found;
        }
        if (!goes_on(dev))
            return 0;
        vg_poll_cursor(dev);
    }
    queue->reluctance = queue->reluctance * 2 < MOST_RELUCTANT ? queue->reluctance * 2 + 1 : MOST_RELUCTANT;
    queue->eager = EAGER_FROM - queue->reluctance;
    return 0;
}
