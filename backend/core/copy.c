/*
 * Copying pixels. A large picture is written past the caches: it would not stay in them until somebody reads it (images
 * take turns, and a screen's pixels are megabytes), and a store that goes through them first reads what it overwrites.
 */
#include <string.h>

#include "vg_copy.h"

#if defined(__SSE2__)

#include <emmintrin.h>

#define BLOCK 64u
#define ALIGNMENT 16u

static void stream_block(uint8_t *dst, const uint8_t *src)
{
    __m128i a = _mm_loadu_si128((const __m128i *)src);
    __m128i b = _mm_loadu_si128((const __m128i *)(src + 16));
    __m128i c = _mm_loadu_si128((const __m128i *)(src + 32));
    __m128i d = _mm_loadu_si128((const __m128i *)(src + 48));

    _mm_stream_si128((__m128i *)dst, a);
    _mm_stream_si128((__m128i *)(dst + 16), b);
    _mm_stream_si128((__m128i *)(dst + 32), c);
    _mm_stream_si128((__m128i *)(dst + 48), d);
}

void vg_copy_stream(uint8_t *dst, const uint8_t *src, size_t len)
{
    size_t head = -(uintptr_t)dst % ALIGNMENT;

    if (head > len)
        head = len;
    memcpy(dst, src, head);
    for (dst += head, src += head, len -= head; len >= BLOCK; dst += BLOCK, src += BLOCK, len -= BLOCK)
        stream_block(dst, src);
    memcpy(dst, src, len);
}

void vg_copy_stream_end(void)
{
    _mm_sfence();
}

#else

void vg_copy_stream(uint8_t *dst, const uint8_t *src, size_t len)
{
    memcpy(dst, src, len);
}

void vg_copy_stream_end(void)
{
}

#endif
