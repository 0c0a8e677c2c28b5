/*
 * Scanouts (scanout.c): what the guest asked for, and what is published of it; cursors (cursor.c).
 */
#ifndef VG_SCANOUT_H
#define VG_SCANOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "vg_api.h"
#include "vg_rects.h"

struct vg_device;
struct vg_image;
struct vg_resource;

struct vg_scanout {
    /* The guest's wish. */
    struct vg_resource *resource; /* NULL: off */
    vg_rect rect;                 /* in the resource */
    bool pending;                 /* flushed, and not published yet */
    uint64_t pending_ns;          /* when it was flushed */
    vg_region pending_damage;
    bool unread;                  /* rect of resource, a blob's view, is yet to be read from guest memory */
    /* What is published; may lag behind the wish while sinks hold every image. */
    vg_frame frame;
    struct vg_image *image;       /* of frame */
    vg_region damage;       /* not taken yet */
};

/* A picture that the render thread is to read. */
struct vg_cursor_wish {
    uint32_t resource_id; /* 0: none */
    uint32_t hot_x, hot_y;
    bool hidden;
    uint64_t serial;      /* grows with every UPDATE_CURSOR */
};

struct vg_cursor_state {
    vg_cursor cursor;
    bool has_picture;
    struct vg_cursor_wish wish;
};

/* Publishes flushes that waited for an image, where no write came after them. */
void vg_scanouts_publish_waiting(struct vg_device *dev);
/* SET_SCANOUT's last step: the scanout asks for the resource, whose images are prepared. */
void vg_scanout_point(struct vg_device *dev, uint32_t scanout, struct vg_resource *res, vg_rect rect);
/* RESOURCE_FLUSH's last step: shows what has changed in the rectangle. */
void vg_scanouts_flush(struct vg_device *dev, struct vg_resource *res, vg_rect rect);
/* Scanouts that ask for the resource, a bit each. */
uint32_t vg_scanouts_of(const struct vg_device *dev, const struct vg_resource *res);
/* The resource ends: scanouts that show it are cleared. */
void vg_scanouts_forget(struct vg_device *dev, struct vg_resource *res);

/* cursor.c */
void vg_cursors_reset(struct vg_device *dev);
/* The picture that was wished for: 64 x 64 pixels of this format. */
void vg_cursor_show(struct vg_device *dev, uint32_t scanout, const uint8_t *pixels, uint32_t format);

#endif
