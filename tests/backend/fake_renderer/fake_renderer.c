/*
 * A renderer in plain memory, for tests: resources are arrays of 4-byte pixels, transfers copy, streams fill.
 *
 * A stream of 3 dwords (resource, pixel, how many) writes that many pixels from the resource's beginning on.
 */
#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "vg_renderer.h"

#include "fake_renderer.h"

#define MAX_RESOURCES 20000u
#define MAX_CONTEXTS 256u
#define MAX_CALLS 65536u
#define MAX_TIMELINES 256u
#define MAX_FAILING 8u

struct resource {
    uint32_t id, width, height;
    uint8_t *pixels;
    const struct iovec *iov;
    uint32_t iov_count;
};

struct timeline {
    uint32_t ctx_id, ring_idx;
    uint64_t retired, told;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static const struct vg_renderer_events *events;
static struct resource resources[MAX_RESOURCES];
static uint32_t num_resources;
static uint32_t contexts[MAX_CONTEXTS];
static struct timeline timelines[MAX_TIMELINES];
static uint32_t num_timelines;
static char calls[MAX_CALLS][80];
static uint32_t num_calls;
static struct {
    char name[24];
    int result;
} failing[MAX_FAILING];
static char hang_at[24];
static int num_inside, hanging, hold_fences, use_poll_fd, event_fd = -1;
static uint64_t last_seq;

/* ---- knobs in every call ---- */

static int enter(void)
{
    pthread_mutex_lock(&lock);
    num_inside++;
    pthread_mutex_unlock(&lock);
    return 0;
}

static void leave(int *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    num_inside--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

#define INSIDE __attribute__((cleanup(leave), unused)) int inside = enter()

static __attribute__((format(printf, 2, 3))) int called(const char *name, const char *format, ...)
{
    va_list arguments;
    int result = 0;
    pthread_mutex_lock(&lock);
    if (num_calls < MAX_CALLS) {
        char *line = calls[num_calls];
        int used = snprintf(line, sizeof(calls[0]), "%s", name);
        va_start(arguments, format);
        vsnprintf(line + used, sizeof(calls[0]) - (size_t)used, format, arguments);
        va_end(arguments);
        num_calls++;
    }
    if (strcmp(hang_at, name) == 0) {
        hanging = 1;
        pthread_cond_broadcast(&changed);
        while (hanging)
            pthread_cond_wait(&changed, &lock);
    }
    for (uint32_t i = 0; i < MAX_FAILING; i++) {
        if (strcmp(failing[i].name, name) == 0)
            result = failing[i].result;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static struct resource *find(uint32_t id)
{
    for (uint32_t i = 0; i < num_resources; i++) {
        if (resources[i].id == id)
            return &resources[i];
    }
    return NULL;
}

static void drop(struct resource *res)
{
    free(res->pixels);
    *res = resources[--num_resources];
}

/* ---- the table ---- */

static int fake_open(const char *node, const struct vg_renderer_events *given, char *why, size_t size)
{
    INSIDE;
    int rc = called("open", " %s", node != NULL ? node : "-");
    if (rc < 0) {
        snprintf(why, size, "it fails as told");
        return rc;
    }
    events = given;
    event_fd = use_poll_fd ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
    return 0;
}

static void fake_reset_table(void)
{
    INSIDE;
    called("reset", "%s", "");
    while (num_resources > 0)
        drop(&resources[0]);
    memset(contexts, 0, sizeof(contexts));
}

static void fake_close(void)
{
    INSIDE;
    called("close", "%s", "");
    while (num_resources > 0)
        drop(&resources[0]);
    memset(contexts, 0, sizeof(contexts));
    pthread_mutex_lock(&lock);
    if (event_fd >= 0)
        close(event_fd);
    event_fd = -1;
    events = NULL;
    pthread_mutex_unlock(&lock);
}

static int fake_poll_fd(void)
{
    INSIDE;
    return event_fd;
}

static struct timeline *timeline(uint32_t ctx_id, uint32_t ring_idx)
{
    for (uint32_t i = 0; i < num_timelines; i++) {
        if (timelines[i].ctx_id == ctx_id && timelines[i].ring_idx == ring_idx)
            return &timelines[i];
    }
    timelines[num_timelines] = (struct timeline){.ctx_id = ctx_id, .ring_idx = ring_idx};
    return &timelines[num_timelines++];
}

static void fake_poll(void)
{
    INSIDE;
    uint64_t count;
    struct timeline news[MAX_TIMELINES];
    uint32_t num_news = 0;
    called("poll", "%s", "");
    pthread_mutex_lock(&lock);
    if (event_fd >= 0 && read(event_fd, &count, sizeof(count)) < 0)
        count = 0;
    for (uint32_t i = 0; i < num_timelines; i++) {
        if (timelines[i].retired > timelines[i].told) {
            timelines[i].told = timelines[i].retired;
            news[num_news++] = timelines[i];
        }
    }
    pthread_mutex_unlock(&lock);
    for (uint32_t i = 0; i < num_news; i++)
        events->fence_done(events->cookie, news[i].ctx_id, news[i].ring_idx, news[i].told);
}

static int fake_capset(uint32_t id, uint32_t *version, uint32_t *size)
{
    INSIDE;
    if (id != VG_CAPSET_VIRGL && id != VG_CAPSET_VIRGL2)
        return -ENOENT;
    *version = id;
    *size = 100 * id;
    return 0;
}

static int fake_fill_capset(uint32_t id, uint32_t version, void *out)
{
    INSIDE;
    memset(out, (int)(0x40 + id), 100 * version);
    return 0;
}

static int fake_ctx_create(uint32_t id, uint32_t init, const char *name, uint32_t len)
{
    INSIDE;
    int rc = called("ctx_create", " %u %u %.*s", id, init, (int)len, name);
    for (uint32_t i = 0; rc == 0; i++) {
        if (contexts[i] == 0) {
            contexts[i] = id;
            return 0;
        }
    }
    return rc;
}

static void fake_ctx_destroy(uint32_t id)
{
    INSIDE;
    called("ctx_destroy", " %u", id);
    for (uint32_t i = 0; i < MAX_CONTEXTS; i++) {
        if (contexts[i] == id)
            contexts[i] = 0;
    }
}

static void fake_ctx_attach(uint32_t ctx_id, uint32_t id)
{
    INSIDE;
    called("ctx_attach", " %u %u", ctx_id, id);
}

static void fake_ctx_detach(uint32_t ctx_id, uint32_t id)
{
    INSIDE;
    called("ctx_detach", " %u %u", ctx_id, id);
}

/* The core's lock is held here: nothing may hang. */
static uint64_t fake_resource_bytes(const struct vg_renderer_resource *r)
{
    __uint128_t bytes = (__uint128_t)r->width * r->height * 4;
    if (bytes == 0 || r->target > 8)
        return 0;
    bytes *= r->depth > 1 ? r->depth : 1;
    bytes = bytes > UINT64_MAX ? UINT64_MAX : bytes * (r->array_size > 1 ? r->array_size : 1);
    return bytes > UINT64_MAX ? UINT64_MAX : (uint64_t)bytes;
}

static int fake_resource_create(const struct vg_renderer_resource *r)
{
    INSIDE;
    int rc = called("resource_create", " %u %u %ux%u", r->id, r->format, r->width, r->height);
    if (rc < 0)
        return rc;
    if (find(r->id) != NULL || num_resources == MAX_RESOURCES)
        abort();
    resources[num_resources++] = (struct resource){
        .id = r->id, .width = r->width, .height = r->height, .pixels = calloc(r->height, (size_t)r->width * 4)};
    return 0;
}

static void fake_resource_unref(uint32_t id)
{
    INSIDE;
    called("resource_unref", " %u", id);
    if (find(id)->iov != NULL)
        abort();
    drop(find(id));
}

static int fake_attach_iov(uint32_t id, const struct iovec *iov, uint32_t count)
{
    INSIDE;
    int rc = called("attach_iov", " %u %u", id, count);
    struct resource *res = find(id);
    if (rc < 0)
        return rc;
    if (res->iov != NULL)
        abort();
    res->iov = iov;
    res->iov_count = count;
    return 0;
}

static void fake_detach_iov(uint32_t id)
{
    INSIDE;
    called("detach_iov", " %u", id);
    if (find(id)->iov == NULL)
        abort();
    find(id)->iov = NULL;
}

/* One row between the iovecs, from offset on, and memory. */
static void copy_iov(const struct resource *res, uint64_t offset, uint8_t *mine, uint64_t len, int to_host)
{
    for (uint32_t i = 0; i < res->iov_count && len > 0; i++) {
        uint64_t size = res->iov[i].iov_len;
        if (offset >= size) {
            offset -= size;
            continue;
        }
        uint64_t part = size - offset < len ? size - offset : len;
        uint8_t *theirs = (uint8_t *)res->iov[i].iov_base + offset;
        memcpy(to_host ? mine : theirs, to_host ? theirs : mine, part);
        mine += part;
        len -= part;
        offset = 0;
    }
}

static int fits(const struct resource *res, uint32_t x, uint32_t y, uint32_t width, uint32_t height)
{
    return x <= res->width && width <= res->width - x && y <= res->height && height <= res->height - y;
}

static int fake_transfer(uint32_t id, uint32_t ctx_id, int to_host, uint32_t level, uint32_t stride,
                         uint32_t layer_stride, const struct vg_renderer_box *box, uint64_t offset)
{
    INSIDE;
    int rc = called("transfer", " %u %u %d %u %u %u %ux%u@%u,%u %llu", id, ctx_id, to_host, level, stride, layer_stride,
                    box->width, box->height, box->x, box->y, (unsigned long long)offset);
    struct resource *res = find(id);
    if (rc < 0)
        return rc;
    if (res->iov == NULL)
        abort();
    if (level != 0 || box->z != 0 || box->depth != 1 || !fits(res, box->x, box->y, box->width, box->height))
        return -EINVAL;
    for (uint32_t row = 0; row < box->height; row++) {
        uint8_t *mine = res->pixels + ((uint64_t)(box->y + row) * res->width + box->x) * 4;
        copy_iov(res, offset + (uint64_t)row * (stride ? stride : res->width * 4), mine, (uint64_t)box->width * 4,
                 to_host);
    }
    return 0;
}

static int fake_read_rect(uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, void *dst,
                          uint32_t stride)
{
    INSIDE;
    int rc = called("read_rect", " %u %ux%u@%u,%u", id, width, height, x, y);
    struct resource *res = find(id);
    if (rc < 0)
        return rc;
    if (!fits(res, x, y, width, height))
        abort();
    for (uint32_t row = 0; row < height; row++)
        memcpy((uint8_t *)dst + (uint64_t)row * stride, res->pixels + ((uint64_t)(y + row) * res->width + x) * 4,
               (size_t)width * 4);
    return 0;
}

static int fake_write_rect(uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, const void *src,
                           uint32_t stride)
{
    INSIDE;
    int rc = called("write_rect", " %u %ux%u@%u,%u", id, width, height, x, y);
    struct resource *res = find(id);
    if (rc < 0)
        return rc;
    for (uint32_t row = 0; row < height; row++)
        memcpy(res->pixels + ((uint64_t)(y + row) * res->width + x) * 4, (const uint8_t *)src + (uint64_t)row * stride,
               (size_t)width * 4);
    return 0;
}

static int fake_submit(uint32_t ctx_id, void *stream, uint32_t dwords)
{
    INSIDE;
    const uint32_t *words = stream;
    int rc = called("submit", " %u %u", ctx_id, dwords);
    if (rc < 0 || dwords != 3)
        return rc;
    struct resource *res = find(words[0]);
    if (res == NULL)
        return -EINVAL;
    for (uint64_t i = 0; i < words[2] && i < (uint64_t)res->width * res->height; i++)
        memcpy(res->pixels + 4 * i, &words[1], 4);
    return 0;
}

static int fake_fence(uint32_t ctx_id, uint32_t ring_idx, uint64_t seq)
{
    INSIDE;
    int rc = called("fence", " %u %u %llu", ctx_id, ring_idx, (unsigned long long)seq);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&lock);
    if (seq <= last_seq) /* they only grow; one that failed is not used again */
        abort();
    last_seq = seq;
    if (!hold_fences)
        timeline(ctx_id, ring_idx)->retired = seq;
    pthread_mutex_unlock(&lock);
    return 0;
}

/* Never sooner, though a fence may be done: what the thread does then is what is looked at. */
static void fake_wait(uint64_t ns)
{
    INSIDE;
    const struct timespec time = {.tv_nsec = (long)ns};
    called("wait", " %llu", (unsigned long long)ns);
    nanosleep(&time, NULL);
    fake_poll();
}

static struct vg_renderer_ops ops = {
    .version = VG_RENDERER_VERSION,
    .open = fake_open,
    .close = fake_close,
    .reset = fake_reset_table,
    .poll_fd = fake_poll_fd,
    .poll = fake_poll,
    .capset = fake_capset,
    .fill_capset = fake_fill_capset,
    .ctx_create = fake_ctx_create,
    .ctx_destroy = fake_ctx_destroy,
    .ctx_attach = fake_ctx_attach,
    .ctx_detach = fake_ctx_detach,
    .resource_bytes = fake_resource_bytes,
    .resource_create = fake_resource_create,
    .resource_unref = fake_resource_unref,
    .attach_iov = fake_attach_iov,
    .detach_iov = fake_detach_iov,
    .transfer = fake_transfer,
    .read_rect = fake_read_rect,
    .write_rect = fake_write_rect,
    .submit = fake_submit,
    .fence = fake_fence,
};

/* ---- knobs ---- */

const void *fake_ops(void)
{
    fake_release();
    pthread_mutex_lock(&lock);
    while (num_inside > 0) /* a renderer that was lost comes back now */
        pthread_cond_wait(&changed, &lock);
    while (num_resources > 0)
        drop(&resources[0]);
    memset(contexts, 0, sizeof(contexts));
    memset(failing, 0, sizeof(failing));
    num_timelines = num_calls = 0;
    hold_fences = use_poll_fd = 0;
    hang_at[0] = '\0';
    last_seq = 0;
    ops.wait = NULL;
    pthread_mutex_unlock(&lock);
    return &ops;
}

void fake_fail(const char *name, int result)
{
    pthread_mutex_lock(&lock);
    uint32_t at = 0;
    while (at < MAX_FAILING - 1 && failing[at].name[0] != '\0' && strcmp(failing[at].name, name) != 0)
        at++;
    snprintf(failing[at].name, sizeof(failing[at].name), "%s", name);
    failing[at].result = result;
    pthread_mutex_unlock(&lock);
}

void fake_hold_fences(int hold)
{
    pthread_mutex_lock(&lock);
    hold_fences = hold;
    pthread_mutex_unlock(&lock);
}

void fake_use_poll_fd(int use)
{
    use_poll_fd = use;
}

void fake_use_wait(void)
{
    ops.wait = fake_wait;
}

void fake_retire(uint32_t ctx_id, uint32_t ring_idx, uint64_t seq, int at_once)
{
    const struct vg_renderer_events *to = NULL;
    pthread_mutex_lock(&lock);
    struct timeline *line = timeline(ctx_id, ring_idx);
    line->retired = seq;
    if (at_once) {
        line->told = seq;
        to = events;
    } else if (event_fd >= 0 && eventfd_write(event_fd, 1) < 0) {
        abort();
    }
    pthread_mutex_unlock(&lock);
    if (to != NULL)
        to->fence_done(to->cookie, ctx_id, ring_idx, seq);
}

void fake_hang(const char *name)
{
    pthread_mutex_lock(&lock);
    snprintf(hang_at, sizeof(hang_at), "%s", name != NULL ? name : "");
    pthread_mutex_unlock(&lock);
}

void fake_release(void)
{
    pthread_mutex_lock(&lock);
    hang_at[0] = '\0';
    hanging = 0;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void *release_later(void *unused)
{
    const struct timespec moment = {.tv_nsec = 30000000};
    (void)unused;
    nanosleep(&moment, NULL);
    fake_release();
    return NULL;
}

void fake_release_soon(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, release_later, NULL) != 0)
        abort();
    pthread_detach(thread);
}

int fake_wait_hanging(uint32_t seconds)
{
    struct timespec until;
    int rc = 0;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)seconds;
    pthread_mutex_lock(&lock);
    while (!hanging && rc == 0)
        rc = pthread_cond_timedwait(&changed, &lock, &until);
    pthread_mutex_unlock(&lock);
    return rc == 0 ? 0 : -1;
}

void fake_say(const char *text)
{
    events->message(events->cookie, text);
}

/* ---- looking ---- */

uint32_t fake_num_calls(void)
{
    pthread_mutex_lock(&lock);
    uint32_t count = num_calls;
    pthread_mutex_unlock(&lock);
    return count;
}

const char *fake_call(uint32_t index)
{
    return calls[index];
}

void fake_clear_calls(void)
{
    pthread_mutex_lock(&lock);
    num_calls = 0;
    pthread_mutex_unlock(&lock);
}

uint32_t fake_num_resources(void)
{
    return num_resources;
}

uint32_t fake_num_contexts(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < MAX_CONTEXTS; i++)
        count += contexts[i] != 0;
    return count;
}

uint32_t fake_num_iovs(void)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < num_resources; i++)
        count += resources[i].iov != NULL;
    return count;
}

uint64_t fake_last_seq(void)
{
    pthread_mutex_lock(&lock);
    uint64_t seq = last_seq;
    pthread_mutex_unlock(&lock);
    return seq;
}

uint8_t *fake_pixels(uint32_t id)
{
    struct resource *res = find(id);
    return res != NULL ? res->pixels : NULL;
}
