/*
 * Pictures read back for the screen, faster than virglrenderer's transfers do it: those ask GL for the bytes in the
 * resource's order, and where GL keeps them in another one it turns each pixel by itself. Here they are read as they are
 * and turned in a cache's worth at a time. Whatever is unusual is left to a transfer.
 *
 * This is done in virglrenderer's context 0, and what it might remember of GL's state is put back.
 */
#define VIRGL_RENDERER_UNSTABLE_APIS
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <virglrenderer.h>

#include "vg_virgl.h"

/* Of GL 3.0 and ES 3.0. */
#define GL_NO_ERROR 0u
#define GL_TEXTURE_2D 0x0DE1u
#define GL_PACK_ROW_LENGTH 0x0D02u
#define GL_PACK_ALIGNMENT 0x0D05u
#define GL_UNSIGNED_BYTE 0x1401
#define GL_RGBA 0x1908
#define GL_BGRA 0x80E1
#define GL_IMPLEMENTATION_COLOR_READ_TYPE 0x8B9Au
#define GL_IMPLEMENTATION_COLOR_READ_FORMAT 0x8B9Bu
#define GL_READ_FRAMEBUFFER 0x8CA8u
#define GL_READ_FRAMEBUFFER_BINDING 0x8CAAu
#define GL_FRAMEBUFFER_COMPLETE 0x8CD5u
#define GL_COLOR_ATTACHMENT0 0x8CE0u

#define STRIP_BYTES (256u * 1024u)
#define Y_0_TOP 1u

static struct {
    void (*gen_framebuffers)(int count, unsigned *names);
    void (*bind_framebuffer)(unsigned target, unsigned name);
    void (*framebuffer_texture_2d)(unsigned target, unsigned at, unsigned textures, unsigned texture, int level);
    unsigned (*check_framebuffer_status)(unsigned target);
    void (*get_integerv)(unsigned what, int *value);
    void (*pixel_storei)(unsigned what, int value);
    void (*read_pixels)(int x, int y, int width, int height, unsigned format, unsigned type, void *out);
    unsigned (*get_error)(void);
} gl;
static int usable;
static unsigned framebuffer; /* of context 0; 0: not made yet */
static uint32_t *strip;

/* ---- the way in ---- */

static int find(const char *name, void *where)
{
    void *function = vg_gl_function(name);
    memcpy(where, &function, sizeof(function));
    return function != NULL;
}

void vg_readback_open(void)
{
    framebuffer = 0;
    strip = malloc(STRIP_BYTES);
    usable = strip != NULL && find("glGenFramebuffers", &gl.gen_framebuffers) &&
             find("glBindFramebuffer", &gl.bind_framebuffer) &&
             find("glFramebufferTexture2D", &gl.framebuffer_texture_2d) &&
             find("glCheckFramebufferStatus", &gl.check_framebuffer_status) &&
             find("glGetIntegerv", &gl.get_integerv) && find("glPixelStorei", &gl.pixel_storei) &&
             find("glReadPixels", &gl.read_pixels) && find("glGetError", &gl.get_error);
}

void vg_readback_close(void)
{
    free(strip);
    strip = NULL;
    usable = 0;
}

/* ---- pixels ---- */

struct job {
    const struct vg_renderer_box *box;
    uint32_t height; /* of the picture */
    int flipped;     /* its rows are kept from the last to the first */
    int turned;      /* red and blue change places */
    unsigned format; /* as GL has it */
    uint8_t *dst;
    uint32_t stride;
};

typedef uint32_t pixels4 __attribute__((vector_size(16), aligned(4), may_alias));

static void turn_row(uint8_t *dst, const uint32_t *src, uint32_t count)
{
    uint32_t at = 0;
    for (; at + 4 <= count; at += 4) {
        pixels4 four = *(const pixels4 *)&src[at];
        *(pixels4 *)(dst + 4 * at) = (four & 0xFF00FF00u) | (four >> 16 & 0xFFu) | (four & 0xFFu) << 16;
    }
    for (; at < count; at++) {
        uint32_t one = (src[at] & 0xFF00FF00u) | (src[at] >> 16 & 0xFFu) | (src[at] & 0xFFu) << 16;
        memcpy(dst + 4 * at, &one, sizeof(one));
    }
}

