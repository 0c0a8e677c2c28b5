/* Backing memory of resources and TRANSFER_TO_HOST_2D (virtio 1.3, 5.7.6.8). */
#include "vg_internal.h"
#include "vg_copy.h"

#include <errno.h>
#include <linux/virtio_gpu.h>
#include <stdlib.h>
#include <string.h>

/* ---- backing ------------------------------------------------------------------------------------------------- */

/* Looks up the host address of every piece that lies in one region, and whether any piece has lost its memory. */
static void backing_resolve(struct vg_device *dev, struct vg_backing *backing)
{
    backing->lost = false;
    for (uint32_t i = 0; i < backing->nr_entries; i++) {
        uint64_t gpa = backing->entries[2 * (size_t)i], length = backing->entries[2 * (size_t)i + 1];
        uint64_t contiguous = 0;
        uint8_t *host = vg_mem_host(dev, gpa, &contiguous);

        backing->hosts[i] = host && contiguous >= length ? host : NULL;
        if (!backing->hosts[i] && !vg_mem_covers(dev, gpa, length))
            backing->lost = true;
    }
    backing->generation = dev->memory.generation;
}

bool vg_backing_ready(struct vg_device *dev, struct vg_backing *backing)
{
    if (backing->generation != dev->memory.generation)
        backing_resolve(dev, backing);
    return !backing->lost;
}

/* Fills entries and ends from the request. -EFAULT when a piece lies outside guest memory. */
static int backing_fill(struct vg_device *dev, struct vg_backing *backing, const uint8_t *entries)
{
    for (uint32_t i = 0; i < backing->nr_entries; i++) {
        struct virtio_gpu_mem_entry entry;

        memcpy(&entry, entries + (size_t)i * sizeof(entry), sizeof(entry));
        if (entry.addr > UINT64_MAX - entry.length || !vg_mem_covers(dev, entry.addr, entry.length))
            return -EFAULT;
        /* At most 2^32 pieces of less than 2^32 bytes: no overflow. */
        backing->total += entry.length;
        backing->entries[2 * (size_t)i] = entry.addr;
        backing->entries[2 * (size_t)i + 1] = entry.length;
        backing->ends[i] = backing->total;
    }
    return 0;
}

/* Arrays for nr_entries pieces, charged. */
static int backing_alloc(struct vg_device *dev, struct vg_backing *backing, uint32_t nr_entries)
{
    uint64_t bytes = (uint64_t)nr_entries * VG_ENTRY_OVERHEAD;

    if (vg_budget_charge(dev, bytes) < 0)
        return -ENOMEM;
    backing->charged = bytes;
    backing->nr_entries = nr_entries;
    backing->entries = malloc((size_t)nr_entries * 2 * sizeof(*backing->entries));
    backing->ends = malloc((size_t)nr_entries * sizeof(*backing->ends));
    backing->hosts = malloc((size_t)nr_entries * sizeof(*backing->hosts));
    return backing->entries && backing->ends && backing->hosts ? 0 : -ENOMEM;
}

int vg_backing_attach(struct vg_device *dev, struct vg_backing *backing, const uint8_t *entries, uint32_t nr_entries)
{
    int ret = backing_alloc(dev, backing, nr_entries);

    if (ret == 0)
        ret = backing_fill(dev, backing, entries);
    if (ret < 0)
        vg_backing_detach(dev, backing);
    else
        backing_resolve(dev, backing);
    return ret;
}

void vg_backing_detach(struct vg_device *dev, struct vg_backing *backing)
{
    free(backing->entries);
    free(backing->ends);
    free(backing->hosts);
    vg_budget_return(dev, backing->charged);
    memset(backing, 0, sizeof(*backing));
}

static uint64_t begin_of(const struct vg_backing *backing, uint32_t piece)
{
    return piece ? backing->ends[piece - 1] : 0;
}

static bool holds(const struct vg_backing *backing, uint32_t piece, uint64_t offset)
{
    return backing->ends[piece] > offset && begin_of(backing, piece) <= offset;
}

/* Where it would be, were all pieces from this one on as long. */
static uint32_t guess(const struct vg_backing *backing, uint32_t piece, uint64_t offset)
{
    uint64_t begin = begin_of(backing, piece), length = backing->ends[piece] - begin, last = backing->nr_entries - 1;

    if (offset < begin || !length)
        return piece;
    uint64_t steps = (offset - begin) / length;
    return steps < last - piece ? piece + (uint32_t)steps : (uint32_t)last;
}

