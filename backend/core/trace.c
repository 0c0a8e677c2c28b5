/*
 * Records of the trace (protocol/trace.py reads them). Each is written at once, whole, so that a trace tells what the
 * session did last even when it dies of it. Chains are told apart by queue and id: what becomes of one follows its TAKEN.
 */
#include <errno.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "vg_internal.h"

#define TAKEN 1    /* value: bytes for the reply; extra: bytes of the request; then its fixed struct, as far as it came */
#define STREAM 2   /* then the stream that the command before it in this queue brought */
#define ANSWERED 3 /* value: type of the response */
#define RETURNED 4 /* value: bytes written; the chain is the guest's again */

struct record {
    uint32_t size; /* with what follows */
    uint16_t kind;
    uint16_t queue;
    uint32_t chain;
    uint32_t value;
    uint64_t extra;
    uint64_t ns; /* CLOCK_MONOTONIC */
};

/* Whatever is not written ends the trace: half a record would hide all that follow. */
static void put(struct vg_trace *trace, struct iovec *parts, int count)
{
    while (count > 0) {
        ssize_t done = writev(trace->fd, parts, count);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0) {
            trace->error = errno;
            trace->on = false;
            return;
        }
        for (; count > 0 && (size_t)done >= parts->iov_len; parts++, count--)
            done -= (ssize_t)parts->iov_len;
        if (count > 0) {
            parts->iov_base = (uint8_t *)parts->iov_base + done;
            parts->iov_len -= (size_t)done;
        }
    }
}

static void add(struct vg_device *dev, const struct vg_queue *queue, struct record *record, const void *data,
                uint64_t size)
{
    record->size = (uint32_t)(sizeof(*record) + size);
    record->queue = (uint16_t)(queue - dev->queues);
    record->ns = vg_now_ns();
    struct iovec parts[] = {
        {.iov_base = record, .iov_len = sizeof(*record)},
        {.iov_base = (void *)(uintptr_t)data, .iov_len = size},
    };
    put(&dev->trace, parts, size > 0 ? 2 : 1);
}

void vg_trace_write_taken(struct vg_device *dev, const struct vg_queue *queue, const union vg_request_data *data)
{
    const struct vg_walk *walk = &queue->walk;
    struct record record = {
        .kind = TAKEN,
        .chain = walk->popped.id,
        .value = walk->writable > UINT32_MAX ? UINT32_MAX : (uint32_t)walk->writable,
        .extra = walk->readable,
    };
    add(dev, queue, &record, data, walk->readable < sizeof(*data) ? walk->readable : sizeof(*data));
}

void vg_trace_write_stream(struct vg_device *dev, const struct vg_queue *queue, const void *data, uint64_t size)
{
    struct record record = {.kind = STREAM, .chain = queue->walk.popped.id};
    add(dev, queue, &record, data, size);
}

void vg_trace_write_answered(struct vg_device *dev, const struct vg_queue *queue, const struct vg_popped *popped,
                             uint32_t type)
{
    struct record record = {.kind = ANSWERED, .chain = popped->id, .value = type};
    add(dev, queue, &record, NULL, 0);
}

void vg_trace_write_returned(struct vg_device *dev, const struct vg_queue *queue, const struct vg_popped *popped,
                             uint32_t written)
{
    struct record record = {.kind = RETURNED, .chain = popped->id, .value = written};
    add(dev, queue, &record, NULL, 0);
}

void vg_trace_start(vg_device *dev, int fd)
{
    VG_ENTER(dev);
    dev->trace = (struct vg_trace){.on = true, .fd = fd};
}

int vg_trace_stop(vg_device *dev)
{
    VG_ENTER(dev);
    dev->trace.on = false;
    return dev->trace.error;
}
