/*
 * Rectangles and short lists of them: the damage of a scanout, the places where an image lags behind (rects.c).
 * A list covers at least what was added to it; when it is full, the two that waste least are joined.
 */
#ifndef VG_RECTS_H
#define VG_RECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "vg_api.h"

static inline bool vg_rect_empty(vg_rect r)
{
    return r.width == 0 || r.height == 0;
}

/* Whether r lies inside a surface of width x height; compares by subtraction, so nothing overflows. */
static inline bool vg_rect_fits(vg_rect r, uint32_t width, uint32_t height)
{
    return r.x <= width && r.width <= width - r.x && r.y <= height && r.height <= height - r.y;
}

/* Whether all of inner lies in outer. */
static inline bool vg_rect_covers(vg_rect outer, vg_rect inner)
{
    if (inner.x < outer.x || inner.y < outer.y)
        return false;
    inner.x -= outer.x;
    inner.y -= outer.y;
    return vg_rect_fits(inner, outer.width, outer.height);
}

/* The common part, with zero width or height when there is none. Both must fit a surface of 32-bit extent. */
vg_rect vg_rect_intersect(vg_rect a, vg_rect b);

/* What is left of r outside cut: up to 4 rectangles into out; returns how many. */
uint32_t vg_rect_subtract(vg_rect r, vg_rect cut, vg_rect out[4]);

/* Adds r, keeping at most limit (1..VG_MAX_RECTS) rectangles. */
void vg_rects_add(vg_region *list, vg_rect r, uint32_t limit);

/* Joins rectangles until at most limit (at least 1) are left. */
void vg_rects_shrink(vg_region *list, uint32_t limit);

/* Adds the part of every rectangle of from that lies inside clip, relative to clip's corner. */
void vg_rects_add_clipped(vg_region *list, const vg_region *from, vg_rect clip, uint32_t limit);

/* Whether any rectangle of the list touches r. */
bool vg_rects_touch(const vg_region *list, vg_rect r);

#endif
