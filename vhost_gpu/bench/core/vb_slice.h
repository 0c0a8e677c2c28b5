/* How soon a thread of the front-end runs that has little to do each time. */
#ifndef VB_SLICE_H
#define VB_SLICE_H

#include <stdint.h>

#define VB_SHORT_SLICE_NS 100000u

/* Asks the kernel for slices of so many nanoseconds for the calling thread (Linux 6.12 and later); what they were. */
uint64_t vb_set_slice(uint64_t ns);

#endif
