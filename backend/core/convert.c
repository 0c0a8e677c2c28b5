/*
 * The eight virtio-gpu pixel formats to x8r8g8b8 and a8r8g8b8 (bytes B G R X and B G R A). A format's name gives the
 * order of its bytes in memory (enum virtio_gpu_formats, virtio_gpu.h). A pixel is read as a little-endian number, so
 * every format is one of four byte rotations or swaps and a mask; the loops are plain so that compilers vectorise them.
 */
#include "vg_internal.h"

#include <linux/virtio_gpu.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the pixel loops are written for little-endian hosts, as virtio 1 devices' data is"
#endif

#if defined(__GNUC__) && !defined(__clang__)
#define VECTORISED __attribute__((optimize("O3")))
#else
#define VECTORISED
#endif

typedef void convert_row(uint8_t *dst, const uint8_t *src, size_t pixels, uint32_t keep, uint32_t set);

static inline uint32_t load(const uint8_t *p, size_t i)
{
    uint32_t value;

    memcpy(&value, p + i * VG_PIXEL_BYTES, sizeof(value));
    return value;
}

static inline void store(uint8_t *p, size_t i, uint32_t value)
{
    memcpy(p + i * VG_PIXEL_BYTES, &value, sizeof(value));
}

/* B G R A: as it is. */
VECTORISED static void from_bgra(uint8_t *restrict dst, const uint8_t *restrict src, size_t n, uint32_t keep,
                                 uint32_t set)
{
    for (size_t i = 0; i < n; i++)
        store(dst, i, (load(src, i) & keep) | set);
}

/* A R G B: all four bytes turned round. */
VECTORISED static void from_argb(uint8_t *restrict dst, const uint8_t *restrict src, size_t n, uint32_t keep,
                                 uint32_t set)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v = load(src, i);
        uint32_t turned = (v >> 24) | ((v >> 8) & 0xff00u) | ((v << 8) & 0xff0000u) | (v << 24);

        store(dst, i, (turned & keep) | set);
    }
}

/* R G B A: red and blue change places. */
VECTORISED static void from_rgba(uint8_t *restrict dst, const uint8_t *restrict src, size_t n, uint32_t keep,
                                 uint32_t set)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v = load(src, i);
        uint32_t swapped = (v & 0xff00ff00u) | ((v >> 16) & 0xffu) | ((v & 0xffu) << 16);

        store(dst, i, (swapped & keep) | set);
    }
}

/* A B G R: alpha moves from the first byte to the last. */
VECTORISED static void from_abgr(uint8_t *restrict dst, const uint8_t *restrict src, size_t n, uint32_t keep,
                                 uint32_t set)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t v = load(src, i);

        store(dst, i, (((v >> 8) | (v << 24)) & keep) | set);
    }
}

/* NULL: not a format. */
static convert_row *lookup(uint32_t format)
{
    switch (format) {
    case VIRTIO_GPU_FORMAT_B8G8R8A8_UNORM:
        return from_bgra;
    case VIRTIO_GPU_FORMAT_B8G8R8X8_UNORM:
        return from_bgra;
    case VIRTIO_GPU_FORMAT_A8R8G8B8_UNORM:
        return from_argb;
    case VIRTIO_GPU_FORMAT_X8R8G8B8_UNORM:
        return from_argb;
    case VIRTIO_GPU_FORMAT_R8G8B8A8_UNORM:
        return from_rgba;
    case VIRTIO_GPU_FORMAT_R8G8B8X8_UNORM:
        return from_rgba;
    case VIRTIO_GPU_FORMAT_A8B8G8R8_UNORM:
        return from_abgr;
    case VIRTIO_GPU_FORMAT_X8B8G8R8_UNORM:
        return from_abgr;
    default:
        return NULL;
    }
}

bool vg_format_known(uint32_t format)
{
    return lookup(format) != NULL;
}

void vg_convert_xrgb(void *dst, const void *src, size_t pixels, uint32_t format)
{
    lookup(format)(dst, src, pixels, 0x00ffffffu, 0);
}

/* The X of a format counts as alpha: Linux makes every dumb buffer, and so X servers' cursors, in an X format. */
void vg_convert_argb(void *dst, const void *src, size_t pixels, uint32_t format)
{
    lookup(format)(dst, src, pixels, 0xffffffffu, 0);
}
