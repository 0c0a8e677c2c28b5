/*
 * The region table: adding, removing, translation, copies that may cross regions.
 *
 * Lookups run for every descriptor, so the table is sorted and the last hit is tried first. Regions never overlap, in
 * neither address space, and none reaches the end of the 64-bit space, so "end of a region" never wraps.
 */
#include <errno.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "vg_internal.h"

int vg_memory_init(struct vg_device *dev)
{
    dev->memory.generation = 1;
    return 0;
}

void vg_memory_free(struct vg_device *dev)
{
    vg_mem_clear(dev);
}

/* ---- the table ---- */

static int overlaps(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b ? b - a < a_size : a - b < b_size;
}

static int range_is_free(const struct vg_memory *memory, uint64_t gpa, uint64_t size, uint64_t uva)
{
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct vg_region *region = &memory->regions[i];
        if (overlaps(gpa, size, region->gpa, region->size) || overlaps(uva, size, region->uva, region->size))
            return 0;
    }
    return 1;
}

static void insert(struct vg_memory *memory, const struct vg_region *region)
{
    uint32_t at = memory->count;
    while (at > 0 && memory->regions[at - 1].gpa > region->gpa)
        at--;
    memmove(&memory->regions[at + 1], &memory->regions[at], (memory->count - at) * sizeof(*region));
    memory->regions[at] = *region;
    memory->count++;
    memory->generation++;
}

/* ---- mapping ---- */

/* Huge-page files want their mappings cut at huge pages. */
static int page_size_of(int fd, size_t *page)
{
    struct statfs fs;
    *page = (size_t)sysconf(_SC_PAGESIZE);
    if (fstatfs(fd, &fs) < 0)
        return -errno;
    if (fs.f_type == HUGETLBFS_MAGIC && (uint64_t)fs.f_bsize > *page)
        *page = (size_t)fs.f_bsize;
    return 0;
}

/* Devices (DAX) have no size to check. */
static int file_holds(int fd, uint64_t end)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (S_ISREG(st.st_mode) && (uint64_t)st.st_size < end)
        return -EINVAL;
    return 0;
}

static int map_region(struct vg_device *dev, int fd, uint64_t mmap_offset, struct vg_region *region)
{
    size_t page;
    int rc = page_size_of(fd, &page);
    if (rc < 0)
        return rc;
    uint64_t lead = mmap_offset % page;
    if (region->size > INT64_MAX - mmap_offset - page) /* off_t, and room for rounding up */
        return -EINVAL;
    rc = file_holds(fd, mmap_offset + region->size);
    if (rc < 0)
        return rc;
    region->map_len = (region->size + lead + page - 1) / page * page;
    region->map = mmap(NULL, region->map_len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd,
                       (off_t)(mmap_offset - lead));
    if (region->map == MAP_FAILED)
        return -errno;
    region->host = region->map + lead;
    madvise(region->map, region->map_len, MADV_DONTDUMP); /* a core file is no place for a guest's memory */
    region->guard = vg_guard_add(region->map, region->map_len, page, &dev->memory.faults);
    if (region->guard == NULL) {
        munmap(region->map, region->map_len);
        return -ENOMEM;
    }
    return 0;
}

