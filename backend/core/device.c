/* The device as a whole: built from its parts, taken apart, reset. */
#include <errno.h>
#include <stdlib.h>

#include "vg_internal.h"

struct part {
    int (*init)(struct vg_device *dev);
    void (*free)(struct vg_device *dev);
};

/* In the order in which they need each other; freed backwards. */
static const struct part parts[] = {
    {vg_memory_init, vg_memory_free},       {vg_budget_init, vg_budget_free}, {vg_queues_init, vg_queues_free},
    {vg_resources_init, vg_resources_free}, {vg_images_init, vg_images_free}, {vg_scanouts_init, vg_scanouts_free},
};

#define NUM_PARTS (sizeof(parts) / sizeof(parts[0]))

static void free_parts(struct vg_device *dev, size_t count)
{
    while (count > 0)
        parts[--count].free(dev);
}

vg_device *vg_device_new(uint32_t num_scanouts, uint64_t max_hostmem)
{
    if (num_scanouts == 0 || num_scanouts > VG_MAX_SCANOUTS)
        return NULL;
    struct vg_device *dev = calloc(1, sizeof(*dev));
    if (dev == NULL)
        return NULL;
    dev->num_scanouts = num_scanouts;
    dev->usable_scanouts = num_scanouts;
    dev->max_hostmem = max_hostmem;
    for (size_t i = 0; i < NUM_PARTS; i++) {
        if (parts[i].init(dev) < 0) {
            free_parts(dev, i);
            free(dev);
            return NULL;
        }
    }
    return dev;
}

void vg_device_free(vg_device *dev)
{
    if (dev == NULL)
        return;
    vg_render_stop(dev);
    free_parts(dev, NUM_PARTS);
    vg_render_free(dev);
    free(dev);
}

void vg_set_usable_scanouts(vg_device *dev, uint32_t usable)
{
    VG_ENTER(dev);
    dev->usable_scanouts = usable < 1 ? 1 : usable > dev->num_scanouts ? dev->num_scanouts : usable;
}

void vg_device_reset(vg_device *dev)
{
    VG_ENTER_PARKED(dev, VG_TASK_RESET);
    vg_scanouts_reset(dev);
    vg_resources_reset(dev);
    if (dev->render != NULL) {
        vg_contexts_reset(dev);
        vg_render_scratch_free(dev);
    }
}

void vg_set_features(vg_device *dev, uint64_t features)
{
    VG_ENTER_PARKED(dev, 0);
    dev->features = features;
    for (int i = 0; i < VG_NUM_QUEUES; i++)
        dev->queues[i].generation = 0; /* what a ring looks like depends on them */
}
