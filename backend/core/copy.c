/*
 * Copying pixels. A large picture is written past the caches: it would not stay in them until somebody reads it (images
 * take turns, and a screen's pixels are megabytes), and a store that goes through them first reads what it overwrites.
 *
 * Backing is often single pages in no order, at whose ends the processor's own look ahead stops: so what comes next is
 * fetched early, across those ends. That halves the time of a copy from memory that is in no cache.
 */
#include <string.h>

#include "vg_copy.h"

#if defined(__SSE2__)

#include <immintrin.h>

#define BLOCK 64u
#define AHEAD 2048u

static inline void fetch_ahead(const uint8_t *src, size_t left, const uint8_t *next)
{
    if (left > AHEAD)
        _mm_prefetch((const char *)src + AHEAD, _MM_HINT_T0);
    else if (next)
        _mm_prefetch((const char *)next + (AHEAD - left), _MM_HINT_T0);
}

static inline void copy_16(uint8_t *dst, const uint8_t *src)
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

static size_t blocks_16(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *next)
{
    size_t at = 0;

    for (; len - at >= BLOCK; at += BLOCK) {
        fetch_ahead(src + at, len - at, next);
        copy_16(dst + at, src + at);
    }
    return at;
}

/* Half as many instructions, where the processor has them. */
__attribute__((target("avx2"))) static size_t blocks_32(uint8_t *dst, const uint8_t *src, size_t len,
                                                        const uint8_t *next)
{
    size_t at = 0;

    for (; len - at >= BLOCK; at += BLOCK) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(src + at));
        __m256i b = _mm256_loadu_si256((const __m256i *)(src + at + 32));

        fetch_ahead(src + at, len - at, next);
        _mm256_stream_si256((__m256i *)(dst + at), a);
        _mm256_stream_si256((__m256i *)(dst + at + 32), b);
    }
    return at;
}

void vg_copy_stream(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *next)
{
    size_t head = -(uintptr_t)dst % BLOCK, done;

    if (head > len)
        head = len;
    memcpy(dst, src, head);
    dst += head;
    src += head;
    len -= head;
    done = __builtin_cpu_supports("avx2") ? blocks_32(dst, src, len, next) : blocks_16(dst, src, len, next);
    memcpy(dst + done, src + done, len - done);
}

void vg_copy_stream_end(void)
{
    _mm_sfence();
}

#else

void vg_copy_stream(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *next)
{
    (void)next;
    memcpy(dst, src, len);
}

void vg_copy_stream_end(void)
{
}

#endif
