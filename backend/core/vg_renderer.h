/*
 * The contract between the core and a renderer: a table of functions that the core is given at its start (vg_render_start)
 * and never links against. It stands alone: no other header of the core is needed to fill in such a table.
 *
 * Threads: every function is called by one thread, the core's render thread, the same from open to close. It holds no
 * lock of the core then, except in resource_bytes. Only what struct vg_renderer_events holds may be called by any thread,
 * also from within a call of the table.
 *
 * Arguments: ids of contexts and resources are the guest's own numbers and not 0. The core keeps the tables: it creates no
 * id twice, names only what was created and is not gone, never hands out more than its budget allows, and checks the size
 * of streams. Everything else that comes from the guest (formats, levels, boxes, offsets, strides, streams) is passed on as
 * it is and must be checked by the renderer.
 *
 * Results: 0 or a negative errno value, where not said otherwise. To the guest -EINVAL becomes ERR_INVALID_PARAMETER,
 * -ENOMEM ERR_OUT_OF_MEMORY, any other ERR_UNSPEC.
 *
 * A call that lasts longer than the core's limit (10 s) makes the renderer lost: the thread ends when the call returns,
 * and nothing of the table, close included, is called again.
 */
#ifndef VG_RENDERER_H
#define VG_RENDERER_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define VG_RENDERER_VERSION 2u

/* Capability sets (virtio 1.3, 5.7.6.8; enum of virtio_gpu.h). */
#define VG_CAPSET_VIRGL 1u
#define VG_CAPSET_VIRGL2 2u

struct vg_renderer_box {
    uint32_t x, y, z, width, height, depth;
};

/* What a renderer may call, from any thread, from open until close has returned. */
struct vg_renderer_events {
    void *cookie;
    /* The fences of that context and ring up to seq are done (ctx_id 0, ring_idx 0: those without a context). */
    void (*fence_done)(void *cookie, uint32_t ctx_id, uint32_t ring_idx, uint64_t seq);
    /* The renderer's own complaints, one line without an end of line. Rate-limited by the taker. */
    void (*message)(void *cookie, const char *text);
};

/* As in RESOURCE_CREATE_3D, in the numbers of the VirGL protocol. */
struct vg_renderer_resource {
    uint32_t id, target, format, bind, width, height, depth, array_size, last_level, nr_samples, flags;
};

struct vg_renderer_ops {
    uint32_t version; /* VG_RENDERER_VERSION */

    /* render_node: a path, or NULL: the renderer's choice. events stays valid until close has returned. On failure a
       negative errno value with one line of text in why. */
    int (*open)(const char *render_node, const struct vg_renderer_events *events, char *why, size_t size);
    void (*close)(void);
    /* Every context and every resource is gone, with its iovecs; fences that are not done yet never will be told of, or
       harmlessly late. */
    void (*reset)(void);

    /* A descriptor that is readable when poll should be called, asked for once after open; -1: none, the core calls poll
       every now and then while fences are pending. */
    int (*poll_fd)(void);
    /* Tells of the fences that are done (fence_done); never waits. */
    void (*poll)(void);

    /* What a capability set is like: the newest version, and the bytes of it. -ENOENT: not offered. */
    int (*capset)(uint32_t id, uint32_t *version, uint32_t *size);
    /* Fills the size bytes that capset said. */
    int (*fill_capset)(uint32_t id, uint32_t version, void *out);

    /* context_init: as in CTX_CREATE; its low 8 bits are a capability set, 0: VirGL. name: len bytes, not terminated, for
       people. */
    int (*ctx_create)(uint32_t ctx_id, uint32_t context_init, const char *name, uint32_t len);
    void (*ctx_destroy)(uint32_t ctx_id);
    void (*ctx_attach)(uint32_t ctx_id, uint32_t resource_id);
    void (*ctx_detach)(uint32_t ctx_id, uint32_t resource_id);

    /* An estimate of the host's memory for it, all levels, layers and samples, for the budget. Any argument values; no
       overflow (UINT64_MAX stands for "far too much"); 0: it can't exist. A quick sum, called with the core's lock held. */
    uint64_t (*resource_bytes)(const struct vg_renderer_resource *resource);
    /* Its content is zero. */
    int (*resource_create)(const struct vg_renderer_resource *resource);
    void (*resource_unref)(uint32_t id); /* iovecs were detached before */
    /* The array stays valid, and the memory mapped, until detach_iov (or reset). */
    int (*attach_iov)(uint32_t id, const struct iovec *iov, uint32_t count);
    void (*detach_iov)(uint32_t id);

    /* TRANSFER_TO_HOST_3D and TRANSFER_FROM_HOST_3D between the resource and its iovecs. ctx_id 0: no context (commands of
       2D). stride and layer_stride 0: tightly packed. */
    int (*transfer)(uint32_t id, uint32_t ctx_id, int to_host, uint32_t level, uint32_t stride, uint32_t layer_stride,
                    const struct vg_renderer_box *box, uint64_t offset);
    /* Pixels of level 0 in the resource's own format of 4 bytes each, first row on top as scanned out, dst at the
       rectangle's first pixel, stride in bytes. Waits until what was submitted before is in them. */
    int (*read_rect)(uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, void *dst, uint32_t stride);
    int (*write_rect)(uint32_t id, uint32_t x, uint32_t y, uint32_t width, uint32_t height, const void *src,
                      uint32_t stride);

    /* Runs a command stream (private memory of the core, which may be changed; aligned to 8; dwords may be 0). An error
       is one of that stream or of the context: ERR_UNSPEC whatever its number. */
    int (*submit)(uint32_t ctx_id, void *stream, uint32_t dwords);
    /* A fence behind everything so far of that context and ring (ctx_id 0, ring_idx 0: of everything). seq starts at 1
       and grows by one with every call of fence, over all timelines, also past a reset. fence_done may be called from
       within. */
    int (*fence)(uint32_t ctx_id, uint32_t ring_idx, uint64_t seq);
    /* Where there is no poll_fd, while fences are pending: returns when one is done, and told of, or after so many
       nanoseconds. NULL: the core sleeps instead, and polls. */
    void (*wait)(uint64_t ns);
};

#endif
