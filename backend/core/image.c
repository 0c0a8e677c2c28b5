/*
 * Images: sealed memfds with a whole resource's pixels, the choice of the one that is written, holds, and the return of
 * what nobody needs any more. The rules are in docs/architecture.md ("Images") and vg_image.h.
 */
#define _GNU_SOURCE
#include "vg_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

int vg_images_init(struct vg_device *dev)
{
    memset(&dev->images, 0, sizeof(dev->images));
    return 0;
}

/* ---- table and life ------------------------------------------------------------------------------------------ */

static struct vg_image **bucket_of(struct vg_images *images, uint64_t id)
{
    return &images->buckets[id % VG_IMAGE_BUCKETS];
}

struct vg_image *vg_image_find(struct vg_device *dev, uint64_t id)
{
    struct vg_image *image = *bucket_of(&dev->images, id);

    while (image && image->id != id)
        image = image->next;
    return image;
}

/* Room to note the end of every live image and one more, so that noting it can't fail. */
static int retired_reserve(struct vg_images *images)
{
    size_t needed = images->num_retired + images->live + 1;
    uint64_t *retired;

    if (needed <= images->room)
        return 0;
    needed += needed / 2 + 16;
    retired = realloc(images->retired, needed * sizeof(*retired));
    if (!retired)
        return -ENOMEM;
    images->retired = retired;
    images->room = needed;
    return 0;
}

/* A memfd of size zero bytes, mapped writable at *map, that nobody else can ever write, grow or shrink. */
static int memfd_new(uint64_t size, uint8_t **map)
{
    int fd = memfd_create("vhost-gpu-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *mapped;
    int err;

    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)size) < 0)
        goto fail;
    /* First our own writable mapping: FUTURE_WRITE forbids every later one. */
    mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        goto fail;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0) {
        err = -errno;
        munmap(mapped, size);
        close(fd);
        return err;
    }
    *map = mapped;
    return fd;
fail:
    err = -errno;
    close(fd);
    return err;
}

static void image_describe(const struct vg_resource *res, struct vg_image *image)
{
    image->width = res->width;
    image->height = res->height;
    image->stride = res->stride;
    image->format = res->format;
    image->size = res->size;
}

static void table_insert(struct vg_images *images, struct vg_image *image)
{
    struct vg_image **bucket = bucket_of(images, image->id);

    image->next = *bucket;
    *bucket = image;
    images->live++;
}

static void image_free(struct vg_device *dev, struct vg_image *image)
{
    struct vg_image **link = bucket_of(&dev->images, image->id);

    while (*link != image)
        link = &(*link)->next;
    *link = image->next;
    dev->images.live--;
    dev->images.retired[dev->images.num_retired++] = image->id;
    if (!image->pinned) /* else the renderer was lost while it wrote there, and may go on */
        munmap(image->map, image->size);
    close(image->fd);
    vg_budget_return(dev, image->charged);
    free(image);
}

void vg_images_free(struct vg_device *dev)
{
    /* Resources point at their images, and end after them otherwise. */
    vg_resources_reset(dev);
    for (uint32_t i = 0; i < VG_IMAGE_BUCKETS; i++) {
        while (dev->images.buckets[i])
            image_free(dev, dev->images.buckets[i]);
    }
    free(dev->images.retired);
    memset(&dev->images, 0, sizeof(dev->images));
}

/* ---- which resources own images, least recently shown first -------------------------------------------------- */

static void owners_remove(struct vg_images *images, struct vg_resource *res)
{
    *(res->older ? &res->older->newer : &images->oldest) = res->newer;
    *(res->newer ? &res->newer->older : &images->newest) = res->older;
    res->older = res->newer = NULL;
}

static void owners_append(struct vg_images *images, struct vg_resource *res)
{
    res->newer = NULL;
    res->older = images->newest;
    *(images->newest ? &images->newest->newer : &images->oldest) = res;
    images->newest = res;
}

void vg_images_touch(struct vg_device *dev, struct vg_resource *res)
{
    if (res->num_images == 0 || dev->images.newest == res)
        return;
    owners_remove(&dev->images, res);
    owners_append(&dev->images, res);
}

