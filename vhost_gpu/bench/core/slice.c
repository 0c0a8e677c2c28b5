/* The front-end's own turn on a busy CPU: sched_setattr(2). */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>

#include "vb_slice.h"

#define NORMAL 0u /* SCHED_NORMAL of linux/sched.h */

/* struct sched_attr of linux/sched/types.h, which does not go with libc's sched.h: its first version. */
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

uint64_t vb_set_slice(uint64_t ns)
{
    struct attributes attributes;

    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) < 0 || attributes.policy != NORMAL)
        return 0;
    uint64_t before = attributes.runtime;
    attributes.runtime = ns;
    syscall(SYS_sched_setattr, 0, &attributes, 0);
    return before;
}
