/* Copying pixels past the caches (copy.c). */
#ifndef VG_COPY_H
#define VG_COPY_H

#include <stddef.h>
#include <stdint.h>

/* From so many bytes on a rectangle is copied past the caches. */
#define VG_STREAM_FROM (1024u * 1024u)

/* As memcpy; what was written is in order with later stores only after vg_copy_stream_end. next: what will be copied after
   it, or NULL. */
void vg_copy_stream(uint8_t *dst, const uint8_t *src, size_t len, const uint8_t *next);
void vg_copy_stream_end(void);

#endif
