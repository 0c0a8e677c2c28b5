/*
 * Blocks of the VirGL formats (enum virgl_formats of virgl_hw.h, which counts as gallium's enum pipe_format once did).
 * Planar formats are left out: they are for video, which is not offered.
 */
#include <stddef.h>

#include "vg_virgl.h"

struct run {
    uint16_t first, last;
    uint8_t width, height, bytes;
    uint8_t vector; /* 1 to 4 components in turn, of so many bytes each */
};

static const struct run runs[] = {
    {1, 4, 1, 1, 4, 0},      /* B8G8R8A8 and its like */
    {5, 7, 1, 1, 2, 0},      /* B5G5R5A1, B4G4R4A4, B5G6R5 */
    {8, 8, 1, 1, 4, 0},      /* R10G10B10A2 */
    {9, 11, 1, 1, 1, 0},     /* L8, A8, I8 */
    {12, 13, 1, 1, 2, 0},    /* L8A8, L16 */
    {14, 15, 2, 1, 4, 0},    /* UYVY, YUYV */
    {16, 16, 1, 1, 2, 0},    /* Z16 */
    {17, 22, 1, 1, 4, 0},    /* Z32, Z24S8 */
    {23, 23, 1, 1, 1, 0},    /* S8 */
    {24, 27, 1, 1, 8, 1},    /* R64 float */
    {28, 47, 1, 1, 4, 1},    /* R32 */
    {48, 63, 1, 1, 2, 1},    /* R16 */
    {64, 67, 1, 1, 1, 1},    /* R8 */
    {68, 68, 1, 1, 4, 0},    /* X8B8G8R8 */
    {69, 72, 1, 1, 1, 1},    /* R8 uscaled */
    {74, 77, 1, 1, 1, 1},    /* R8 snorm */
    {82, 85, 1, 1, 1, 1},    /* R8 sscaled */
    {87, 90, 1, 1, 4, 1},    /* R32 fixed */
    {91, 94, 1, 1, 2, 1},    /* R16 float */
    {95, 97, 1, 1, 1, 1},    /* L8, L8A8, R8G8B8 srgb */
    {98, 104, 1, 1, 4, 0},   /* A8B8G8R8 srgb and its like */
    {105, 106, 4, 4, 8, 0},  /* DXT1 */
    {107, 108, 4, 4, 16, 0}, /* DXT3, DXT5 */
    {109, 110, 4, 4, 8, 0},  /* DXT1 srgb */
    {111, 112, 4, 4, 16, 0}, /* DXT3, DXT5 srgb */
    {113, 114, 4, 4, 8, 0},  /* RGTC1 */
    {115, 116, 4, 4, 16, 0}, /* RGTC2 */
    {117, 118, 2, 1, 4, 0},  /* R8G8_B8G8, G8R8_G8B8 */
    {119, 119, 1, 1, 4, 0},  /* R8SG8SB8UX8U */
    {120, 120, 1, 1, 2, 0},  /* R5SG5SB6U */
    {121, 121, 1, 1, 4, 0},  /* A8B8G8R8 */
    {122, 122, 1, 1, 2, 0},  /* B5G5R5X1 */
    {123, 125, 1, 1, 4, 0},  /* R10G10B10A2, R11G11B10, R9G9B9E5 */
    {126, 126, 1, 1, 8, 0},  /* Z32_FLOAT_S8X24 */
    {128, 129, 1, 1, 4, 0},  /* R10G10B10X2 */
    {130, 130, 1, 1, 1, 0},  /* L4A4 */
    {131, 132, 1, 1, 4, 0},  /* B10G10R10A2, R10SG10SB10SA2U */
    {133, 133, 1, 1, 2, 0},  /* R8G8Bx */
    {134, 134, 1, 1, 4, 0},  /* R8G8B8X8 */
    {135, 135, 1, 1, 2, 0},  /* B4G4R4X4 */
    {136, 137, 1, 1, 4, 0},  /* X24S8, S8X24 */
    {138, 138, 1, 1, 8, 0},  /* X32_S8X24 */
    {139, 139, 1, 1, 1, 0},  /* B2G3R3 */
    {140, 140, 1, 1, 4, 0},  /* L16A16 */
    {141, 142, 1, 1, 2, 0},  /* A16, I16 */
    {143, 144, 4, 4, 8, 0},  /* LATC1 */
    {145, 146, 4, 4, 16, 0}, /* LATC2 */
    {147, 148, 1, 1, 1, 0},  /* A8, L8 snorm */
    {149, 149, 1, 1, 2, 0},  /* L8A8 snorm */
    {150, 150, 1, 1, 1, 0},  /* I8 snorm */
    {151, 152, 1, 1, 2, 0},  /* A16, L16 snorm */
    {153, 153, 1, 1, 4, 0},  /* L16A16 snorm */
    {154, 156, 1, 1, 2, 0},  /* I16 snorm, A16, L16 float */
    {157, 157, 1, 1, 4, 0},  /* L16A16 float */
    {158, 158, 1, 1, 2, 0},  /* I16 float */
    {159, 160, 1, 1, 4, 0},  /* A32, L32 float */
    {161, 161, 1, 1, 8, 0},  /* L32A32 float */
    {162, 162, 1, 1, 4, 0},  /* I32 float */
    {168, 169, 1, 1, 1, 0},  /* A4R4, R4A4 */
    {170, 171, 1, 1, 2, 0},  /* R8A8, A8R8 */
    {172, 176, 1, 1, 4, 0},  /* R10G10B10A2, B10G10R10A2 */
    {177, 184, 1, 1, 1, 1},  /* R8 uint, sint */
    {185, 192, 1, 1, 2, 1},  /* R16 uint, sint */
    {193, 200, 1, 1, 4, 1},  /* R32 uint, sint */
    {201, 203, 1, 1, 1, 0},  /* A8, I8, L8 uint */
    {204, 204, 1, 1, 2, 0},  /* L8A8 uint */
    {205, 207, 1, 1, 1, 0},  /* A8, I8, L8 sint */
    {208, 208, 1, 1, 2, 0},  /* L8A8 sint */
    {209, 211, 1, 1, 2, 0},  /* A16, I16, L16 uint */
    {212, 212, 1, 1, 4, 0},  /* L16A16 uint */
    {213, 215, 1, 1, 2, 0},  /* A16, I16, L16 sint */
    {216, 216, 1, 1, 4, 0},  /* L16A16 sint */
    {217, 219, 1, 1, 4, 0},  /* A32, I32, L32 uint */
    {220, 220, 1, 1, 8, 0},  /* L32A32 uint */
    {221, 223, 1, 1, 4, 0},  /* A32, I32, L32 sint */
    {224, 224, 1, 1, 8, 0},  /* L32A32 sint */
    {225, 225, 1, 1, 4, 0},  /* B10G10R10A2 uint */
    {226, 226, 4, 4, 8, 0},  /* ETC1 */
    {227, 228, 2, 1, 4, 0},  /* R8G8_R8B8, G8R8_B8R8 */
    {229, 233, 1, 1, 4, 0},  /* R8G8B8X8, B10G10R10X2 */
    {234, 238, 1, 1, 8, 0},  /* R16G16B16X16 */
    {239, 241, 1, 1, 16, 0}, /* R32G32B32X32 */
    {242, 242, 1, 1, 2, 0},  /* R8A8 snorm */
    {243, 245, 1, 1, 4, 0},  /* R16A16 */
    {246, 246, 1, 1, 8, 0},  /* R32A32 float */
    {247, 248, 1, 1, 2, 0},  /* R8A8 uint, sint */
    {249, 250, 1, 1, 4, 0},  /* R16A16 uint, sint */
    {251, 252, 1, 1, 8, 0},  /* R32A32 uint, sint */
    {253, 253, 1, 1, 4, 0},  /* R10G10B10A2 uint */
    {254, 254, 1, 1, 2, 0},  /* B5G6R5 srgb */
    {255, 258, 4, 4, 16, 0}, /* BPTC */
    {259, 261, 1, 1, 2, 0},  /* A8L8 */
    {262, 262, 1, 1, 4, 0},  /* A16L16 */
    {263, 264, 1, 1, 2, 0},  /* G8R8 */
    {265, 268, 1, 1, 4, 0},  /* G16R16, A8B8G8R8, X8B8G8R8 snorm */
    {269, 272, 4, 4, 8, 0},  /* ETC2 RGB8, RGB8A1 */
    {273, 274, 4, 4, 16, 0}, /* ETC2 RGBA8 */
    {275, 276, 4, 4, 8, 0},  /* ETC2 R11 */
    {277, 278, 4, 4, 16, 0}, /* ETC2 RG11 */
    {308, 308, 1, 1, 4, 0},  /* R10G10B10X2 */
    {311, 311, 1, 1, 2, 0},  /* A4B4G4R4 */
    {312, 312, 1, 1, 1, 0},  /* R8 srgb */
};

