/*
 * Resources: what virglrenderer is told about them, after the checks that it leaves out or makes in 32 bits.
 *
 * virglrenderer keeps our record of each resource with its own (set_priv), so that there is one table of ids. The records
 * are on a list too: at a reset virglrenderer drops its resources without a word.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <virglrenderer.h>

#include "vg_virgl.h"

/* The header leaves it out; it is that of the protocol (virgl_hw.h). */
struct virgl_box {
    uint32_t x, y, z, w, h, d;
};

/* virtio-gpu has a format that virglrenderer lacks. Only its bytes are of interest: one that nobody looks at is kept. */
#define X8B8G8R8 68u
#define A8B8G8R8 121u

struct record {
    struct record *next, **link;
    struct vg_renderer_resource what;
    uint64_t backing; /* bytes of its iovecs */
    int attached;
    uint32_t texture; /* GL's name; 0: not asked for yet, or none */
};

static struct record *records;
static int clears;

static struct record *find(uint32_t id)
{
    return records == NULL ? NULL : virgl_renderer_resource_get_priv(id);
}

static void drop(struct record *record)
{
    *record->link = record->next;
    if (record->next != NULL)
        record->next->link = record->link;
    free(record);
}

static struct record *add(const struct vg_renderer_resource *what)
{
    struct record *record = calloc(1, sizeof(*record));
    if (record == NULL)
        return NULL;
    record->what = *what;
    record->next = records;
    record->link = &records;
    if (records != NULL)
        records->link = &record->next;
    records = record;
    return record;
}

/* ---- transfers ---- */

static int run(const struct record *record, uint32_t ctx, int to_host, uint32_t level, uint32_t stride,
               uint32_t layer_stride, const struct vg_renderer_box *where, uint64_t offset, struct iovec *iov)
{
    struct virgl_box box = {where->x, where->y, where->z, where->width, where->height, where->depth};
    uint32_t id = record->what.id;
    int rc;
    vg_fences_note_work();
    if (to_host)
        rc = virgl_renderer_transfer_write_iov(id, ctx, (int)level, stride, layer_stride, &box, offset, iov, iov != NULL);
    else
        rc = virgl_renderer_transfer_read_iov(id, ctx, level, stride, layer_stride, &box, offset, iov, iov != NULL);
    return rc == 0 ? 0 : -EINVAL;
}

int vg_virgl_transfer(uint32_t id, uint32_t ctx, int to_host, uint32_t level, uint32_t stride, uint32_t layer_stride,
                      const struct vg_renderer_box *box, uint64_t offset)
{
    const struct record *record = find(id);
    if (record == NULL || !record->attached || record->what.nr_samples > 1)
        return -EINVAL;
    uint64_t span = vg_transfer_span(&record->what, level, stride, layer_stride, box);
    if (span == 0 || offset > record->backing || span > record->backing - offset || offset > UINT32_MAX)
        return -EINVAL;
    return run(record, ctx, to_host, level, stride, layer_stride, box, offset, NULL);
}

static uint32_t texture_of(struct record *record)
{
    struct virgl_renderer_resource_info info = {.tex_id = 0};
    if (record->texture == 0 && virgl_renderer_resource_get_info((int)record->what.id, &info) == 0)
        record->texture = info.tex_id;
    return record->texture;
}

/* Like a transfer of level 0 from or to memory of ours. */
static int copy_rect(uint32_t id, const struct vg_renderer_box *box, int to_host, void *pixels, uint32_t stride)
{
    struct record *record = find(id);
    if (record == NULL || record->what.target == VG_TARGET_BUFFER || record->what.nr_samples > 1)
        return -EINVAL;
    uint64_t span = vg_transfer_span(&record->what, 0, stride, 0, box);
    if (span == 0)
        return -EINVAL;
    vg_fences_note_work();
    if (!to_host && vg_readback(&record->what, texture_of(record), box, pixels, stride) == 0)
        return 0;
    struct iovec iov = {.iov_base = pixels, .iov_len = span};
    return run(record, 0, to_host, 0, stride, 0, box, 0, &iov);
}

