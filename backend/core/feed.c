/*
 * A viewer's frames: what is told for each of them, over and over, is read and sent here (docs/architecture.md, "Viewer
 * protocol"). All that comes once (modes, images, cursors, the end) is the caller's to say.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>

#include "vg_internal.h"

#define TYPE_FRAME_DONE 2u
#define TYPE_FRAME 21u

/* Little endian on the wire, as the host is. */
struct header {
    uint32_t type, size;
};

struct frame_done {
    struct header header;
    uint32_t scanout, padding;
    uint64_t sequence;
};

struct frame {
    struct header header;
    uint32_t scanout, format;
    uint64_t generation, sequence, flush_ns, image;
    uint32_t x, y, skipped, count;
    vg_rect damage[VG_MAX_RECTS];
};

#define FRAME_HEAD offsetof(struct frame, damage)

_Static_assert(sizeof(struct frame_done) == 24 && FRAME_HEAD == 64, "as on the wire");
_Static_assert(sizeof(struct frame) <= VG_FEED_PACKET, "a packet");

static bool is_known(const vg_feed *feed, uint64_t image)
{
    return feed->known[image % VG_FEED_KNOWN] == image;
}

/* What is to be done for the newest frame; VG_FEED_SENT: it is to be sent, and its image is held. */
static int begin(vg_device *dev, vg_feed *feed, uint32_t scanout, vg_frame *frame)
{
    VG_ENTER(dev);
    vg_feed_scanout *s = &feed->scanouts[scanout];
    *frame = dev->scanouts[scanout].frame;
    if (frame->generation != s->generation)
        return VG_FEED_MODE;
    if (s->held)
        return VG_FEED_DONE; /* the newest goes out when the last one was answered */
    if (frame->resource_id == 0 || (frame->sequence == s->sequence && s->damage.count == 0)) {
        s->dirty = 0;
        return VG_FEED_DONE;
    }
    if (!is_known(feed, frame->image))
        return VG_FEED_IMAGE;
    dev->scanouts[scanout].image->holds++;
    return VG_FEED_SENT;
}

static size_t encode(const vg_feed_scanout *s, uint32_t scanout, const vg_frame *frame, struct frame *out)
{
    size_t size = FRAME_HEAD + s->damage.count * sizeof(vg_rect);
    *out = (struct frame){
        .header = {TYPE_FRAME, (uint32_t)(size - sizeof(struct header))},
        .scanout = scanout,
        .format = frame->format,
        .generation = frame->generation,
        .sequence = frame->sequence,
        .flush_ns = frame->flush_ns,
        .image = frame->image,
        .x = frame->x,
        .y = frame->y,
        .skipped = s->skipped,
        .count = s->damage.count,
    };
    memcpy(out->damage, s->damage.rects, s->damage.count * sizeof(vg_rect));
    return size;
}

static void note_sent(vg_feed_scanout *s, const vg_frame *frame)
{
    s->damage.count = 0;
    s->held = frame->image;
    s->held_since = vg_now_ns();
    s->sequence = frame->sequence;
    s->dirty = 0;
    s->skipped = 0;
}

int vg_feed_send(vg_device *dev, vg_feed *feed, uint32_t scanout)
{
    vg_feed_scanout *s = &feed->scanouts[scanout];
    struct frame packet;
    vg_frame frame;
    int next, error;

    if (!s->dirty)
        return VG_FEED_DONE;
    next = begin(dev, feed, scanout, &frame);
    if (next != VG_FEED_SENT)
        return next;
    if (send(feed->socket, &packet, encode(s, scanout, &frame, &packet), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        error = errno == EINTR ? EAGAIN : errno;
        vg_image_release(dev, frame.image);
        return -error;
    }
    note_sent(s, &frame);
    return VG_FEED_SENT;
}

int vg_feed_add(vg_device *dev, vg_feed *feed, uint32_t scanout, const vg_region *damage)
{
    vg_feed_scanout *s = &feed->scanouts[scanout];

    /* Frames are counted here, not by sequence numbers: a guest may flush one picture in many rectangles. */
    if (s->dirty && s->sequence != 0 && s->skipped != UINT32_MAX)
        s->skipped++;
    s->dirty = 1;
    vg_region_add(&s->damage, damage->rects, damage->count);
    return vg_feed_send(dev, feed, scanout);
}

static bool has_news(vg_device *dev)
{
    VG_ENTER(dev);
    return dev->dirty != 0 || dev->images.num_retired != 0;
}

/* The damage of a frame that waited for this image, and is out now, is the caller's to tell first. */
static int answered(vg_device *dev, vg_feed *feed, uint32_t scanout, uint64_t sequence)
{
    vg_feed_scanout *s = &feed->scanouts[scanout];

    if (!s->held || sequence < s->sequence)
        return VG_FEED_DONE;
    vg_image_release(dev, s->held);
    s->held = 0;
    return has_news(dev) ? VG_FEED_NEWS : vg_feed_send(dev, feed, scanout);
}

int vg_feed_read(vg_device *dev, vg_feed *feed, void *packet, uint32_t *size)
{
    ssize_t got = recv(feed->socket, packet, VG_FEED_PACKET, MSG_DONTWAIT);
    struct frame_done done;

    if (got < 0)
        return errno == EAGAIN || errno == EINTR ? VG_FEED_DONE : -errno;
    *size = (uint32_t)got;
    if (got != sizeof(done))
        return VG_FEED_OTHER;
    memcpy(&done, packet, sizeof(done));
    if (done.header.type != TYPE_FRAME_DONE || done.header.size != sizeof(done) - sizeof(done.header) ||
        done.scanout >= feed->num_scanouts)
        return VG_FEED_OTHER;
    return answered(dev, feed, done.scanout, done.sequence);
}