/* Rows of the box from first on. The widest row, of 16384 pixels, is a quarter of the strip. */
static void read_strip(const struct job *job, uint32_t first, uint32_t rows)
{
    const struct vg_renderer_box *box = job->box;
    uint32_t y = job->flipped ? job->height - box->y - first - rows : box->y + first;
    gl.read_pixels((int)box->x, (int)y, (int)box->width, (int)rows, job->format, GL_UNSIGNED_BYTE, strip);
    for (uint32_t row = 0; row < rows; row++) {
        const uint32_t *src = strip + (size_t)(job->flipped ? rows - 1 - row : row) * box->width;
        uint8_t *dst = job->dst + (size_t)(first + row) * job->stride;
        if (job->turned)
            turn_row(dst, src, box->width);
        else
            memcpy(dst, src, (size_t)box->width * 4);
    }
}

static void read_all(const struct job *job)
{
    const struct vg_renderer_box *box = job->box;
    if (!job->flipped && !job->turned) {
        gl.pixel_storei(GL_PACK_ROW_LENGTH, (int)(job->stride / 4));
        gl.read_pixels((int)box->x, (int)box->y, (int)box->width, (int)box->height, job->format, GL_UNSIGNED_BYTE,
                       job->dst);
        gl.pixel_storei(GL_PACK_ROW_LENGTH, 0);
        return;
    }
    uint32_t most = STRIP_BYTES / 4 / box->width;
    for (uint32_t first = 0; first < box->height; first += most) {
        uint32_t left = box->height - first;
        read_strip(job, first, left < most ? left : most);
    }
}

/* ---- GL's side ---- */

/* GL_RGBA or GL_BGRA, 8 bits each, as GL keeps them; 0: neither. */
static unsigned kept_order(void)
{
    int format = 0, type = 0;
    gl.get_integerv(GL_IMPLEMENTATION_COLOR_READ_FORMAT, &format);
    gl.get_integerv(GL_IMPLEMENTATION_COLOR_READ_TYPE, &type);
    if (type != GL_UNSIGNED_BYTE || (format != GL_RGBA && format != GL_BGRA))
        return 0;
    return (unsigned)format;
}

static unsigned wanted_order(uint32_t format)
{
    switch (format) {
    case 1: /* B8G8R8A8 */
    case 2: /* B8G8R8X8 */
        return GL_BGRA;
    case 67:  /* R8G8B8A8 */
    case 134: /* R8G8B8X8 */
        return GL_RGBA;
    default:
        return 0;
    }
}

static int read_bound(const struct vg_renderer_resource *resource, uint32_t texture, struct job *job)
{
    gl.framebuffer_texture_2d(GL_READ_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, texture, 0);
    job->format = gl.check_framebuffer_status(GL_READ_FRAMEBUFFER) == GL_FRAMEBUFFER_COMPLETE ? kept_order() : 0;
    if (job->format != 0) {
        job->turned = job->format != wanted_order(resource->format);
        gl.pixel_storei(GL_PACK_ALIGNMENT, 4);
        read_all(job);
    }
    gl.framebuffer_texture_2d(GL_READ_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, 0, 0);
    int rc = job->format == 0 ? -ENOTSUP : 0;
    while (gl.get_error() != GL_NO_ERROR)
        rc = -EIO;
    return rc;
}

int vg_readback(const struct vg_renderer_resource *resource, uint32_t texture, const struct vg_renderer_box *box,
                void *dst, uint32_t stride)
{
    int before = 0;
    struct job job = {
        .box = box,
        .height = resource->height,
        .flipped = (resource->flags & Y_0_TOP) != 0,
        .dst = dst,
        .stride = stride,
    };
    if (!usable || texture == 0 || resource->target != VG_TARGET_2D || wanted_order(resource->format) == 0)
        return -ENOTSUP;
    if (stride % 4 != 0)
        return -ENOTSUP;
    virgl_renderer_force_ctx_0();
    while (gl.get_error() != GL_NO_ERROR)
        continue;
    gl.get_integerv(GL_READ_FRAMEBUFFER_BINDING, &before);
    if (framebuffer == 0)
        gl.gen_framebuffers(1, &framebuffer);
    gl.bind_framebuffer(GL_READ_FRAMEBUFFER, framebuffer);
    int rc = read_bound(resource, texture, &job);
    gl.bind_framebuffer(GL_READ_FRAMEBUFFER, (unsigned)before);
    return rc;
}