/* ---- giving back --------------------------------------------------------------------------------------------- */

static void resource_drop_image(struct vg_device *dev, struct vg_resource *res, uint32_t index)
{
    res->images[index] = res->images[--res->num_images];
    if (res->num_images == 0)
        owners_remove(&dev->images, res);
}

/* Index of an image the resource can do without, or -1. A busy current image must keep a free one beside it. */
static int find_spare(const struct vg_resource *res)
{
    int spare = -1, free_images = 0;

    for (uint32_t i = 0; i < res->num_images; i++) {
        if (res->images[i] == res->current || vg_image_busy(res->images[i]))
            continue;
        spare = (int)i;
        free_images++;
    }
    return free_images > (vg_image_busy(res->current) ? 1 : 0) ? spare : -1;
}

bool vg_images_reclaim(struct vg_device *dev)
{
    for (struct vg_resource *res = dev->images.oldest; res; res = res->newer) {
        struct vg_image *image;
        int spare = find_spare(res);

        if (spare < 0)
            continue;
        image = res->images[spare];
        resource_drop_image(dev, res, (uint32_t)spare);
        image_free(dev, image);
        return true;
    }
    return false;
}

/* The pixels are the renderer's, or in guest memory: the image is only a copy of some of them. */
static void drop_copy(struct vg_device *dev, struct vg_resource *res)
{
    struct vg_image *image = res->current;

    resource_drop_image(dev, res, 0);
    res->current = NULL;
    res->pixels = NULL;
    res->read_rect = (vg_rect){0};
    image_free(dev, image);
}

/* Moves the pixels of a resource that is not shown back to private memory, which needs no descriptor. */
static bool demote(struct vg_device *dev, struct vg_resource *res)
{
    struct vg_image *image = res->current;
    uint8_t *pixels;

    if (res->num_images != 1 || vg_image_busy(image) || res->pinned)
        return false;
    if (res->host3d || res->blob) {
        drop_copy(dev, res);
        return true;
    }
    pixels = vg_pixels_alloc(res->size);
    if (!pixels)
        return false;
    if (res->written)
        memcpy(pixels, image->map, res->size);
    resource_drop_image(dev, res, 0);
    res->current = NULL;
    res->pixels = pixels;
    res->own_memory = true;
    image->charged -= res->size;
    res->charged += res->size;
    image_free(dev, image);
    return true;
}

/* Keeps the number of descriptors bounded. keep is the resource that needs the next one. */
static int make_room(struct vg_device *dev, const struct vg_resource *keep)
{
    struct vg_resource *res;

    if (dev->images.live < VG_MAX_IMAGES || vg_images_reclaim(dev))
        return 0;
    for (res = dev->images.oldest; res; res = res->newer) {
        if (res != keep && demote(dev, res))
            return 0;
    }
    return -EMFILE;
}

void vg_images_orphan(struct vg_device *dev, struct vg_resource *res)
{
    while (res->num_images) {
        struct vg_image *image = res->images[0];

        resource_drop_image(dev, res, 0);
        image->resource = NULL;
        if (!vg_image_busy(image))
            image_free(dev, image);
    }
    res->current = NULL;
}

/* ---- making -------------------------------------------------------------------------------------------------- */

/* An image of the resource, zeroed; the caller has charged charged bytes for it. NULL when the host has none. */
static struct vg_image *image_new(struct vg_device *dev, struct vg_resource *res, uint64_t charged)
{
    struct vg_image *image;

    if (make_room(dev, res) < 0 || retired_reserve(&dev->images) < 0)
        return NULL;
    image = calloc(1, sizeof(*image));
    if (!image)
        return NULL;
    image_describe(res, image);
    image->fd = memfd_new(res->size, &image->map);
    if (image->fd < 0) {
        free(image);
        return NULL;
    }
    image->id = ++dev->images.last_id;
    image->resource = res;
    image->charged = charged;
    table_insert(&dev->images, image);
    if (res->num_images == 0)
        owners_append(&dev->images, res);
    res->images[res->num_images++] = image;
    return image;
}

