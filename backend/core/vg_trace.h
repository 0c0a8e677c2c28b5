/*
 * The trace: what happens to each command, written to a file as it happens (trace.c). Off, it costs a look at a flag.
 */
#ifndef VG_TRACE_H
#define VG_TRACE_H

#include <stdbool.h>
#include <stdint.h>

struct vg_device;
struct vg_queue;
struct vg_popped;
union vg_request_data;

struct vg_trace {
    bool on;
    int fd;    /* the caller's; valid while on */
    int error; /* errno of the write that ended the trace, or 0 */
};

void vg_trace_write_taken(struct vg_device *dev, const struct vg_queue *queue, const union vg_request_data *data);
void vg_trace_write_stream(struct vg_device *dev, const struct vg_queue *queue, const void *data, uint64_t size);
void vg_trace_write_answered(struct vg_device *dev, const struct vg_queue *queue, const struct vg_popped *popped,
                             uint32_t type);
void vg_trace_write_returned(struct vg_device *dev, const struct vg_queue *queue, const struct vg_popped *popped,
                             uint32_t written);

/* VG_TRACE(dev, taken, queue, data): writes a record, when there is a trace. */
#define VG_TRACE(dev, what, ...)                                                                                        \
    do {                                                                                                                \
        if (__builtin_expect((dev)->trace.on, 0))                                                                       \
            vg_trace_write_##what(dev, __VA_ARGS__);                                                                    \
    } while (0)

#endif
