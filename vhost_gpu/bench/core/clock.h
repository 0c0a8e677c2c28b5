/* Time, and waiting for a descriptor. */
#pragma once

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t vb_now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* Waits until fd is readable, for at most ns: 1 when it is, 0 when not, or a negative errno value. */
static inline int vb_wait(int fd, uint64_t ns)
{
    struct pollfd entry = {.fd = fd, .events = POLLIN};
    struct timespec time = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    int ready = ppoll(&entry, 1, &time, NULL);

    return ready >= 0 ? ready : errno == EINTR ? 0 : -errno;
}

/* Takes an eventfd's count; 0 when there is none. */
static inline uint64_t vb_take(int fd)
{
    uint64_t count = 0;

    return read(fd, &count, sizeof(count)) == (ssize_t)sizeof(count) ? count : 0;
}

static inline void vb_signal(int fd)
{
    uint64_t one = 1;

    /* It can't fail but by a full counter, and then the other side has enough to do. */
    if (write(fd, &one, sizeof(one)) < 0)
        return;
}