/* Index of the piece that holds the byte at offset, which lies before total. Rows follow each other: the search begins at
   the piece that was found last, with a guess, and widens from there (from the first one for what comes before it): more
   pieces hardly make it longer. */
static uint32_t search(const struct vg_backing *backing, uint64_t offset)
{
    uint32_t low = guess(backing, backing->hint, offset), high = backing->nr_entries, width = 1;

    if (holds(backing, low, offset))
        return low;
    low = backing->hint;
    if (low && backing->ends[low - 1] > offset) {
        high = low;
        low = 0;
    }
    while (width < high - low && backing->ends[low + width - 1] <= offset) {
        low += width;
        width *= 2;
    }
    if (width < high - low)
        high = low + width;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (backing->ends[middle] > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static uint32_t backing_find(struct vg_backing *backing, uint64_t offset)
{
    return backing->hint = search(backing, offset);
}

/* ---- copying ------------------------------------------------------------------------------------------------- */

#define LINE 64u
#define FETCHED 512u

/* A long copy, in pieces after each of which the cursor queue gets its turn. */
struct copy {
    struct vg_device *dev;
    uint64_t piece;      /* bytes since the last turn */
    bool stream;         /* past the caches */
    const uint8_t *next; /* what follows the run at hand; NULL: that is not known */
};

static struct copy copy_begin(struct vg_device *dev, uint64_t bytes)
{
    return (struct copy){.dev = dev, .stream = bytes >= VG_STREAM_FROM};
}

static void copy_end(const struct copy *copy)
{
    if (copy->stream)
        vg_copy_stream_end();
}

/* The rows of a rectangle lie on pages of their own: what is next is fetched while this is copied. */
static inline void copy_some(uint8_t *dst, const uint8_t *src, uint64_t len, const uint8_t *next)
{
    if (next) {
        for (uint32_t at = 0; at < FETCHED; at += LINE)
            __builtin_prefetch(next + at);
    }
    memcpy(dst, src, len);
}

static void copy_run(struct copy *copy, uint8_t *dst, const uint8_t *src, uint64_t len)
{
    while (len) {
        uint64_t part = VG_COPY_PIECE - copy->piece;

        if (part > len)
            part = len;
        if (copy->stream)
            vg_copy_stream(dst, src, part, part == len ? copy->next : src + part);
        else
            copy_some(dst, src, part, part == len ? copy->next : NULL);
        dst += part;
        src += part;
        len -= part;
        copy->piece += part;
        if (copy->piece == VG_COPY_PIECE) {
            copy->piece = 0;
            vg_poll_cursor(copy->dev);
        }
    }
}

/* A part of one piece that crosses regions; all of it lies in memory. */
static void copy_across(struct copy *copy, uint8_t *dst, uint64_t gpa, uint64_t len)
{
    while (len) {
        uint64_t contiguous = 0;
        const uint8_t *src = vg_mem_host(copy->dev, gpa, &contiguous);

        if (!src)
            return;
        copy->next = NULL;
        if (contiguous > len)
            contiguous = len;
        copy_run(copy, dst, src, contiguous);
        dst += contiguous;
        gpa += contiguous;
        len -= contiguous;
    }
}

/* Where a byte of the piece i is, as far as that is known; NULL. */
static const uint8_t *place_of(const struct vg_backing *backing, uint32_t i, uint64_t offset)
{
    return backing->hosts[i] ? backing->hosts[i] + (offset - begin_of(backing, i)) : NULL;
}

/* len bytes of the backing from offset on, which is in the piece i; the caller has checked that they lie inside. next: what
   is copied then, or NULL. */
static void copy_backing(struct copy *copy, const struct vg_backing *backing, uint32_t i, uint8_t *dst, uint64_t offset,
                         uint64_t len, const uint8_t *next)
{
    for (; len; i++) {
        uint64_t into = offset - begin_of(backing, i);
        uint64_t part = backing->ends[i] - offset;

        if (part > len)
            part = len;
        copy->next = part < len ? backing->hosts[i + 1] : next;
        if (backing->hosts[i])
            copy_run(copy, dst, backing->hosts[i] + into, part);
        else
            copy_across(copy, dst, backing->entries[2 * (size_t)i] + into, part);
        dst += part;
        offset += part;
        len -= part;
    }
}

void vg_copy_rect(struct vg_device *dev, uint8_t *dst, const uint8_t *src, uint32_t stride, vg_rect rect)
{
    uint64_t at = (uint64_t)rect.y * stride + (uint64_t)rect.x * VG_PIXEL_BYTES;
    uint64_t bytes = (uint64_t)rect.width * VG_PIXEL_BYTES;
    struct copy copy = copy_begin(dev, bytes * rect.height);

    if (bytes == stride) {
        bytes *= rect.height;
        rect.height = 1;
    }
    for (uint32_t row = 0; row < rect.height; row++, at += stride) {
        copy.next = row + 1 < rect.height ? src + at + stride : NULL;
        copy_run(&copy, dst + at, src + at, bytes);
    }
    copy_end(&copy);
}

void vg_backing_read(struct vg_device *dev, struct vg_backing *backing, struct vg_rows rows)
{
    struct copy copy = copy_begin(dev, rows.bytes * rows.count);

    dev->copied += rows.bytes * rows.count;
    if (rows.bytes == rows.dst_stride && rows.bytes == rows.src_stride) {
        rows.bytes *= rows.count;
        rows.count = 1;
    }
    uint32_t piece = backing_find(backing, rows.offset), following = piece;
    for (uint32_t left = rows.count; left; left--, rows.dst += rows.dst_stride, rows.offset += rows.src_stride) {
        const uint8_t *next = NULL;

        if (left > 1) {
            following = backing_find(backing, rows.offset + rows.src_stride);
            next = place_of(backing, following, rows.offset + rows.src_stride);
        }
        copy_backing(&copy, backing, piece, rows.dst, rows.offset, rows.bytes, next);
        piece = following;
    }
    copy_end(&copy);
}

/* ---- the command --------------------------------------------------------------------------------------------- */

/* Whether the rows of a transfer lie inside the backing: all but the last take a whole stride of it. */
static bool source_fits(const struct vg_resource *res, vg_rect rect, uint64_t offset)
{
    uint64_t needed = (uint64_t)(rect.height - 1) * res->stride + (uint64_t)rect.width * VG_PIXEL_BYTES;

    return needed <= res->backing.total && offset <= res->backing.total - needed;
}

static void transfer_rows(struct vg_device *dev, struct vg_resource *res, vg_rect rect, uint64_t offset)
{
    vg_backing_read(dev, &res->backing,
                    (struct vg_rows){
                        .dst = res->pixels + (uint64_t)rect.y * res->stride + (uint64_t)rect.x * VG_PIXEL_BYTES,
                        .offset = offset,
                        .dst_stride = res->stride,
                        .src_stride = res->stride,
                        .bytes = (uint64_t)rect.width * VG_PIXEL_BYTES,
                        .count = rect.height,
                    });
}

uint32_t vg_transfer_to_host_2d(vg_device *dev, uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
                                uint64_t offset)
{
    VG_ENTER(dev);
    struct vg_resource *res = vg_resource_find(dev, id);
    vg_rect rect = {x, y, width, height};

    if (!res)
        return VIRTIO_GPU_RESP_ERR_INVALID_RESOURCE_ID;
    if (!res->backing.nr_entries)
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    if (!vg_rect_fits(rect, res->width, res->height)) /* Linux transfers its framebuffers even where they are blobs */
        return res->blob_size ? VIRTIO_GPU_RESP_OK_NODATA : VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    if (vg_rect_empty(rect))
        return VIRTIO_GPU_RESP_OK_NODATA;
    if (res->host3d)
        return vg_render_transfer_2d(dev, res, rect, offset);
    if (!source_fits(res, rect, offset))
        return VIRTIO_GPU_RESP_ERR_INVALID_PARAMETER;
    /* Before the write begins: a write that stops half way would show what an image held before. */
    if (!vg_backing_ready(dev, &res->backing))
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    if (vg_images_begin_write(dev, res, rect) < 0)
        return VIRTIO_GPU_RESP_ERR_OUT_OF_MEMORY;
    transfer_rows(dev, res, rect, offset);
    return VIRTIO_GPU_RESP_OK_NODATA;
}
