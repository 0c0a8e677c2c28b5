/* The byte budget of one device: everything that a guest can make us hold is charged here before it is allocated. */
#include "vg_internal.h"

#include <errno.h>

int vg_budget_init(struct vg_device *dev)
{
    dev->budget.limit = dev->max_hostmem;
    dev->budget.used = 0;
    return 0;
}

void vg_budget_free(struct vg_device *dev)
{
    dev->budget.used = 0;
}

static bool fits(const struct vg_budget *budget, uint64_t bytes)
{
    return budget->used <= budget->limit && bytes <= budget->limit - budget->used;
}

int vg_budget_charge(struct vg_device *dev, uint64_t bytes)
{
    /* A sum that can never fit should not cost the guest its spare images. */
    if (bytes > dev->budget.limit)
        return -ENOMEM;
    while (!fits(&dev->budget, bytes)) {
        if (!vg_images_reclaim(dev))
            return -ENOMEM;
    }
    dev->budget.used += bytes;
    return 0;
}

void vg_budget_return(struct vg_device *dev, uint64_t bytes)
{
    dev->budget.used -= bytes;
}

uint64_t vg_hostmem_used(const vg_device *dev)
{
    VG_ENTER((vg_device *)dev);
    return dev->budget.used;
}
