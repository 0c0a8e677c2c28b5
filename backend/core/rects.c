/* Rectangles and short lists of them. */
#include "vg_rects.h"

#include <string.h>

static uint32_t min32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static uint32_t max32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint64_t area(vg_rect r)
{
    return (uint64_t)r.width * r.height;
}

static bool contains(vg_rect outer, vg_rect inner)
{
    return inner.x >= outer.x && inner.y >= outer.y && inner.x + inner.width <= outer.x + outer.width &&
           inner.y + inner.height <= outer.y + outer.height;
}

vg_rect vg_rect_intersect(vg_rect a, vg_rect b)
{
    uint32_t left = max32(a.x, b.x), right = min32(a.x + a.width, b.x + b.width);
    uint32_t top = max32(a.y, b.y), bottom = min32(a.y + a.height, b.y + b.height);

    if (right <= left || bottom <= top)
        return (vg_rect){left, top, 0, 0};
    return (vg_rect){left, top, right - left, bottom - top};
}

static vg_rect join(vg_rect a, vg_rect b)
{
    uint32_t left = min32(a.x, b.x), right = max32(a.x + a.width, b.x + b.width);
    uint32_t top = min32(a.y, b.y), bottom = max32(a.y + a.height, b.y + b.height);

    return (vg_rect){left, top, right - left, bottom - top};
}

/* Pixels that a joined rectangle covers beyond the two; overlap counts in its favour. */
static int64_t waste(vg_rect a, vg_rect b)
{
    return (int64_t)(area(join(a, b)) - area(a) - area(b));
}

uint32_t vg_rect_subtract(vg_rect r, vg_rect cut, vg_rect out[4])
{
    vg_rect both = vg_rect_intersect(r, cut);
    uint32_t right, bottom;
    vg_rect parts[4];
    uint32_t count = 0;

    if (vg_rect_empty(both)) {
        out[0] = r;
        return vg_rect_empty(r) ? 0 : 1;
    }
    right = both.x + both.width;
    bottom = both.y + both.height;
    parts[0] = (vg_rect){r.x, r.y, r.width, both.y - r.y};
    parts[1] = (vg_rect){r.x, bottom, r.width, r.y + r.height - bottom};
    parts[2] = (vg_rect){r.x, both.y, both.x - r.x, both.height};
    parts[3] = (vg_rect){right, both.y, r.x + r.width - right, both.height};
    for (uint32_t i = 0; i < 4; i++) {
        if (!vg_rect_empty(parts[i]))
            out[count++] = parts[i];
    }
    return count;
}

static void drop(vg_region *list, uint32_t index)
{
    list->rects[index] = list->rects[--list->count];
}

/* Index of a rectangle that r joins with little waste (an eighth of the joined area), or count. */
static uint32_t find_partner(const vg_region *list, vg_rect r)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (waste(list->rects[i], r) <= (int64_t)(area(join(list->rects[i], r)) / 8))
            return i;
    }
    return list->count;
}

static uint32_t find_cheapest(const vg_region *list, vg_rect r)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < list->count; i++) {
        if (waste(list->rects[i], r) < waste(list->rects[best], r))
            best = i;
    }
    return best;
}

void vg_rects_add(vg_region *list, vg_rect r, uint32_t limit)
{
    if (vg_rect_empty(r))
        return;
    for (;;) {
        uint32_t i;

        for (i = 0; i < list->count; i++) {
            if (contains(list->rects[i], r))
                return;
        }
        i = find_partner(list, r);
        if (i == list->count && list->count < limit)
            break;
        if (i == list->count)
            i = find_cheapest(list, r);
        r = join(list->rects[i], r);
        drop(list, i);
    }
    list->rects[list->count++] = r;
}

void vg_region_add(vg_region *region, const vg_rect *rects, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        vg_rects_add(region, rects[i], VG_MAX_RECTS);
}

void vg_rects_shrink(vg_region *list, uint32_t limit)
{
    while (list->count > limit) {
        vg_rect last = list->rects[--list->count];

        vg_rects_add(list, last, list->count);
    }
}

void vg_rects_add_clipped(vg_region *list, const vg_region *from, vg_rect clip, uint32_t limit)
{
    for (uint32_t i = 0; i < from->count; i++) {
        vg_rect part = vg_rect_intersect(from->rects[i], clip);

        if (vg_rect_empty(part))
            continue;
        part.x -= clip.x;
        part.y -= clip.y;
        vg_rects_add(list, part, limit);
    }
}

bool vg_rects_touch(const vg_region *list, vg_rect r)
{
    for (uint32_t i = 0; i < list->count; i++) {
        if (!vg_rect_empty(vg_rect_intersect(list->rects[i], r)))
            return true;
    }
    return false;
}