/* ASTC: these blocks for linear colours, then the same for srgb ones. */
#define FIRST_ASTC 279u
#define NUM_ASTC 14u
static const uint8_t astc[NUM_ASTC][2] = {
    {4, 4}, {5, 4}, {5, 5}, {6, 5}, {6, 6}, {8, 5}, {8, 6}, {8, 8}, {10, 5}, {10, 6}, {10, 8}, {10, 10}, {12, 10}, {12, 12},
};

static const struct run *find_run(uint32_t format)
{
    size_t low = 0, high = sizeof(runs) / sizeof(runs[0]);
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (format < runs[middle].first)
            high = middle;
        else if (format > runs[middle].last)
            low = middle + 1;
        else
            return &runs[middle];
    }
    return NULL;
}

struct vg_block vg_format_block(uint32_t format)
{
    if (format - FIRST_ASTC < 2 * NUM_ASTC) {
        const uint8_t *sides = astc[(format - FIRST_ASTC) % NUM_ASTC];
        return (struct vg_block){sides[0], sides[1], 16};
    }
    const struct run *run = find_run(format);
    if (run == NULL)
        return (struct vg_block){1, 1, 0};
    uint8_t times = run->vector ? (uint8_t)(1 + (format - run->first) % 4) : 1;
    return (struct vg_block){run->width, run->height, (uint8_t)(run->bytes * times)};
}
