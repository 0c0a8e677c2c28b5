/* The table of resources: create, unref, backing, and looking at them. */
#include "vg_internal.h"

#include <errno.h>
#include <linux/virtio_gpu.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#define FIRST_BUCKET_BITS 8u
#define LAST_BUCKET_BITS 24u
/* Pixels from this size on come from mmap, so that pages nobody touches cost nothing. */
#define MMAP_FROM (64u * 1024u)

/* ---- table --------------------------------------------------------------------------------------------------- */

int vg_resources_init(struct vg_device *dev)
{
    struct vg_resources *table = &dev->resources;

    memset(table, 0, sizeof(*table));
    if (getrandom(&table->multiplier, sizeof(table->multiplier), GRND_NONBLOCK) < 0)
        table->multiplier = 0x9e3779b97f4a7c15u;
    table->multiplier |= 1;
    table->bucket_bits = FIRST_BUCKET_BITS;
    table->buckets = calloc((size_t)1 << table->bucket_bits, sizeof(*table->buckets));
    return table->buckets ? 0 : -ENOMEM;
}

static struct vg_resource **bucket_of(const struct vg_resources *table, uint32_t id)
{
    return &table->buckets[(id * table->multiplier) >> (64 - table->bucket_bits)];
}

struct vg_resource *vg_resource_find(struct vg_device *dev, uint32_t id)
{
    struct vg_resource *res = *bucket_of(&dev->resources, id);

    while (res && res->id != id)
        res = res->next;
    return res;
}

/* Doubles the buckets. Without memory for it the chains just grow longer. */
static void table_grow(struct vg_resources *table)
{
    struct vg_resource **old = table->buckets;
    size_t num_old = (size_t)1 << table->bucket_bits;
    struct vg_resource **buckets = calloc(num_old * 2, sizeof(*buckets));

    if (!buckets)
        return;
    table->buckets = buckets;
    table->bucket_bits++;
    for (size_t i = 0; i < num_old; i++) {
        for (struct vg_resource *res = old[i], *next; res; res = next) {
            struct vg_resource **bucket = bucket_of(table, res->id);

            next = res->next;
            res->next = *bucket;
            *bucket = res;
        }
    }
    free(old);
}

int vg_resources_each(struct vg_device *dev, int (*visit)(struct vg_device *, struct vg_resource *, void *), void *arg)
{
    struct vg_resources *table = &dev->resources;

    for (size_t i = 0; i < (size_t)1 << table->bucket_bits; i++) {
        for (struct vg_resource *res = table->buckets[i]; res; res = res->next) {
            int ret = visit(dev, res, arg);

            if (ret)
                return ret;
        }
    }
    return 0;
}

static void table_insert(struct vg_resources *table, struct vg_resource *res)
{
    struct vg_resource **bucket;

    if (table->count >> table->bucket_bits && table->bucket_bits < LAST_BUCKET_BITS)
        table_grow(table);
    bucket = bucket_of(table, res->id);
    res->next = *bucket;
    *bucket = res;
    table->count++;
    table->order_valid = false;
}

static void table_remove(struct vg_resources *table, struct vg_resource *res)
{
    struct vg_resource **link = bucket_of(table, res->id);

    while (*link != res)
        link = &(*link)->next;
    *link = res->next;
    table->count--;
    table->order_valid = false;
}

void vg_resource_insert(struct vg_device *dev, struct vg_resource *res)
{
    table_insert(&dev->resources, res);
}

/* ---- pixels -------------------------------------------------------------------------------------------------- */

uint8_t *vg_pixels_alloc(uint64_t size)
{
    void *pixels;

    if (size < MMAP_FROM)
        return calloc(1, size);
    pixels = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return pixels == MAP_FAILED ? NULL : pixels;
}

void vg_pixels_free(uint8_t *pixels, uint64_t size)
{
    if (size < MMAP_FROM)
        free(pixels);
    else
        munmap(pixels, size);
}

void vg_resource_pin(struct vg_resource *res)
{
    res->pinned = true;
    if (res->current)
        res->current->pinned = true;
}

