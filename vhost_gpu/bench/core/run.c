/* Operations over a queue: so many in flight, each timed from its kick to its last response. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "vb_ring.h"
#include "vb_slice.h"

#define SECOND 1000000000u
#define PATIENCE 10u                    /* seconds without an answer */
#define TABLE_AT VB_MAX_REQUEST         /* offsets in a chain's part of the arena */
#define REPLY_AT (VB_MAX_REQUEST + 64)

/* What the device writes first: struct virtio_gpu_ctrl_hdr begins with the type. */
#define HEADER_SIZE 24
#define FLAGS_AT 4
#define FENCE_AT 8
#define FLAG_FENCE 1u

typedef struct {
    uint64_t begun;
    uint64_t number;        /* of the operation */
    uint32_t out;           /* its commands that have not come back */
} slot;

typedef struct {
    vb_queue *queue;
    const vb_job *job;
    vb_result *result;
    slot *slots;
    uint64_t stride;        /* bytes of the arena for each chain */
    uint64_t begun, due;
    uint64_t started;       /* operations */
    uint32_t *idle;         /* slots whose operation is done */
    uint32_t idles;
} run;

static const vb_command *command_of(const run *r, uint64_t number, uint32_t i)
{
    return &r->job->commands[number % r->job->variants * r->job->per_op + i];
}

static uint64_t arena_stride(const vb_job *job)
{
    uint64_t longest = HEADER_SIZE;

    for (uint64_t i = 0; i < (uint64_t)job->variants * job->per_op; i++)
        if (job->commands[i].reply_length > longest)
            longest = job->commands[i].reply_length;
    return REPLY_AT + ((longest + 63) & ~(uint64_t)63);
}

static bool fenced(const uint8_t *header)
{
    uint32_t flags;

    memcpy(&flags, header + FLAGS_AT, sizeof(flags));
    return flags & FLAG_FENCE;
}

static void write_request(run *r, uint8_t *memory, const vb_command *command)
{
    memcpy(memory, command->request, sizeof(command->request));
    memset(memory + REPLY_AT, 0, HEADER_SIZE);
    if (!fenced(command->request) || command->length < HEADER_SIZE)
        return;
    r->queue->fence++;
    memcpy(memory + FENCE_AT, &r->queue->fence, sizeof(r->queue->fence));
}

static void post_command(run *r, uint32_t index, const vb_command *command)
{
    vb_queue *queue = r->queue;
    uint64_t at = index * r->stride;
    uint8_t *memory = queue->arena + at;
    vb_chain chain = {
        .request = queue->arena_gpa + at,
        .payload = command->payload_gpa,
        .reply = queue->arena_gpa + at + REPLY_AT,
        .request_length = command->length,
        .payload_length = command->payload_length,
        .reply_length = command->reply_length,
        .table = memory + TABLE_AT,
        .table_gpa = queue->arena_gpa + at + TABLE_AT,
    };

    write_request(r, memory, command);
    vb_ring_add(queue, index, &chain);
}

/* Sends the next operation; one look at whether the device wants a kick, as Linux does for a batch. */
static void post(run *r, uint32_t index)
{
    slot *s = &r->slots[index];

    s->number = r->started++;
    s->out = r->job->per_op;
    for (uint32_t i = 0; i < r->job->per_op; i++)
        post_command(r, index * r->job->per_op + i, command_of(r, s->number, i));
    s->begun = vb_now();
    if (vb_ring_publish(r->queue)) {
        r->result->kicks++;
        vb_signal(r->queue->kick_fd);
    }
}

static bool over(const run *r, uint64_t now)
{
    const vb_job *job = r->job;

    if (job->max_ops && r->started >= job->max_ops)
        return true;
    if (job->max_ns && now - r->begun >= job->max_ns)
        return true;
    return job->stop && __atomic_load_n(job->stop, __ATOMIC_RELAXED);
}

/* Sends what may be sent now; the time until the next one is due when that is later, else 0. */
static uint64_t post_idle(run *r)
{
    while (r->idles) {
        uint64_t now = vb_now();

        if (over(r, now))
            return 0;
        if (r->job->interval_ns && now < r->due)
            return r->due - now;
        if (r->job->interval_ns)
            r->due = now - r->due > r->job->interval_ns ? now + r->job->interval_ns : r->due + r->job->interval_ns;
        post(r, r->idle[--r->idles]);
    }
    return 0;
}