int vg_images_add(struct vg_device *dev, struct vg_resource *res)
{
    uint64_t bytes = res->size + VG_IMAGE_OVERHEAD;
    struct vg_image *image;

    if (res->num_images == VG_RESOURCE_IMAGES)
        return -ENOSPC;
    if (vg_budget_charge(dev, bytes) < 0)
        return -ENOMEM;
    image = image_new(dev, res, bytes);
    if (!image) {
        vg_budget_return(dev, bytes);
        return -ENOMEM;
    }
    if (res->written)
        vg_rects_add(&image->stale, (vg_rect){0, 0, res->width, res->height}, VG_MAX_STALE);
    return 0;
}

/* Moves a resource's pixels from private memory to its first image, which takes over what was charged for them. */
static int promote(struct vg_device *dev, struct vg_resource *res)
{
    struct vg_image *image;

    if (vg_budget_charge(dev, VG_IMAGE_OVERHEAD) < 0)
        return -ENOMEM;
    image = image_new(dev, res, res->size + VG_IMAGE_OVERHEAD);
    if (!image) {
        vg_budget_return(dev, VG_IMAGE_OVERHEAD);
        return -ENOMEM;
    }
    if (res->written)
        vg_copy_rect(dev, image->map, res->pixels, res->stride, (vg_rect){0, 0, res->width, res->height});
    res->charged -= res->size;
    vg_pixels_free(res->pixels, res->size);
    res->own_memory = false;
    res->pixels = image->map;
    res->current = image;
    return 0;
}

/* The first image of a resource whose pixels are the renderer's, or in guest memory. */
static int begin_copy(struct vg_device *dev, struct vg_resource *res)
{
    int ret = vg_images_add(dev, res);

    if (ret < 0)
        return ret;
    res->current = res->images[0];
    res->current->stale.count = 0;
    res->pixels = res->current->map;
    return 0;
}

int vg_images_prepare(struct vg_device *dev, struct vg_resource *res)
{
    int ret = 0;

    if (res->own_memory)
        ret = promote(dev, res);
    else if (!res->current)
        ret = begin_copy(dev, res);

    if (ret == 0 && res->num_images < 2)
        ret = vg_images_add(dev, res);
    return ret;
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

/* Copies what the image lacks of current, except what is about to be written anyway. */
static void bring_up_to_date(struct vg_device *dev, struct vg_resource *res, struct vg_image *image, vg_rect covered)
{
    for (uint32_t i = 0; i < image->stale.count; i++) {
        vg_rect parts[4];
        uint32_t count = vg_rect_subtract(image->stale.rects[i], covered, parts);

        for (uint32_t j = 0; j < count; j++)
            vg_copy_rect(dev, image->map, res->pixels, res->stride, parts[j]);
    }
    image->stale.count = 0;
}

static uint64_t stale_pixels(const struct vg_image *image)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < image->stale.count; i++)
        sum += (uint64_t)image->stale.rects[i].width * image->stale.rects[i].height;
    return sum;
}

/* The free image that lags least; NULL when all are busy. */
static struct vg_image *find_free(const struct vg_resource *res)
{
    struct vg_image *best = NULL;

    for (uint32_t i = 0; i < res->num_images; i++) {
        struct vg_image *image = res->images[i];

        if (image == res->current || vg_image_busy(image))
            continue;
        if (!best || stale_pixels(image) < stale_pixels(best))
            best = image;
    }
    return best;
}

/* Moves the resource from its busy current image to a free one. */
static int leave_current(struct vg_device *dev, struct vg_resource *res, vg_rect covered)
{
    struct vg_image *image = find_free(res);

    if (!image && vg_images_add(dev, res) == 0)
        image = find_free(res);
    if (!image)
        return -ENOMEM;
    bring_up_to_date(dev, res, image, covered);
    res->current = image;
    res->pixels = image->map;
    return 0;
}

