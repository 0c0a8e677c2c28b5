/*
 * The byte budget (budget.c), the table of 2D resources with their backing (resource.c), transfers (transfer.c) and
 * pixel formats (convert.c).
 */
#ifndef VG_RESOURCE_H
#define VG_RESOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "vg_api.h"
#include "vg_rects.h"

struct vg_device;
struct vg_image;

/* Everything a guest can make us hold, in bytes. */
struct vg_budget {
    uint64_t limit;
    uint64_t used;
};

#define VG_PIXEL_BYTES 4u
#define VG_RESOURCE_IMAGES 4
/* What a resource costs beside its pixels (table, allocator), charged so that tiny ones can't exhaust the host. */
#define VG_RESOURCE_OVERHEAD 2048u
/* What one backing entry costs: address and length, running end, host address. */
#define VG_ENTRY_OVERHEAD 32u
/* Longest piece copied before the cursor queue is looked at. */
#define VG_COPY_PIECE (256u * 1024u)

/* Guest memory behind a resource. Pieces are kept as guest-physical addresses; host addresses are looked up again
   whenever the memory table changed. */
struct vg_backing {
    uint32_t nr_entries;      /* 0: nothing is attached */
    uint32_t hint;            /* piece found last: the search for the next row begins there */
    uint64_t total;           /* bytes of all pieces */
    uint64_t *entries;        /* nr_entries pairs (guest-physical address, length) */
    uint64_t *ends;           /* ends[i]: bytes of the pieces 0..i */
    uint8_t **hosts;          /* host address of piece i; NULL: split over regions, or outside memory */
    uint64_t generation;      /* of the memory table that hosts was made for */
    bool lost;                /* a piece lies, partly at least, outside memory now */
    uint64_t charged;
};

struct vg_resource {
    uint32_t id, format, width, height, stride;
    uint64_t size;            /* stride * height */
    uint8_t *pixels;          /* present content: own memory, or the map of current */
    uint64_t charged;         /* for the struct and own memory; images charge for themselves */
    bool own_memory;          /* pixels is private memory: never on a scanout, or moved back */
    bool written;             /* any transfer since creation: else every byte is zero */
    bool written_since_flush; /* current holds what the guest has not flushed yet */
    struct vg_backing backing;
    struct vg_image *current; /* NULL while own_memory */
    struct vg_image *images[VG_RESOURCE_IMAGES];
    uint32_t num_images;
    /* With a renderer (render_resources.c). host3d: the pixels live there, and pixels is the map of current, or NULL. */
    bool host3d;
    bool pinned;              /* the renderer works on pixels, without the lock */
    bool has_uuid;
    uint8_t uuid[16];
    uint64_t contexts;        /* that it is attached to, a bit each */
    struct iovec *iov;        /* what the renderer has of backing; NULL: nothing */
    uint64_t iov_charged;
    uint64_t read_content;    /* as of then, read_rect of current is the renderer's pixels */
    vg_rect read_rect;
    vg_rect owed;             /* flushed, and not read back yet (readback.c) */
    /* Blobs (blob.c), which have no pixels, and views of them, whose pixels are in images alone, read from the blob's
       backing. Views are in no table. */
    uint64_t blob_size;        /* of a blob, in bytes; else 0 */
    struct vg_resource *views; /* of a blob, linked by next */
    struct vg_resource *blob;  /* of a view; else NULL */
    vg_blob_picture picture;   /* of a view */
    struct vg_resource *next; /* of the same bucket */
    struct vg_resource *older, *newer; /* among the resources that own images: least recently shown first */
};

struct vg_resources {
    struct vg_resource **buckets;
    uint32_t bucket_bits;
    uint32_t count;
    uint64_t multiplier;      /* random and odd, so that a guest can't aim for one bucket */
    uint32_t *order;          /* ids in ascending order, made when asked for */
    uint32_t num_order;
    bool order_valid;
};

/* Blobs: what the drain has yet to see to. */
struct vg_blobs {
    bool unread;     /* a scanout's picture is yet to be read from guest memory */
    uint64_t copied; /* pixels since last asked: what the command at hand took */
};

struct vg_resource *vg_resource_find(struct vg_device *dev, uint32_t id);
void vg_resource_insert(struct vg_device *dev, struct vg_resource *res);
/* Every resource, in no order, until visit returns something else than 0; visit adds and removes none. */
int vg_resources_each(struct vg_device *dev, int (*visit)(struct vg_device *, struct vg_resource *, void *), void *arg);
/* Its pixels, and the image they are in, are not freed and not moved until it is unpinned. */
void vg_resource_pin(struct vg_resource *res);
void vg_resource_unpin(struct vg_resource *res);

/* Zeroed memory that costs nothing until it is touched; NULL when there is none. */
uint8_t *vg_pixels_alloc(uint64_t size);
void vg_pixels_free(uint8_t *pixels, uint64_t size);

/* transfer.c */
int vg_backing_attach(struct vg_device *dev, struct vg_backing *backing, const uint8_t *entries, uint32_t nr_entries);
void vg_backing_detach(struct vg_device *dev, struct vg_backing *backing);
/* Whether all of it lies in guest memory now: to be asked before it is read. */
bool vg_backing_ready(struct vg_device *dev, struct vg_backing *backing);
/* Rows of a backing on their way to memory of ours; the caller has checked that they lie in both. */
struct vg_rows {
    uint8_t *dst;
    uint64_t offset; /* of the first row in the backing */
    uint32_t dst_stride, src_stride;
    uint64_t bytes;  /* of a row */
    uint32_t count;
};
void vg_backing_read(struct vg_device *dev, struct vg_backing *backing, struct vg_rows rows);
/* Copies rect between two buffers of the same geometry, pausing for the cursor. */
void vg_copy_rect(struct vg_device *dev, uint8_t *dst, const uint8_t *src, uint32_t stride, vg_rect rect);

/* blob.c: the commands as they come from a ring (the entries are in the walk at hand), responses */
struct virtio_gpu_resource_create_blob;
struct virtio_gpu_set_scanout_blob;
uint32_t vg_blob_create(struct vg_device *dev, const struct virtio_gpu_resource_create_blob *command);
uint32_t vg_blob_set_scanout(struct vg_device *dev, const struct virtio_gpu_set_scanout_blob *command);
uint32_t vg_blob_no_map(struct vg_device *dev, uint32_t id); /* MAP_BLOB, UNMAP_BLOB */
/* RESOURCE_FLUSH of a blob. */
uint32_t vg_blob_flush(struct vg_device *dev, struct vg_resource *blob, vg_rect rect);
/* Reads the pictures that SET_SCANOUT_BLOB has put on scanouts and no flush came for. */
void vg_blobs_catch_up(struct vg_device *dev);
/* Its first VG_CURSOR_SIDE squared pixels, which Linux has in this format. */
#define VG_BLOB_CURSOR_FORMAT 1u /* B8G8R8A8_UNORM */
uint32_t vg_blob_read_cursor(struct vg_device *dev, struct vg_resource *blob, uint8_t *pixels);
void vg_blob_free_views(struct vg_device *dev, struct vg_resource *blob);

/* convert.c: rows of pixels; dst and src need no alignment and must not overlap. */
bool vg_format_known(uint32_t format);
void vg_convert_xrgb(void *dst, const void *src, size_t pixels, uint32_t format);
void vg_convert_argb(void *dst, const void *src, size_t pixels, uint32_t format);

#endif
