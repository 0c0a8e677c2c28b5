/*
 * Images: sealed memfds with a whole resource's pixels (image.c).
 *
 * The current image of a resource holds its newest content. An image is busy while a scanout shows it or a sink holds
 * it, and a busy image never changes. Invariant: whenever current is busy, the resource has another image that is not,
 * so that the next write can move there at once. Publishing (scanout.c) and reclaiming keep it true.
 */
#ifndef VG_IMAGE_H
#define VG_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vg_api.h"
#include "vg_rects.h"

struct vg_device;
struct vg_resource;

#define VG_IMAGE_BUCKETS 256u
/* Descriptors that one device may have open for images. */
#define VG_MAX_IMAGES 256u
/* What an image costs beside its pixels: inode, mapping, descriptor. */
#define VG_IMAGE_OVERHEAD 4096u
#define VG_MAX_STALE ((uint32_t)VG_MAX_RECTS)

struct vg_image {
    uint64_t id;
    struct vg_resource *resource; /* NULL: the resource is gone, the image lives on while it is busy */
    struct vg_image *next;        /* of the same bucket */
    int fd;
    uint32_t width, height, stride, format;
    uint64_t size, charged;
    uint8_t *map;
    bool pinned;                  /* the renderer writes to it */
    uint32_t holds;               /* by sinks */
    uint32_t shown;               /* by scanouts */
    vg_region stale;        /* where it differs from the resource's current image */
};

struct vg_images {
    struct vg_image *buckets[VG_IMAGE_BUCKETS];
    uint64_t last_id;
    uint32_t live;
    uint64_t *retired;            /* room for every live image beside those that are in */
    size_t num_retired, room;
    struct vg_resource *oldest, *newest; /* resources that own images */
};

static inline bool vg_image_busy(const struct vg_image *image)
{
    return image->holds != 0 || image->shown != 0;
}

/* NULL: there is none. */
struct vg_image *vg_image_find(struct vg_device *dev, uint64_t id);
/* Makes a resource showable: its pixels in an image, and a second image for the write after. 0 or a negative errno. */
int vg_images_prepare(struct vg_device *dev, struct vg_resource *res);
/* One more image for the resource, not current. 0 or a negative errno (-ENOSPC: it has all it may have). */
int vg_images_add(struct vg_device *dev, struct vg_resource *res);
/* Makes res->pixels writable for a write to rect: moves off a busy image, notes what the others miss. 0 or -ENOMEM. */
int vg_images_begin_write(struct vg_device *dev, struct vg_resource *res, vg_rect rect);
/* The resource ends: its images are freed, or live on while they are busy. */
void vg_images_orphan(struct vg_device *dev, struct vg_resource *res);
/* Frees one image that nobody needs. False when there is none. */
bool vg_images_reclaim(struct vg_device *dev);
/* The resource has just left, or come to, a scanout: it is the last to be moved back to private memory. */
void vg_images_touch(struct vg_device *dev, struct vg_resource *res);
/* A scanout shows, or no longer shows, the image. */
void vg_image_show(struct vg_image *image);
void vg_image_unshow(struct vg_device *dev, struct vg_image *image);

#endif