/* A renderer that was lost in the middle of a call may still write there: nobody's memory takes the place then. */
static void unmap_region(struct vg_device *dev, struct vg_region *region)
{
    vg_guard_remove(region->guard);
    if (dev->render != NULL && vg_render_haunts(dev->render))
        mmap(region->map, region->map_len, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    else
        munmap(region->map, region->map_len);
}

int vg_mem_add(vg_device *dev, int fd, uint64_t gpa, uint64_t size, uint64_t uva, uint64_t mmap_offset)
{
    VG_ENTER_PARKED(dev, 0);
    struct vg_memory *memory = &dev->memory;
    struct vg_region region = {.gpa = gpa, .size = size, .uva = uva};

    if (size == 0 || gpa > UINT64_MAX - size || uva > UINT64_MAX - size)
        return -EINVAL;
    if (mmap_offset > INT64_MAX / 2)
        return -EINVAL;
    if (!range_is_free(memory, gpa, size, uva))
        return -EINVAL;
    if (memory->count == VG_MAX_REGIONS)
        return -ENOSPC;
    int rc = map_region(dev, fd, mmap_offset, &region);
    if (rc < 0)
        return rc;
    insert(memory, &region);
    return 0;
}

int vg_mem_remove(vg_device *dev, uint64_t gpa, uint64_t size, uint64_t uva)
{
    VG_ENTER_PARKED(dev, VG_TASK_DETACH);
    struct vg_memory *memory = &dev->memory;
    for (uint32_t i = 0; i < memory->count; i++) {
        struct vg_region *region = &memory->regions[i];
        if (region->gpa != gpa || region->size != size || region->uva != uva)
            continue;
        unmap_region(dev, region);
        memory->count--;
        memmove(region, region + 1, (memory->count - i) * sizeof(*region));
        memory->generation++;
        return 0;
    }
    return -ENOENT;
}

void vg_mem_clear(vg_device *dev)
{
    VG_ENTER_PARKED(dev, VG_TASK_DETACH);
    struct vg_memory *memory = &dev->memory;
    for (uint32_t i = 0; i < memory->count; i++)
        unmap_region(dev, &memory->regions[i]);
    memory->count = 0;
    memory->generation++;
}

uint64_t vg_mem_faults(const vg_device *dev)
{
    /* The handler counts at the very access that faults: none may move across the look at the count. */
    atomic_signal_fence(memory_order_seq_cst);
    uint64_t faults = atomic_load_explicit(&dev->memory.faults, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    return faults;
}

/* ---- translation ---- */

static inline int holds(const struct vg_region *region, uint64_t gpa)
{
    return gpa >= region->gpa && gpa - region->gpa < region->size;
}

static const struct vg_region *find(struct vg_memory *memory, uint64_t gpa)
{
    if (memory->last < memory->count && holds(&memory->regions[memory->last], gpa))
        return &memory->regions[memory->last];
    uint32_t low = 0, high = memory->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (memory->regions[middle].gpa <= gpa)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || !holds(&memory->regions[low - 1], gpa))
        return NULL;
    memory->last = low - 1;
    return &memory->regions[low - 1];
}

uint8_t *vg_mem_host(struct vg_device *dev, uint64_t gpa, uint64_t *contiguous)
{
    const struct vg_region *region = find(&dev->memory, gpa);
    if (region == NULL) {
        *contiguous = 0;
        return NULL;
    }
    *contiguous = region->size - (gpa - region->gpa);
    return region->host + (gpa - region->gpa);
}

uint8_t *vg_mem_host_uva(struct vg_device *dev, uint64_t uva, uint64_t len)
{
    const struct vg_memory *memory = &dev->memory;
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct vg_region *region = &memory->regions[i];
        if (uva < region->uva || uva - region->uva >= region->size)
            continue;
        uint64_t inside = uva - region->uva;
        return len <= region->size - inside ? region->host + inside : NULL;
    }
    return NULL;
}

int vg_mem_covers(struct vg_device *dev, uint64_t gpa, uint64_t len)
{
    uint64_t contiguous;
    while (len > 0) {
        if (vg_mem_host(dev, gpa, &contiguous) == NULL)
            return 0;
        if (contiguous >= len)
            return 1;
        gpa += contiguous;
        len -= contiguous;
    }
    return 1;
}

/* ---- copies ---- */

int vg_mem_read(vg_device *dev, uint64_t gpa, void *buf, uint64_t len)
{
    VG_ENTER(dev);
    uint8_t *to = buf;
    if (!vg_mem_covers(dev, gpa, len))
        return -EFAULT;
    while (len > 0) {
        uint64_t contiguous;
        const uint8_t *from = vg_mem_host(dev, gpa, &contiguous);
        uint64_t piece = contiguous < len ? contiguous : len;
        memcpy(to, from, piece);
        to += piece;
        gpa += piece;
        len -= piece;
    }
    /* The guest may write on: no later use of buf may be turned into a second read of guest memory. */
    atomic_signal_fence(memory_order_seq_cst);
    return 0;
}

int vg_mem_write(vg_device *dev, uint64_t gpa, const void *buf, uint64_t len)
{
    VG_ENTER(dev);
    const uint8_t *from = buf;
    if (!vg_mem_covers(dev, gpa, len))
        return -EFAULT;
    while (len > 0) {
        uint64_t contiguous;
        uint8_t *to = vg_mem_host(dev, gpa, &contiguous);
        uint64_t piece = contiguous < len ? contiguous : len;
        memcpy(to, from, piece);
        from += piece;
        gpa += piece;
        len -= piece;
    }
    return 0;
}
