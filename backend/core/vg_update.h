/*
 * Pictures as messages for the VMM's display (update.c).
 */
#ifndef VG_UPDATE_H
#define VG_UPDATE_H

#include <stdbool.h>
#include <stdint.h>

#include "vg_api.h"

struct vg_device;

#define VG_UPDATE_HEADER 32u
/* Pixels of a message: a screen of 7680x4320 is one yet. VMMs count bytes in 32 bits, and read all of a message at a time. */
#define VG_UPDATE_MOST (128u << 20)

/* What is to be sent of an image. It is somebody's to hold it until all is sent, and has been read. */
struct vg_picture {
    int file;
    const uint8_t *map;
    uint32_t stride, format;
    uint32_t scanout, x, y; /* of the scanout in the image */
    vg_region damage;       /* of the scanout; what is left of it from next on */
    uint32_t next;
    uint32_t begun; /* rows of the next one that are missing of a message whose header is made */
};

/* A part of the messages, which are one for each rectangle (of VG_UPDATE_MOST at most): bytes, and after them so many of
   the picture's file that are named only. */
struct vg_update {
    const uint8_t *data;
    uint64_t size;
    uint64_t offset, named;
    bool continues;   /* its first bytes belong to a message that was begun before */
    uint64_t missing; /* bytes of its last message that are in no part yet */
};

/* The next one, made in buffer (VG_UPDATE_BUFFER bytes). False: all are made. */
bool vg_picture_next(struct vg_picture *picture, uint8_t *buffer, struct vg_update *out);
/* What is missing of a message that was begun, as bytes. */
void vg_picture_end_message(struct vg_picture *picture, uint8_t *out);
/* The part of damage inside the place. Returns how many pixels that are; -ENOENT, -EINVAL: no such image, or place. */
int64_t vg_picture_of(struct vg_device *dev, uint64_t image, const vg_place *place, const vg_region *damage,
                      struct vg_picture *out);

#endif
