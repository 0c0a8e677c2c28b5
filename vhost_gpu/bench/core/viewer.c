/* A viewer that looks at no pixel: it answers frames as its mode says (docs/architecture.md, "Viewer protocol"). */
#define _GNU_SOURCE
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "clock.h"
#include "vb_loop.h"

#define MAX_PACKET 1024
#define TYPE_FRAME_DONE 2u
#define TYPE_ERROR 17u
#define TYPE_FRAME 21u
#define ADD(field, number) __atomic_fetch_add(&(field), (number), __ATOMIC_RELAXED)

typedef struct {
    uint32_t type, size, scanout, format;
    uint64_t generation, sequence, flush_ns, image;
    uint32_t x, y, skipped, count;
    uint32_t rects[32][4];
} frame;

typedef struct {
    uint32_t type, size, scanout, pad;
    uint64_t sequence;
} frame_done;

static void count_frame(vb_viewer *viewer, const frame *f)
{
    uint64_t pixels = 0;

    for (uint32_t i = 0; i < f->count && i < 32; i++)
        pixels += (uint64_t)f->rects[i][2] * f->rects[i][3];
    ADD(viewer->damage_pixels, pixels);
    ADD(viewer->skipped, f->skipped);
    ADD(viewer->latency_ns, vb_now() - f->flush_ns);
    ADD(viewer->frames, 1);
}

/* Sleeps until the next multiple of the interval; a packet that comes meanwhile waits (the daemon sends no other frame). */
static void pace(const vb_viewer *viewer)
{
    uint64_t left = viewer->interval_ns - vb_now() % viewer->interval_ns;
    struct timespec time = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};

    nanosleep(&time, NULL);
}

static bool answer_frame(vb_viewer *viewer, const frame *f)
{
    frame_done done = {.type = TYPE_FRAME_DONE, .size = sizeof(done) - 8, .scanout = f->scanout, .sequence = f->sequence};

    if (viewer->mode == VB_VIEWER_STALLED)
        return true;
    if (viewer->mode == VB_VIEWER_PACED)
        pace(viewer);
    return send(viewer->fd, &done, sizeof(done), MSG_NOSIGNAL) == (ssize_t)sizeof(done);
}

int vb_viewer_run(vb_viewer *viewer)
{
    union {
        uint8_t bytes[MAX_PACKET];
        frame frame;
    } packet;
    ssize_t size;

    /* recv without room for descriptors: the kernel drops those of images, which nobody maps here. */
    while ((size = recv(viewer->fd, packet.bytes, sizeof(packet.bytes), 0)) > 0) {
        if (packet.frame.type == TYPE_ERROR)
            ADD(viewer->errors, 1);
        if (packet.frame.type != TYPE_FRAME)
            continue;
        count_frame(viewer, &packet.frame);
        if (!answer_frame(viewer, &packet.frame))
            break;
    }
    return 0;
}
