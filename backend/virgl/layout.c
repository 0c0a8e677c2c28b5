/*
 * How large things are: levels, whole resources, the part of guest memory that a transfer touches. Arguments come from
 * the guest as they are; nothing here overflows for any of them.
 */
#include "vg_virgl.h"

#define MAX_SIDE 16384u
#define MAX_DEPTH 2048u
#define MAX_LAYERS 4096u
#define MAX_SAMPLES 32u
#define MAX_BUFFER (1u << 30)
/* virglrenderer and GL count transfers in 32 bits, some of them signed. */
#define MAX_SPAN (UINT64_C(1) << 31)
/* GL objects, virglrenderer's and ours. */
#define BOOKKEEPING 4096u
/* Software renderers align rows to cache lines, and pictures to blocks of 4 rows. */
#define ROW_ALIGN 64u
#define HEIGHT_ALIGN 4u

static uint32_t at_least_one(uint32_t value)
{
    return value == 0 ? 1 : value;
}

static uint32_t minified(uint32_t side, uint32_t level)
{
    return level > 31 ? 1 : at_least_one(side >> level);
}

static uint64_t divided_up(uint64_t value, uint64_t by)
{
    return (value + by - 1) / by;
}

static uint64_t aligned(uint64_t value, uint64_t to)
{
    return divided_up(value, to) * to;
}

/* A buffer's width counts bytes, whatever its format says. */
static struct vg_block block_of(const struct vg_renderer_resource *resource)
{
    if (resource->target == VG_TARGET_BUFFER)
        return (struct vg_block){1, 1, 1};
    return vg_format_block(resource->format);
}

struct vg_extent vg_level_extent(const struct vg_renderer_resource *resource, uint32_t level)
{
    int is_3d = resource->target == VG_TARGET_3D;
    return (struct vg_extent){
        .width = minified(resource->width, level),
        .height = minified(resource->height, level),
        .depth = is_3d ? minified(resource->depth, level) : at_least_one(resource->array_size),
    };
}

/* ---- what can exist ---- */

static int shape_valid(const struct vg_renderer_resource *resource)
{
    uint32_t most = resource->target == VG_TARGET_3D ? MAX_DEPTH : MAX_SIDE;
    switch (resource->target) {
    case VG_TARGET_BUFFER:
        return resource->width <= MAX_BUFFER && resource->height == 1 && resource->depth == 1;
    case VG_TARGET_1D:
    case VG_TARGET_1D_ARRAY:
        return resource->width <= most && resource->height == 1 && resource->depth == 1;
    case VG_TARGET_3D:
        return resource->width <= most && resource->height <= most && resource->depth <= most;
    case VG_TARGET_CUBE:
    case VG_TARGET_CUBE_ARRAY:
        return resource->width <= most && resource->height == resource->width && resource->depth == 1;
    case VG_TARGET_2D:
    case VG_TARGET_RECT:
    case VG_TARGET_2D_ARRAY:
        return resource->width <= most && resource->height <= most && resource->depth == 1;
    default:
        return 0;
    }
}

static int layers_valid(const struct vg_renderer_resource *resource)
{
    uint32_t layers = resource->array_size;
    switch (resource->target) {
    case VG_TARGET_1D_ARRAY:
    case VG_TARGET_2D_ARRAY:
        return layers >= 1 && layers <= MAX_LAYERS;
    case VG_TARGET_CUBE:
        return layers == 6;
    case VG_TARGET_CUBE_ARRAY:
        return layers >= 6 && layers <= MAX_LAYERS && layers % 6 == 0;
    default:
        return layers <= 1;
    }
}

static int levels_valid(const struct vg_renderer_resource *resource)
{
    uint32_t most = resource->width > resource->height ? resource->width : resource->height;
    if (resource->last_level == 0)
        return 1;
    if (resource->target == VG_TARGET_BUFFER || resource->target == VG_TARGET_RECT || resource->nr_samples > 1)
        return 0;
    if (resource->target == VG_TARGET_3D && resource->depth > most)
        most = resource->depth;
    return resource->last_level < 32 && most >> resource->last_level != 0;
}

static int samples_valid(const struct vg_renderer_resource *resource)
{
    if (resource->nr_samples <= 1)
        return 1;
    return resource->nr_samples <= MAX_SAMPLES &&
           (resource->target == VG_TARGET_2D || resource->target == VG_TARGET_2D_ARRAY);
}

int vg_layout_valid(const struct vg_renderer_resource *resource)
{
    if (resource->width == 0 || resource->height == 0 || resource->depth == 0)
        return 0;
    return vg_format_block(resource->format).bytes != 0 && shape_valid(resource) && layers_valid(resource) &&
           levels_valid(resource) && samples_valid(resource);
}

/* ---- how large ---- */

static uint64_t level_bytes(const struct vg_renderer_resource *resource, uint32_t level)
{
    struct vg_block block = block_of(resource);
    struct vg_extent extent = vg_level_extent(resource, level);
    uint64_t row = aligned(divided_up(extent.width, block.width) * block.bytes, ROW_ALIGN);
    uint64_t rows = divided_up(extent.height, block.height);
    if (resource->target != VG_TARGET_BUFFER)
        rows = aligned(rows, HEIGHT_ALIGN);
    /* Below 2^19 * 2^15 * 2^12: the limits above leave room. */
    return row * rows * extent.depth;
}

uint64_t vg_layout_bytes(const struct vg_renderer_resource *resource)
{
    uint64_t bytes = 0;
    for (uint32_t level = 0; level <= resource->last_level; level++)
        bytes += level_bytes(resource, level);
    return bytes * at_least_one(resource->nr_samples) + BOOKKEEPING;
}

static int inside(uint32_t start, uint32_t size, uint32_t whole)
{
    return size != 0 && size <= whole && start <= whole - size;
}

static int box_inside(const struct vg_extent *extent, const struct vg_renderer_box *box)
{
    return inside(box->x, box->width, extent->width) && inside(box->y, box->height, extent->height) &&
           inside(box->z, box->depth, extent->depth);
}

uint64_t vg_transfer_span(const struct vg_renderer_resource *resource, uint32_t level, uint32_t stride,
                          uint32_t layer_stride, const struct vg_renderer_box *box)
{
    struct vg_block block = block_of(resource);
    struct vg_extent extent = vg_level_extent(resource, level);
    if (level > resource->last_level || block.bytes == 0 || !box_inside(&extent, box))
        return 0;
    uint64_t row = divided_up(box->width, block.width) * block.bytes;
    uint64_t rows = divided_up(box->height, block.height);
    uint64_t row_step = stride != 0 ? stride : divided_up(extent.width, block.width) * block.bytes;
    uint64_t layer_step = layer_stride != 0 ? layer_stride : row_step * divided_up(extent.height, block.height);
    if (row_step < row || layer_step < row_step * (rows - 1) + row)
        return 0;
    /* Below 2^32 * 2^14 * 2^12: the box lies inside the level. */
    uint64_t span = layer_step * (box->depth - 1) + row_step * (rows - 1) + row;
    return span <= MAX_SPAN ? span : 0;
}
