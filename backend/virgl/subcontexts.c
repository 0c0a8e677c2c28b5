/*
 * How many sub-contexts there are: each is a context of OpenGL, some 2 MiB, and a stream of a few words makes a hundred.
 * Their table follows what virglrenderer executes; after an error it may hold some that were never made, never fewer.
 */
#include <stddef.h>

#include "vg_virgl.h"

#define MAX_SUB_CONTEXTS 256u /* of all contexts; not counted: the one that each begins with, 0 */
#define CREATE_SUB_CTX 29u
#define DESTROY_SUB_CTX 30u

struct sub_context {
    uint32_t ctx, id;
};

static struct sub_context made[MAX_SUB_CONTEXTS];
static uint32_t num_made;

static struct sub_context *find(uint32_t ctx, uint32_t id)
{
    for (uint32_t i = 0; i < num_made; i++) {
        if (made[i].ctx == ctx && made[i].id == id)
            return &made[i];
    }
    return NULL;
}

static void add(uint32_t ctx, uint32_t id)
{
    if (id != 0 && find(ctx, id) == NULL && num_made < MAX_SUB_CONTEXTS)
        made[num_made++] = (struct sub_context){ctx, id};
}

static void drop(uint32_t ctx, uint32_t id)
{
    struct sub_context *one = find(ctx, id);
    if (one != NULL)
        *one = made[--num_made];
}

/* The next command of a kind from a place on that has the one word it should have; count: there is none. */
static uint32_t next(const uint32_t *words, uint32_t count, uint32_t at)
{
    while (at < count) {
        uint32_t command = words[at] & 0xff, length = words[at] >> 16;
        if (length >= count - at)
            return count;
        if ((command == CREATE_SUB_CTX || command == DESTROY_SUB_CTX) && length == 1)
            return at;
        at += length + 1;
    }
    return count;
}

int vg_sub_contexts_fit(uint32_t ctx, const uint32_t *words, uint32_t count)
{
    uint32_t room = MAX_SUB_CONTEXTS - num_made;
    for (uint32_t at = next(words, count, 0); at < count; at = next(words, count, at + 2)) {
        if ((words[at] & 0xff) != CREATE_SUB_CTX || words[at + 1] == 0 || find(ctx, words[at + 1]) != NULL)
            continue;
        if (room-- == 0)
            return 0;
    }
    return 1;
}

void vg_sub_contexts_follow(uint32_t ctx, const uint32_t *words, uint32_t count, int all_executed)
{
    for (uint32_t at = next(words, count, 0); at < count; at = next(words, count, at + 2)) {
        if ((words[at] & 0xff) == CREATE_SUB_CTX)
            add(ctx, words[at + 1]);
        else if (all_executed)
            drop(ctx, words[at + 1]);
    }
}

void vg_sub_contexts_forget(uint32_t ctx)
{
    for (uint32_t i = num_made; i > 0; i--) {
        if (ctx == 0 || made[i - 1].ctx == ctx)
            made[i - 1] = made[--num_made];
    }
}