static void check_reply(run *r, uint32_t index, const vb_command *command, uint32_t length)
{
    const uint8_t *request = r->queue->arena + index * r->stride, *reply = request + REPLY_AT;
    uint32_t type;

    if (!command->reply_length)
        return;
    if (fenced(request) && (!fenced(reply) || memcmp(request + FENCE_AT, reply + FENCE_AT, sizeof(uint64_t))))
        r->result->lost_fences++;
    memcpy(&type, reply, sizeof(type));
    if (type == command->expect && length >= HEADER_SIZE)
        return;
    if (!r->result->errors++)
        r->result->error_type = type;
}

static void finish(run *r, uint32_t index, uint64_t now)
{
    vb_result *result = r->result;

    result->operations++;
    if (r->job->latency && result->latencies < r->job->latency_room)
        r->job->latency[result->latencies++] = now - r->slots[index].begun;
    r->idle[r->idles++] = index;
}

static int returned(run *r, uint32_t index, uint32_t length)
{
    uint32_t per_op = r->job->per_op;
    slot *s = &r->slots[index / per_op];

    if (index >= r->job->depth * per_op || !s->out)
        return -EPROTO;
    check_reply(r, index, command_of(r, s->number, index % per_op), length);
    r->result->commands++;
    if (!--s->out)
        finish(r, index / per_op, vb_now());
    return 0;
}

static int harvest(run *r)
{
    uint32_t index, length;

    do {
        uint64_t before = r->result->commands;
        int got;

        while ((got = vb_ring_next_used(r->queue, &index, &length)) > 0)
            if (returned(r, index, length))
                return -EPROTO;
        if (got < 0)
            return got;
        r->result->batches += r->result->commands > before;
    } while (vb_ring_arm(r->queue));
    return 0;
}

static bool peer_is_gone(int fd)
{
    struct pollfd entry = {.fd = fd, .events = POLLRDHUP};

    return fd >= 0 && poll(&entry, 1, 0) > 0;
}

/* Sleeps until the device interrupts, or for ns if that is not 0. */
static int wait_interrupt(run *r, uint64_t ns)
{
    for (uint32_t i = 0; i < 2 * PATIENCE; i++) {
        int ready = vb_wait(r->queue->call_fd, ns ? ns : SECOND / 2);

        if (ready > 0) {
            r->result->interrupts += vb_take(r->queue->call_fd);
            return 0;
        }
        if (ready < 0)
            return ready;
        if (ns)
            return 0;
        if (peer_is_gone(r->queue->peer_fd))
            return -EPIPE;
    }
    return -ETIMEDOUT;
}

static int loop(run *r)
{
    uint64_t until_due = post_idle(r);

    while (r->idles < r->job->depth || until_due) {
        int error = wait_interrupt(r, until_due);

        if (!error)
            error = harvest(r);
        if (error)
            return error;
        until_due = post_idle(r);
    }
    return 0;
}

/* A thread that sleeps between commands gets its turn soon, or its wait for a CPU would be measured as the device's. */
static int paced_loop(run *r)
{
    uint64_t before = r->job->interval_ns ? vb_set_slice(VB_SHORT_SLICE_NS) : 0;
    int error = loop(r);

    if (before)
        vb_set_slice(before);
    return error;
}

static bool payloads_fit(const vb_queue *queue, const vb_job *job)
{
    for (uint64_t i = 0; i < (uint64_t)job->variants * job->per_op; i++)
        if (job->commands[i].payload_length && !(queue->indirect && job->commands[i].reply_length))
            return false;
    return true;
}

static bool fits(const vb_queue *queue, const vb_job *job, uint64_t stride)
{
    uint64_t chains = (uint64_t)job->depth * job->per_op;

    return payloads_fit(queue, job) && queue->size <= VB_MAX_QUEUE && job->variants && chains && chains <= vb_ring_room(queue) &&
           chains * stride <= queue->arena_size;
}

int vb_run(vb_queue *queue, const vb_job *job, vb_result *result)
{
    run r = {.queue = queue, .job = job, .result = result, .stride = arena_stride(job)};
    int error = -ENOMEM;

    memset(result, 0, sizeof(*result));
    if (!fits(queue, job, r.stride))
        return -EINVAL;
    r.slots = calloc(job->depth, sizeof(*r.slots));
    r.idle = calloc(job->depth, sizeof(*r.idle));
    if (r.slots && r.idle) {
        for (; r.idles < job->depth; r.idles++)
            r.idle[r.idles] = job->depth - 1 - r.idles;
        vb_take(queue->call_fd);
        vb_ring_begin(queue);
        r.begun = r.due = vb_now();
        error = paced_loop(&r);
        result->ns = vb_now() - r.begun;
    }
    free(r.slots);
    free(r.idle);
    return error;
}