int vg_virgl_read_rect(uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, void *dst, uint32_t stride)
{
    struct vg_renderer_box box = {.x = x, .y = y, .width = width, .height = height, .depth = 1};
    return copy_rect(id, &box, 0, dst, stride);
}

int vg_virgl_write_rect(uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, const void *src,
                        uint32_t stride)
{
    struct vg_renderer_box box = {.x = x, .y = y, .width = width, .height = height, .depth = 1};
    return copy_rect(id, &box, 1, (void *)(uintptr_t)src, stride);
}

/* ---- creation ---- */

/* Zeros for one layer at a time; where they cannot be written (depth of some drivers) the driver has to do. */
static int clear_level(const struct record *record, uint32_t level)
{
    struct vg_extent extent = vg_level_extent(&record->what, level);
    struct vg_renderer_box box = {.width = extent.width, .height = extent.height, .depth = 1};
    struct iovec iov = {.iov_len = vg_transfer_span(&record->what, level, 0, 0, &box)};
    iov.iov_base = calloc(1, iov.iov_len == 0 ? 1 : iov.iov_len);
    if (iov.iov_base == NULL)
        return -ENOMEM;
    for (box.z = 0; box.z < extent.depth; box.z++)
        run(record, 0, 1, level, 0, 0, &box, 0, &iov);
    free(iov.iov_base);
    return 0;
}

static int clear(const struct record *record)
{
    int rc = 0;
    if (record->what.nr_samples > 1)
        return 0; /* transfers do not reach these */
    for (uint32_t level = 0; rc == 0 && level <= record->what.last_level; level++)
        rc = clear_level(record, level);
    return rc;
}

static int create(const struct vg_renderer_resource *what, uint32_t format)
{
    struct virgl_renderer_resource_create_args args = {
        .handle = what->id,
        .target = what->target,
        .format = format,
        .bind = what->bind,
        .width = what->width,
        .height = what->height,
        .depth = what->depth,
        .array_size = what->array_size,
        .last_level = what->last_level,
        .nr_samples = what->nr_samples,
        .flags = what->flags,
    };
    int rc = virgl_renderer_resource_create(&args, NULL, 0);
    if (rc == 0)
        return 0;
    return rc == ENOMEM || rc == -ENOMEM ? -ENOMEM : -EINVAL;
}

int vg_virgl_resource_create(const struct vg_renderer_resource *what)
{
    if (!vg_layout_valid(what) || find(what->id) != NULL)
        return -EINVAL;
    struct record *record = add(what);
    if (record == NULL)
        return -ENOMEM;
    int rc = create(what, what->format);
    if (rc < 0 && what->format == X8B8G8R8)
        rc = create(what, A8B8G8R8);
    if (rc < 0) {
        drop(record);
        return rc;
    }
    virgl_renderer_resource_set_priv(what->id, record);
    if (clears && clear(record) < 0) {
        vg_virgl_resource_unref(what->id);
        return -ENOMEM;
    }
    return 0;
}

void vg_virgl_resource_unref(uint32_t id)
{
    struct record *record = find(id);
    if (record == NULL)
        return;
    vg_virgl_detach_iov(id);
    virgl_renderer_resource_unref(id);
    drop(record);
}

void vg_virgl_forget_resources(void)
{
    while (records != NULL)
        drop(records);
}

void vg_virgl_clear_resources(int clear)
{
    clears = clear;
}

/* ---- backing ---- */

int vg_virgl_attach_iov(uint32_t id, const struct iovec *iov, uint32_t count)
{
    struct record *record = find(id);
    if (record == NULL || record->attached || count == 0 || count > INT32_MAX)
        return -EINVAL;
    uint64_t total = 0;
    for (uint32_t index = 0; index < count; index++)
        total += iov[index].iov_len;
    /* virglrenderer only reads the array. */
    if (virgl_renderer_resource_attach_iov((int)id, (struct iovec *)(uintptr_t)iov, (int)count) != 0)
        return -EINVAL;
    record->backing = total;
    record->attached = 1;
    return 0;
}

void vg_virgl_detach_iov(uint32_t id)
{
    struct record *record = find(id);
    if (record == NULL || !record->attached)
        return;
    virgl_renderer_resource_detach_iov((int)id, NULL, NULL);
    record->backing = 0;
    record->attached = 0;
}
