/* How soon a thread runs that has little to do each time, and how much of the CPUs others leave it. */
#define _GNU_SOURCE
#include <dirent.h>
#include <sched.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vg_internal.h"

#define SHORT_SLICE_NS 100000u
#define LONG_SLICE_NS 100000000u
#define NORMAL 0u /* SCHED_NORMAL and SCHED_BATCH of linux/sched.h */
#define BATCH 3u
#define GIVES_WAY 4 /* nice: where both want a CPU, two parts in seven of it */

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
static void set_slices(uint32_t policy, uint64_t ns)
{
    struct attributes attributes;

    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof(attributes), 0) < 0 || attributes.policy != NORMAL)
        return;
    attributes.policy = policy;
    attributes.runtime = ns;
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}

void vg_short_slices(void)
{
    set_slices(NORMAL, SHORT_SLICE_NS);
}

/* A thread that wakes up does not interrupt others then, and others interrupt it. */
void vg_long_slices(void)
{
    set_slices(BATCH, LONG_SLICE_NS);
}

/* The loop's is the process's first; those that send pictures are SCHED_BATCH already. */
static void lower(int32_t thread)
{
    if (thread > 0 && thread != (int32_t)getpid() && sched_getscheduler(thread) == SCHED_OTHER)
        setpriority(PRIO_PROCESS, (id_t)thread, GIVES_WAY);
}

void vg_render_give_way(void)
{
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL)
        return;
    for (struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks))
        lower((int32_t)strtol(entry->d_name, NULL, 10));
    closedir(tasks);
}
