/* What the machine allows: copying memory, and waking another process and being woken by it, in pairs too. */
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

#define LOOK_NS 100000000u
#define PATIENCE 100                     /* looks: a crowd may leave one of its threads without a CPU for seconds */

/* Whether there is an answer, 0 or -ETIMEDOUT; at the end the other side may be the first to see it. */
static int answered(int in, const int *stop)
{
    for (int looks = 0; looks < PATIENCE; looks++) {
        if (vb_wait(in, LOOK_NS) > 0)
            return 1;
        if (__atomic_load_n(stop, __ATOMIC_RELAXED))
            return 0;
    }
    return -ETIMEDOUT;
}

int vb_call(int out, int in, const int *stop, uint64_t *done)
{
    while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
        int got;

        vb_signal(out);
        got = answered(in, stop);
        if (got <= 0)
            return got;
        vb_take(in);
        __atomic_store_n(done, *done + 1, __ATOMIC_RELAXED);
    }
    return 0;
}

int vb_serve(int in, int out, const int *stop, const vb_piece *piece)
{
    while (!__atomic_load_n(stop, __ATOMIC_RELAXED)) {
        if (vb_wait(in, 100000000u) < 0)
            return -errno;
        if (!vb_take(in))
            continue;
        memcpy(piece->target, piece->source, piece->length);
        __asm__ volatile("" ::: "memory");
        vb_signal(out);
    }
    return 0;
}
