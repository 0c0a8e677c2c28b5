/* What the machine allows: copying memory, and waking another process and being woken by it. */
#define _GNU_SOURCE
#include <string.h>

#include "clock.h"
#include "vb_loop.h"

uint64_t vb_copy(const vb_piece *pieces, uint64_t count, uint64_t max_ns, uint64_t *ns)
{
    uint64_t begun = vb_now(), times = 0;

    do {
        for (uint64_t i = 0; i < count; i++)
            memcpy(pieces[i].target, pieces[i].source, pieces[i].length);
        __asm__ volatile("" ::: "memory");   /* each round counts: none is to be optimised away */
        times++;
        *ns = vb_now() - begun;
    } while (*ns < max_ns);
    return times;
}

int64_t vb_ping(int out, int in, uint64_t max_ns, uint64_t *latency, uint64_t room)
{
    uint64_t begun = vb_now();
    int64_t done = 0;

    while ((uint64_t)done < room) {
        uint64_t sent = vb_now(), now;

        vb_signal(out);
        if (vb_wait(in, 1000000000u) <= 0)
            return -ETIMEDOUT;
        vb_take(in);
        now = vb_now();
        latency[done++] = now - sent;
        if (now - begun >= max_ns)
            break;
    }
    return done;
}

int vb_pong(int in, int out)
{
    for (;;) {
        uint64_t count = 0;

        if (vb_wait(in, 1000000000u) < 0)
            return -errno;
        count = vb_take(in);
        if (count > 1)
            return 0;
        if (count)
            vb_signal(out);
    }
}
