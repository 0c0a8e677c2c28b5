/*
 * Guest memory: a table of mapped regions, sorted by guest-physical address (memory.c), and the containment of SIGBUS
 * inside them (watch.c).
 */
#ifndef VG_MEMORY_H
#define VG_MEMORY_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "vg_api.h"

struct vg_device;
struct vg_guard;

struct vg_region {
    uint64_t gpa, size, uva; /* as the VMM said */
    uint8_t *host;           /* byte 0 of the region */
    uint8_t *map;            /* what was mapped: starts on a page, host may lie inside it */
    size_t map_len;
    struct vg_guard *guard;
};

struct vg_memory {
    struct vg_region regions[VG_MAX_REGIONS];
    uint32_t count;
    uint32_t last;              /* index of the last region found: most lookups hit it */
    uint64_t generation;        /* grows with every change; starts at 1, so 0 means "never resolved" */
    _Atomic uint64_t faults;    /* pages replaced after SIGBUS */
};

/* Host address of a VMM virtual address; NULL unless all len bytes lie in one region. Valid as vg_mem_host is. */
uint8_t *vg_mem_host_uva(struct vg_device *dev, uint64_t uva, uint64_t len);
/* 1 when every byte of the guest-physical range lies in some region. */
int vg_mem_covers(struct vg_device *dev, uint64_t gpa, uint64_t len);

/* ---- watch.c: SIGBUS ---- */

/*
 * Guards a mapping: a SIGBUS inside it maps a zero page over the missing one and counts it in *faults. page is the
 * mapping's page size (huge pages are larger). NULL when there is no memory or the handler can't be installed.
 */
struct vg_guard *vg_guard_add(void *start, size_t len, size_t page, _Atomic uint64_t *faults);
/* Before the mapping goes away. */
void vg_guard_remove(struct vg_guard *guard);

#endif
