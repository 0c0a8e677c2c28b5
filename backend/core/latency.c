/* How soon a thread runs that has little to do each time: sched_setattr(2). */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vg_internal.h"

#define SLICE_NS 100000u
#define NORMAL 0u /* SCHED_NORMAL of linux/sched.h */

/* struct sched_attr of linux/sched/types.h, which does not go with libc's sched.h: its first version. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/* Linux 6.12 and later give a thread that asks for short slices its turn sooner, of the same share of CPU time; earlier
   ones take the request and do nothing. What cannot be had is no error. */
void vg_short_slices(void)
{
    struct attributes attributes;

    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) < 0 || attributes.policy != NORMAL)
        return;
    attributes.runtime = SLICE_NS;
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}
