/*
 * What the files of the VirGL renderer share: virglrenderer behind the core's function table (vg_renderer.h).
 * Everything runs on the render thread, which is the only one that may hold virglrenderer's GL contexts, but the callbacks
 * of fences.
 */
#ifndef VG_VIRGL_H
#define VG_VIRGL_H

#include <stdint.h>
#include <sys/uio.h>

#include "vg_renderer.h"

/* ---- format.c ---- */

/* Of a VIRGL_FORMAT: a block of so many pixels takes so many bytes. bytes 0: no format that a resource may have. */
struct vg_block { uint8_t width, height, bytes; };
struct vg_block vg_format_block(uint32_t format);

/* ---- layout.c ---- */

/* enum pipe_texture_target, which RESOURCE_CREATE_3D's target is. */
enum {
    VG_TARGET_BUFFER,
    VG_TARGET_1D,
    VG_TARGET_2D,
    VG_TARGET_3D,
    VG_TARGET_CUBE,
    VG_TARGET_RECT,
    VG_TARGET_1D_ARRAY,
    VG_TARGET_2D_ARRAY,
    VG_TARGET_CUBE_ARRAY,
};

/* Pixels of one level: depth counts slices of a 3D texture, and layers of any other. */
struct vg_extent { uint32_t width, height, depth; };
struct vg_extent vg_level_extent(const struct vg_renderer_resource *resource, uint32_t level);
/* Whether virglrenderer can be asked for such a resource at all; any values. */
int vg_layout_valid(const struct vg_renderer_resource *resource);
/* Bytes that a valid resource takes at most, with what the renderer keeps beside its pixels. */
uint64_t vg_layout_bytes(const struct vg_renderer_resource *resource);
/* Bytes from the first to the last one of a box in guest memory, whose rows are stride bytes apart (0: as a whole row of
   the level is long) and whose layers layer_stride (0: as all rows of the level are). 0: the box is empty, outside of the
   level, or a stride is too small for it. */
uint64_t vg_transfer_span(const struct vg_renderer_resource *resource, uint32_t level, uint32_t stride,
                          uint32_t layer_stride, const struct vg_renderer_box *box);

/* ---- resources.c ---- */

int vg_virgl_resource_create(const struct vg_renderer_resource *resource);
void vg_virgl_resource_unref(uint32_t id);
int vg_virgl_attach_iov(uint32_t id, const struct iovec *iov, uint32_t count);
void vg_virgl_detach_iov(uint32_t id);
int vg_virgl_transfer(uint32_t id, uint32_t ctx, int to_host, uint32_t level, uint32_t stride, uint32_t layer_stride,
                      const struct vg_renderer_box *box, uint64_t offset);
int vg_virgl_read_rect(uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, void *dst, uint32_t stride);
int vg_virgl_write_rect(uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, const void *src,
                        uint32_t stride);
/* Frees what is kept of every resource; virglrenderer has dropped its own already. */
void vg_virgl_forget_resources(void);
/* Whether new resources have to be cleared: not every GL driver does it. */
void vg_virgl_clear_resources(int clear);

/* ---- readback.c ---- */

/* After virglrenderer opened, and before it closes. */
void vg_readback_open(void);
void vg_readback_close(void);
/* Pixels of a box inside level 0 of a resource whose texture in GL this is; dst as for read_rect. -ENOTSUP, or another
   negative errno value: not this way, and dst may have been written to. */
int vg_readback(const struct vg_renderer_resource *resource, uint32_t texture, const struct vg_renderer_box *box,
                void *dst, uint32_t stride);

/* ---- fences.c ---- */

/* After virglrenderer opened, also when it did again. */
int vg_fences_open(const struct vg_renderer_events *events, int software);
/* After it was closed: what was pending is not told of. */
void vg_fences_forget(void);
void vg_fences_close(void);
/* Until the fences of a context, or all (0), are done and told of. */
void vg_fences_wait(uint32_t ctx);
int vg_fences_poll_fd(void);
void vg_fences_poll(void);
/* In software: until one is done, if any is pending, or the time is over. */
void vg_fences_wait_some(uint64_t ns);
int vg_fences_create(uint32_t ctx, uint32_t ring, uint64_t seq);
/* Something may have been given to GL: fences from now on are behind it. */
void vg_fences_note_work(void);
/* virglrenderer's callbacks. */
void vg_fences_on_global(void *cookie, uint32_t fence);
void vg_fences_on_context(void *cookie, uint32_t ctx, uint32_t ring, uint64_t fence);

/* ---- egl.c ---- */

/* Whether there is EGL that can render on a GPU's node, or without one: 0, or a negative errno value and why. */
int vg_egl_check(int on_gpu, char *why, size_t size);
/* A function of GL; NULL: there is none. */
void *vg_gl_function(const char *name);

/* ---- stream.c ---- */

/* Whether virglrenderer and OpenGL can be trusted with a stream; sub_contexts: whether it makes or destroys any. */
int vg_stream_sound(const uint32_t *words, uint32_t count, int *sub_contexts);

/* ---- subcontexts.c ---- */

/* Before a stream: whether there may be as many sub-contexts as it makes. */
int vg_sub_contexts_fit(uint32_t ctx, const uint32_t *words, uint32_t count);
/* After it. */
void vg_sub_contexts_follow(uint32_t ctx, const uint32_t *words, uint32_t count, int all_executed);
/* With their context; 0: all. */
void vg_sub_contexts_forget(uint32_t ctx);

/* ---- messages.c ---- */

/* Takes virglrenderer's words from now on. What it says while it opens is only kept as the last message. */
void vg_messages_open(void);
/* Who is told of them from now on; NULL: nobody. */
void vg_messages_to(const struct vg_renderer_events *events);
/* The last whole line, "" if there was none. */
const char *vg_last_message(void);

#endif
