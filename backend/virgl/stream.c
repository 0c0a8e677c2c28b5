/*
 * A look at command streams before virglrenderer sees them (0.10.4; its virgl_protocol.h), for what it gets wrong: boxes so
 * far out that sums of theirs overflow an int, which OpenGL's checks let pass, so that a copy reads and writes beside the
 * texture; a number of a format as the index of a table; textures that are made out of sight of the budget, for blobs of
 * the host's that are not offered; sub-contexts without end (subcontexts.c).
 */
#include "vg_virgl.h"

/* Larger than any resource; two of them fit an int. Blits have negative sizes, too. */
#define FARTHEST (INT32_C(1) << 30)
#define LEVELS 32u
#define NONE 0xff
/* Numbers of formats from here on are planar, or nobody's. */
#define FORMATS 314u
#define IMAGES_HEAD 2u
#define IMAGE_WORDS 5u

enum {
    CMD_RESOURCE_INLINE_WRITE = 9,
    CMD_BLIT = 16,
    CMD_RESOURCE_COPY_REGION = 17,
    CMD_CREATE_SUB_CTX = 29,
    CMD_DESTROY_SUB_CTX = 30,
    CMD_SET_SHADER_IMAGES = 35,
    CMD_TRANSFER3D = 43,
    CMD_COPY_TRANSFER3D = 45,
    CMD_CLEAR_TEXTURE = 47,
    CMD_PIPE_RESOURCE_CREATE = 48,
};

/* Where a command has levels and places, counted in words from its header: a position of three words, most often with
   its size of three more behind it. */
struct places {
    uint8_t level[2], position[2], size[2];
};

static struct places places_of(uint32_t command)
{
    switch (command) {
    case CMD_RESOURCE_INLINE_WRITE:
    case CMD_TRANSFER3D:
    case CMD_COPY_TRANSFER3D:
        return (struct places){{2, NONE}, {6, NONE}, {9, NONE}};
    case CMD_BLIT:
        return (struct places){{5, 14}, {7, 16}, {10, 19}};
    case CMD_RESOURCE_COPY_REGION:
        return (struct places){{2, 7}, {3, 8}, {11, NONE}};
    case CMD_CLEAR_TEXTURE:
        return (struct places){{2, NONE}, {3, NONE}, {6, NONE}};
    default:
        return (struct places){{NONE, NONE}, {NONE, NONE}, {NONE, NONE}};
    }
}

static int is_near(const uint32_t *words, uint32_t length, uint8_t at, int32_t farthest)
{
    for (uint32_t i = at; at != NONE && i < at + 3u && i <= length; i++) {
        int32_t value = (int32_t)words[i];
        if (value > farthest || value < -farthest)
            return 0;
    }
    return 1;
}

static int is_level(const uint32_t *words, uint32_t length, uint8_t at)
{
    return at == NONE || at > length || words[at] < LEVELS;
}

static int places_sound(const uint32_t *words, uint32_t length)
{
    const struct places places = places_of(words[0] & 0xff);
    for (int i = 0; i < 2; i++) {
        if (!is_level(words, length, places.level[i]) || !is_near(words, length, places.position[i], FARTHEST - 1) ||
            !is_near(words, length, places.size[i], FARTHEST))
            return 0;
    }
    return 1;
}

static int images_sound(const uint32_t *words, uint32_t length)
{
    for (uint32_t at = IMAGES_HEAD + 1; at <= length; at += IMAGE_WORDS) {
        if (words[at] >= FORMATS)
            return 0;
    }
    return 1;
}

static int command_sound(const uint32_t *words, uint32_t length)
{
    switch (words[0] & 0xff) {
    case CMD_SET_SHADER_IMAGES:
        return images_sound(words, length);
    case CMD_PIPE_RESOURCE_CREATE:
        return 0;
    default:
        return places_sound(words, length);
    }
}

static int is_sub_context(uint32_t command)
{
    return command == CMD_CREATE_SUB_CTX || command == CMD_DESTROY_SUB_CTX;
}

int vg_stream_sound(const uint32_t *words, uint32_t count, int *sub_contexts)
{
    *sub_contexts = 0;
    for (uint32_t at = 0; at < count;) {
        uint32_t length = words[at] >> 16;
        if (length >= count - at)
            return 1; /* it ends early: virglrenderer executes what is before */
        if (!command_sound(words + at, length))
            return 0;
        *sub_contexts |= is_sub_context(words[at] & 0xff);
        at += length + 1;
    }
    return 1;
}