int vg_images_begin_write(struct vg_device *dev, struct vg_resource *res, vg_rect rect)
{
    res->written = true;
    res->written_since_flush = true;
    if (!res->current)
        return 0;
    if (vg_image_busy(res->current) && leave_current(dev, res, rect) < 0)
        return -ENOMEM;
    for (uint32_t i = 0; i < res->num_images; i++) {
        if (res->images[i] != res->current)
            vg_rects_add(&res->images[i]->stale, rect, VG_MAX_STALE);
    }
    return 0;
}

/* ---- who uses an image --------------------------------------------------------------------------------------- */

void vg_image_show(struct vg_image *image)
{
    image->shown++;
}

void vg_image_unshow(struct vg_device *dev, struct vg_image *image)
{
    image->shown--;
    if (image->resource)
        vg_images_touch(dev, image->resource);
    else if (!vg_image_busy(image))
        image_free(dev, image);
}

int vg_image_hold(vg_device *dev, uint64_t id)
{
    VG_ENTER(dev);
    struct vg_image *image = vg_image_find(dev, id);

    /* Only what is published or already held can be held: any other image may be written at any moment. */
    if (!image || !vg_image_busy(image))
        return -ENOENT;
    image->holds++;
    return 0;
}

void vg_image_release(vg_device *dev, uint64_t id)
{
    VG_ENTER(dev);
    struct vg_image *image = vg_image_find(dev, id);

    if (!image || image->holds == 0)
        return;
    if (--image->holds)
        return;
    if (!image->resource && !vg_image_busy(image))
        image_free(dev, image);
    /* Even while it is shown: the frame that waits is what takes its place. */
    vg_scanouts_publish_waiting(dev);
}

/* ---- for sinks ----------------------------------------------------------------------------------------------- */

int vg_image_describe(vg_device *dev, uint64_t id, vg_image_info *out)
{
    VG_ENTER(dev);
    struct vg_image *image = vg_image_find(dev, id);

    if (!image)
        return -ENOENT;
    *out = (vg_image_info){image->id,     image->fd,     image->width, image->height,
                           image->stride, image->format, image->size};
    return 0;
}

int vg_take_retired_images(vg_device *dev, uint64_t *out, uint32_t max)
{
    VG_ENTER(dev);
    struct vg_images *images = &dev->images;
    size_t count = images->num_retired < max ? images->num_retired : max;

    if (count > INT32_MAX)
        count = INT32_MAX;
    vg_render_news_taken(dev);
    if (count == 0)
        return 0;
    memcpy(out, images->retired, count * sizeof(*out));
    images->num_retired -= count;
    memmove(images->retired, images->retired + count, images->num_retired * sizeof(*out));
    return (int)count;
}

/* The image to be read, held so that it stays while the lock is free: a conversion takes long. */
static struct vg_image *begin_read(vg_device *dev, uint64_t id)
{
    VG_ENTER(dev);
    struct vg_image *image = vg_image_find(dev, id);

    if (image && dev->render)
        image->holds++;
    return image;
}

static void end_read(vg_device *dev, const struct vg_image *image)
{
    if (dev->render)
        vg_image_release(dev, image->id);
}

static void read_rows(const struct vg_image *image, vg_rect rect, uint8_t *dst, uint64_t dst_stride)
{
    const uint8_t *src = image->map + (uint64_t)rect.y * image->stride + (uint64_t)rect.x * VG_PIXEL_BYTES;

    for (uint32_t row = 0; row < rect.height; row++)
        vg_convert_xrgb(dst + row * dst_stride, src + (uint64_t)row * image->stride, rect.width, image->format);
}

int vg_image_read_xrgb(vg_device *dev, uint64_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, void *dst,
                       uint64_t dst_stride)
{
    struct vg_image *image = begin_read(dev, id);
    vg_rect rect = {x, y, width, height};
    bool fits;

    if (!image)
        return -ENOENT;
    fits = vg_rect_fits(rect, image->width, image->height);
    if (fits)
        read_rows(image, rect, dst, dst_stride);
    end_read(dev, image);
    return fits ? 0 : -EINVAL;
}