void vg_resource_unpin(struct vg_resource *res)
{
    res->pinned = false;
    if (res->current)
        res->current->pinned = false;
}

/* ---- create and unref ---------------------------------------------------------------------------------------- */

/* A resource with zeroed private memory, already charged; NULL when the host has no memory. */
static struct vg_resource *resource_new(uint32_t id, uint32_t format, uint32_t width, uint32_t height)
{
    struct vg_resource *res = calloc(1, sizeof(*res));

    if (!res)
        return NULL;
    res->id = id;
    res->format = format;
    res->width = width;
    res->height = height;
    res->stride = width * VG_PIXEL_BYTES;
    res->size = (uint64_t)res->stride * height;
    res->charged = res->size + VG_RESOURCE_OVERHEAD;
    res->own_memory = true;
    res->pixels = vg_pixels_alloc(res->size);
    if (!res->pixels) {
        free(res);
        return NULL;
    }
    return res;
}

uint32_t vg_resource_create_2d(vg_device *dev, uint32_t id, uint32_t format, uint32_t width, uint32_t height)
{
    VG_ENTER(dev);
    uint64_t size = (uint64_t)width * height;
    struct vg_resource *res;

    if (id == 0 || vg_resource_find(dev, id))
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (!vg_format_known(format) || width == 0 || height == 0)
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    /* The stride is a 32-bit number for every reader of the pixels (CVE-2026-3886 is what wrapping it leads to). */
    if (width > UINT32_MAX / VG_PIXEL_BYTES || size > (UINT64_MAX - VG_RESOURCE_OVERHEAD) / VG_PIXEL_BYTES)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    size = size * VG_PIXEL_BYTES + VG_RESOURCE_OVERHEAD;
    if (vg_budget_charge(dev, size) < 0)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    res = resource_new(id, format, width, height);
    if (!res) {
        vg_budget_return(dev, size);
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    }
    table_insert(&dev->resources, res);
    return VIRTIO_GPU_RESP_OK_NODATA;
}

static void resource_destroy(struct vg_device *dev, struct vg_resource *res)
{
    table_remove(&dev->resources, res);
    vg_blob_free_views(dev, res);
    vg_scanouts_forget(dev, res);
    vg_images_orphan(dev, res);
    vg_backing_detach(dev, &res->backing);
    if (dev->render)
        vg_render_resource_free(dev, res);
    if (res->own_memory && !res->pinned)
        vg_pixels_free(res->pixels, res->size);
    vg_budget_return(dev, res->charged);
    free(res);
    /* A scanout that showed an image of this one may have left it for another: others wait for that, perhaps. */
    vg_scanouts_publish_waiting(dev);
}

uint32_t vg_resource_unref(vg_device *dev, uint32_t id)
{
    VG_ENTER(dev);
    struct vg_resource *res = vg_resource_find(dev, id);
    uint32_t type = VIRTIO_GPU_RESP_OK_NODATA;

    if (!res)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (res->host3d)
        type = vg_render_unref(dev, res);
    if (type == VIRTIO_GPU_RESP_OK_NODATA)
        resource_destroy(dev, res);
    return type;
}

void vg_resources_reset(struct vg_device *dev)
{
    struct vg_resources *table = &dev->resources;

    for (size_t i = 0; table->buckets && i < (size_t)1 << table->bucket_bits; i++) {
        while (table->buckets[i])
            resource_destroy(dev, table->buckets[i]);
    }
}

void vg_resources_free(struct vg_device *dev)
{
    vg_resources_reset(dev);
    free(dev->resources.buckets);
    free(dev->resources.order);
    memset(&dev->resources, 0, sizeof(dev->resources));
}

/* ---- backing ------------------------------------------------------------------------------------------------- */

static uint32_t attach_host3d(struct vg_device *dev, struct vg_resource *res)
{
    uint32_t type = vg_render_attach_backing(dev, res);

    if (type != VIRTIO_GPU_RESP_OK_NODATA)
        vg_backing_detach(dev, &res->backing);
    return type;
}

