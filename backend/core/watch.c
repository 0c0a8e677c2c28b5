/*
 * What keeps a bad guest file or an endless loop from taking the process down silently: SIGBUS inside guest memory is
 * contained, and a process whose event loop burns CPU time without a sign of life aborts (with faulthandler's traceback).
 *
 * SIGBUS. A VMM may shrink the file behind a region at any time; touching what is gone raises SIGBUS. The handler looks
 * the address up in a list of guarded mappings, maps an anonymous zero page over the missing one and counts it; the
 * interrupted access then goes on and reads zeros. Whoever was reading notices the count (drain.c). A fault anywhere
 * else is passed on to the handler that was there before.
 *
 * The list only grows: nodes are reused, never freed, so the handler walks it without locks. A node is live while its
 * length is not zero; its other fields are written before the length is and stay put while it is live.
 */
#define _GNU_SOURCE /* gettid */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vg_internal.h"

#ifndef sigev_notify_thread_id /* older versions of glibc */
#define sigev_notify_thread_id _sigev_un._tid
#endif

struct vg_guard {
    struct vg_guard *next;
    _Atomic size_t len; /* 0: free */
    int taken;          /* under the lock */
    uintptr_t start;
    size_t page;
    _Atomic uint64_t *faults;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct vg_guard *_Atomic guards;
static struct sigaction previous;
static volatile sig_atomic_t passed_on;

/* ---- the handler: async-signal-safe from here ---- */

static struct vg_guard *find_guard(uintptr_t address)
{
    for (struct vg_guard *guard = atomic_load(&guards); guard != NULL; guard = guard->next) {
        size_t len = atomic_load_explicit(&guard->len, memory_order_acquire);
        if (len != 0 && address - guard->start < len)
            return guard;
    }
    return NULL;
}

static int contain(uintptr_t address)
{
    struct vg_guard *guard = find_guard(address);
    if (guard == NULL)
        return 0;
    void *page = (void *)(address - (address - guard->start) % guard->page);
    if (mmap(page, guard->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
        return 0;
    atomic_fetch_add_explicit(guard->faults, 1, memory_order_relaxed);
    return 1;
}

static int is_function(const struct sigaction *action)
{
    return (action->sa_flags & SA_SIGINFO) || (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN);
}

/*
 * Not ours. A real fault comes again when we return, into whatever is installed then. An earlier handler that itself
 * chains back to us (installed after us, then found as previous) is not called twice.
 */
static void pass_on(int signo, siginfo_t *info, void *context)
{
    if (passed_on || !is_function(&previous)) {
        signal(signo, SIG_DFL);
        if (info->si_code <= 0)
            raise(signo);
        return;
    }
    passed_on = 1;
    if (previous.sa_flags & SA_SIGINFO)
        previous.sa_sigaction(signo, info, context);
    else
        previous.sa_handler(signo);
    passed_on = 0;
}

static void on_sigbus(int signo, siginfo_t *info, void *context)
{
    int saved = errno;
    if (info->si_code <= 0 || !contain((uintptr_t)info->si_addr))
        pass_on(signo, info, context);
    errno = saved;
}

/* ---- the list ---- */

/* Python's faulthandler may have been turned on after us: then we go in front of it again. */
static int install_handler(void)
{
    struct sigaction now, ours = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    if (sigaction(SIGBUS, NULL, &now) < 0)
        return -errno;
    if ((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == on_sigbus)
        return 0;
    previous = now;
    sigemptyset(&ours.sa_mask);
    return sigaction(SIGBUS, &ours, NULL) < 0 ? -errno : 0;
}

static struct vg_guard *take_node(void)
{
    for (struct vg_guard *guard = atomic_load(&guards); guard != NULL; guard = guard->next) {
        if (!guard->taken)
            return guard;
    }
    struct vg_guard *guard = calloc(1, sizeof(*guard));
    if (guard == NULL)
        return NULL;
    guard->next = atomic_load(&guards);
    atomic_store(&guards, guard);
    return guard;
}

struct vg_guard *vg_guard_add(void *start, size_t len, size_t page, _Atomic uint64_t *faults)
{
    pthread_mutex_lock(&lock);
    struct vg_guard *guard = install_handler() < 0 ? NULL : take_node();
    if (guard != NULL) {
        guard->taken = 1;
        guard->start = (uintptr_t)start;
        guard->page = page;
        guard->faults = faults;
        atomic_store_explicit(&guard->len, len, memory_order_release);
    }
    pthread_mutex_unlock(&lock);
    return guard;
}

void vg_guard_remove(struct vg_guard *guard)
{
    pthread_mutex_lock(&lock);
    atomic_store_explicit(&guard->len, 0, memory_order_release);
    guard->taken = 0;
    pthread_mutex_unlock(&lock);
}

/* ---- the hang watch ---- */

static atomic_int patted;
static atomic_int missed;
static timer_t timer;
static int report_fd = STDERR_FILENO;
static pid_t watched; /* the thread whose CPU time the timer counts; 0: there is no timer */

/* Two ticks in a row without a pat: one may have come just after the work began. */
static void on_tick(int signo)
{
    static const char message[] = "vhost-gpu: no sign of life in the CPU time allowed: aborting\n";
    (void)signo;
    if (atomic_exchange(&patted, 0)) {
        atomic_store(&missed, 0);
        return;
    }
    if (atomic_fetch_add(&missed, 1) == 0)
        return;
    if (write(report_fd, message, sizeof(message) - 1) < 0)
        _exit(134); /* nobody listens; the exit status of abort() still tells */
    abort();
}

/* The thread that is watched gets the signal too, so that a traceback shows what it did. */
static int create_timer(void)
{
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART | SA_ONSTACK};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF};
    event.sigev_notify_thread_id = gettid();
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGPROF, &action, NULL) < 0 || timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer) < 0)
        return -errno;
    watched = gettid();
    return 0;
}

static void delete_timer(void)
{
    if (watched != 0)
        timer_delete(timer);
    watched = 0;
}

int vg_hang_watch(uint32_t seconds)
{
    if (seconds == 0 || watched != gettid())
        delete_timer();
    if (seconds == 0)
        return 0;
    if (watched == 0) {
        int rc = create_timer();
        if (rc < 0)
            return rc;
    }
    vg_hang_pat();
    /* Half the time per tick: the abort comes between 1 and 1.5 times the seconds asked for. */
    struct timespec tick = {.tv_sec = seconds / 2, .tv_nsec = seconds % 2 ? 500000000 : 0};
    struct itimerspec when = {.it_interval = tick, .it_value = tick};
    return timer_settime(timer, 0, &when, NULL) < 0 ? -errno : 0;
}

void vg_hang_pat(void)
{
    atomic_store_explicit(&patted, 1, memory_order_relaxed);
}

void vg_hang_report_to(int fd)
{
    report_fd = fd;
}
