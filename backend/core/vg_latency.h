/*
 * When threads run (latency.c).
 */
#ifndef VG_LATENCY_H
#define VG_LATENCY_H

/* The calling thread, which does little each time, gets its turn sooner, where the kernel can do that. */
void vg_short_slices(void);
/* The calling thread, which can wait, leaves the CPU to whoever else wakes up. */
void vg_long_slices(void);
/* The renderer's threads leave the CPUs to others that want them, from now on: there is no way back without privileges. */
void vg_render_give_way(void);

#endif