uint32_t vg_resource_attach_backing(vg_device *dev, uint32_t id, const uint8_t *entries, uint32_t nr_entries)
{
    VG_ENTER(dev);
    struct vg_resource *res = vg_resource_find(dev, id);

    if (!res)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (res->backing.nr_entries)
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    if (nr_entries == 0)
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    switch (vg_backing_attach(dev, &res->backing, entries, nr_entries)) {
    case 0:
        return res->host3d ? attach_host3d(dev, res) : VIRTIO_GPU_RESP_OK_NODATA;
    case -ENOMEM:
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    default:
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    }
}

uint32_t vg_resource_detach_backing(vg_device *dev, uint32_t id)
{
    VG_ENTER(dev);
    struct vg_resource *res = vg_resource_find(dev, id);
    uint32_t type = VIRTIO_GPU_RESP_OK_NODATA;

    if (!res)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (!res->backing.nr_entries)
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    if (res->host3d)
        type = vg_render_detach_backing(dev, res);
    if (type == VIRTIO_GPU_RESP_OK_NODATA)
        vg_backing_detach(dev, &res->backing);
    return type;
}

/* ---- looking at them ----------------------------------------------------------------------------------------- */

static int compare_ids(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;

    return (left > right) - (left < right);
}

/* Makes the ascending list of ids, so that a walk over n resources costs n log n and not n squared. */
static int table_sort(struct vg_resources *table)
{
    uint32_t *order;

    if (table->order_valid)
        return 0;
    order = realloc(table->order, ((size_t)table->count + 1) * sizeof(*order));
    if (!order)
        return -ENOMEM;
    table->order = order;
    table->num_order = 0;
    for (size_t i = 0; i < (size_t)1 << table->bucket_bits; i++) {
        for (struct vg_resource *res = table->buckets[i]; res; res = res->next)
            order[table->num_order++] = res->id;
    }
    qsort(order, table->num_order, sizeof(*order), compare_ids);
    table->order_valid = true;
    return 0;
}

int vg_resource_next(vg_device *dev, uint32_t after, vg_resource_info *out)
{
    VG_ENTER(dev);
    struct vg_resources *table = &dev->resources;
    uint32_t low = 0, high;
    struct vg_resource *res;

    if (table_sort(table) < 0)
        return -ENOMEM;
    high = table->num_order;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (table->order[middle] > after)
            high = middle;
        else
            low = middle + 1;
    }
    if (low == table->num_order)
        return 0;
    res = vg_resource_find(dev, table->order[low]);
    *out = (vg_resource_info){res->id,     res->format, res->width, res->height,
                              res->stride, res->backing.nr_entries, res->backing.entries, res->blob_size};
    return 1;
}

int vg_resource_read(vg_device *dev, uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, void *dst,
                     uint64_t dst_stride)
{
    VG_ENTER(dev);
    struct vg_resource *res = vg_resource_find(dev, id);

    if (!res)
        return -ENOENT;
    if (res->host3d)
        return -ENOTSUP;
    if (!vg_rect_fits((vg_rect){x, y, width, height}, res->width, res->height))
        return -EINVAL;
    for (uint32_t row = 0; row < height; row++) {
        const uint8_t *src = res->pixels + (uint64_t)(y + row) * res->stride + (uint64_t)x * VG_PIXEL_BYTES;

        memcpy((uint8_t *)dst + row * dst_stride, src, (size_t)width * VG_PIXEL_BYTES);
    }
    return 0;
}

uint32_t vg_resource_uuid(vg_device *dev, uint32_t id, uint8_t *out)
{
    VG_ENTER(dev);
    struct vg_resource *res = vg_resource_find(dev, id);

    if (!res)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (!res->has_uuid && getrandom(res->uuid, sizeof(res->uuid), GRND_NONBLOCK) != sizeof(res->uuid))
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    if (!res->has_uuid) { /* RFC 4122: version 4, and its variant */
        res->uuid[6] = (res->uuid[6] & 0x0f) | 0x40;
        res->uuid[8] = (res->uuid[8] & 0x3f) | 0x80;
        res->has_uuid = true;
    }
    memcpy(out, res->uuid, sizeof(res->uuid));
    return VIRTIO_GPU_RESP_OK_NODATA;
}
