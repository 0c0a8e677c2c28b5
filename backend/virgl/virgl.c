/*
 * The renderer: virglrenderer, opened on a render node or without a GPU at all, as the table of functions that the core
 * asks for.
 */
#define VIRGL_RENDERER_UNSTABLE_APIS
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <virglrenderer.h>

#include "vg_virgl.h"
#include "vg_virgl_api.h"

#define DRM_MAJOR 226
#define RENDER_NODES "/dev/dri/renderD*"
#define CAPSET_MASK 0xffu
#define MAX_CAPSET 65536u
/* Where GL's name of the GPU is in the newer set (struct virgl_caps_v2 of virgl_hw.h, which only grows at its end). */
#define NAME_OFFSET 696u
#define NAME_SIZE 64u

static char node[256]; /* in use now; "": none */
static int is_open; /* 0 too when it did not come back from a reset */
static int is_used; /* a context or a resource was made since it opened */
static const struct vg_renderer_events *listener;
static const char *chosen_node; /* only while virglrenderer opens */

/* ---- opening ---- */

/* virglrenderer takes over the descriptor. */
static int get_drm_fd(void *cookie)
{
    (void)cookie;
    return chosen_node == NULL ? -1 : open(chosen_node, O_RDWR | O_CLOEXEC | O_NOCTTY);
}

static struct virgl_renderer_callbacks callbacks = {
    .version = 3,
    .write_fence = vg_fences_on_global,
    .get_drm_fd = get_drm_fd,
    .write_context_fence = vg_fences_on_context,
};

/* On the GPU of a node, or, NULL, with what EGL has without one. */
static int start(const char *path, char *why, size_t size)
{
    int flags = VIRGL_RENDERER_USE_EGL;
    if (path == NULL)
        flags |= VIRGL_RENDERER_USE_SURFACELESS;
    else
        flags |= VIRGL_RENDERER_THREAD_SYNC | VIRGL_RENDERER_ASYNC_FENCE_CB;
    int rc = vg_egl_check(path != NULL, why, size);
    if (rc < 0)
        return rc;
    chosen_node = path;
    rc = virgl_renderer_init(&callbacks, flags, &callbacks);
    chosen_node = NULL;
    if (rc != 0) {
        snprintf(why, size, "virglrenderer can't render with it: %s", vg_last_message());
        return -EIO;
    }
    if (path != node)
        snprintf(node, sizeof(node), "%s", path == NULL ? "" : path);
    return 0;
}

static int check_node(const char *path, char *why, size_t size)
{
    struct stat status;
    int rc = stat(path, &status) < 0 ? -errno : 0;
    if (rc == 0 && (!S_ISCHR(status.st_mode) || major(status.st_rdev) != DRM_MAJOR))
        rc = -ENOTTY;
    if (rc == 0 && access(path, R_OK | W_OK) < 0)
        rc = -errno;
    if (rc < 0)
        snprintf(why, size, "%s", rc == -ENOTTY ? "not a DRM device" : strerror(-rc));
    return rc;
}

static int start_on(const char *path, char *why, size_t size)
{
    char reason[256];
    int rc = check_node(path, reason, sizeof(reason));
    if (rc == 0)
        rc = start(path, reason, sizeof(reason));
    if (rc < 0)
        snprintf(why, size, "%s: %s", path, reason);
    return rc;
}

/* The first node that works; software where none does. */
static int start_anywhere(char *why, size_t size)
{
    glob_t found;
    int rc = -ENOENT;
    if (glob(RENDER_NODES, 0, NULL, &found) == 0) {
        for (size_t index = 0; rc < 0 && index < found.gl_pathc; index++)
            rc = start_on(found.gl_pathv[index], why, size);
        globfree(&found);
    }
    return rc < 0 ? start(NULL, why, size) : rc;
}

/* ---- capability sets ---- */

static int get_capset(uint32_t id, uint32_t *version, uint32_t *size)
{
    if (id != VG_CAPSET_VIRGL && id != VG_CAPSET_VIRGL2)
        return -ENOENT;
    virgl_renderer_get_cap_set(id, version, size);
    return *size == 0 || *size > MAX_CAPSET ? -ENOENT : 0;
}

static int fill_capset(uint32_t id, uint32_t version, void *out)
{
    uint32_t newest, size;
    int rc = get_capset(id, &newest, &size);
    if (rc < 0)
        return rc;
    memset(out, 0, size);
    if (version > newest)
        return -EINVAL;
    virgl_renderer_fill_caps(id, version, out);
    return 0;
}

/* "": it does not say. */
static void get_name(char name[NAME_SIZE])
{
    uint32_t version, size;
    name[0] = '\0';
    if (get_capset(VG_CAPSET_VIRGL2, &version, &size) < 0 || size < NAME_OFFSET + NAME_SIZE)
        return;
    char *capset = malloc(size);
    if (capset != NULL && fill_capset(VG_CAPSET_VIRGL2, version, capset) == 0)
        memcpy(name, capset + NAME_OFFSET, NAME_SIZE);
    name[NAME_SIZE - 1] = '\0';
    free(capset);
}

/* Mesa's software renderer hands out zeros only; what others hand out may be old pictures. */
static int is_llvmpipe(void)
{
    char name[NAME_SIZE];
    get_name(name);
    return strncasecmp(name, "llvmpipe", strlen("llvmpipe")) == 0;
}

/* ---- the life of the renderer ---- */

static void shut(void)
{
    vg_fences_wait(0);
    vg_readback_close();
    virgl_renderer_cleanup(&callbacks);
    vg_virgl_forget_resources();
    vg_sub_contexts_forget(0);
    vg_fences_forget();
    is_open = is_used = 0;
}

/* llvmpipe compiles shaders to machine code, and crashes where it may not. */
static int may_compile(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *memory = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return 0;
    int rc = mprotect(memory, page, PROT_READ | PROT_EXEC);
    munmap(memory, page);
    return rc == 0;
}

/* virglrenderer has just been opened. */
static int settle(char *why, size_t size)
{
    int software = is_llvmpipe();
    int rc = vg_fences_open(listener, node[0] == '\0');
    if (rc < 0)
        snprintf(why, size, "there is nothing to wait for fences with: %s", strerror(-rc));
    if (rc == 0 && software && !may_compile()) {
        snprintf(why, size, "llvmpipe needs memory that becomes executable (systemd: MemoryDenyWriteExecute=no)");
        rc = -EPERM;
    }
    is_open = 1;
    if (rc < 0) {
        shut();
        return rc;
    }
    vg_virgl_clear_resources(!software);
    vg_readback_open();
    vg_messages_to(listener);
    return 0;
}

static int virgl_open(const char *render_node, const struct vg_renderer_events *events, char *why, size_t size)
{
    if (listener != NULL) {
        snprintf(why, size, "virglrenderer is open already in this process");
        return -EBUSY;
    }
    vg_messages_open();
    int rc = render_node == NULL ? start_anywhere(why, size) : start_on(render_node, why, size);
    if (rc < 0)
        return rc;
    listener = events;
    rc = settle(why, size);
    if (rc < 0) {
        vg_fences_close();
        listener = NULL;
    }
    return rc;
}

static void virgl_close(void)
{
    vg_messages_to(NULL);
    if (is_open)
        shut();
    vg_fences_close();
    listener = NULL;
}

/* virgl_renderer_reset() ends the thread that waits for fences, and starts no other (0.10.4; 1.1 as well): so everything
   is opened anew, which takes some 15 ms. */
static void virgl_reset(void)
{
    char why[256] = "";
    if (!is_used)
        return;
    vg_messages_to(NULL);
    shut();
    if (start(node[0] == '\0' ? NULL : node, why, sizeof(why)) < 0 || settle(why, sizeof(why)) < 0)
        listener->message(listener->cookie, why);
}

/* ---- contexts ---- */

static int ctx_create(uint32_t ctx, uint32_t context_init, const char *name, uint32_t len)
{
    char text[64];
    size_t used = len < sizeof(text) - 1 ? len : sizeof(text) - 1;
    uint32_t capset = context_init & CAPSET_MASK;
    if (!is_open || (context_init & ~CAPSET_MASK) != 0)
        return -EINVAL;
    is_used = 1;
    if (capset == 0)
        capset = VG_CAPSET_VIRGL2;
    if (capset != VG_CAPSET_VIRGL && capset != VG_CAPSET_VIRGL2)
        return -EINVAL;
    memcpy(text, name, used);
    text[used] = '\0';
    int rc = virgl_renderer_context_create_with_flags(ctx, capset, (uint32_t)used, text);
    if (rc == 0)
        return 0;
    return rc == ENOMEM || rc == -ENOMEM ? -ENOMEM : -EINVAL;
}

static void ctx_destroy(uint32_t ctx)
{
    if (!is_open)
        return;
    vg_fences_wait(ctx);
    virgl_renderer_context_destroy(ctx);
    vg_sub_contexts_forget(ctx);
}

static void ctx_attach(uint32_t ctx, uint32_t resource)
{
    if (is_open)
        virgl_renderer_ctx_attach_resource((int)ctx, (int)resource);
}

static void ctx_detach(uint32_t ctx, uint32_t resource)
{
    if (is_open)
        virgl_renderer_ctx_detach_resource((int)ctx, (int)resource);
}

static int submit(uint32_t ctx, void *stream, uint32_t dwords)
{
    int sub_contexts;
    if (!is_open || dwords > INT32_MAX || !vg_stream_sound(stream, dwords, &sub_contexts))
        return -EINVAL;
    if (sub_contexts && !vg_sub_contexts_fit(ctx, stream, dwords))
        return -ENOMEM;
    if (dwords > 0)
        vg_fences_note_work();
    int rc = virgl_renderer_submit_cmd(stream, (int)ctx, (int)dwords);
    if (sub_contexts)
        vg_sub_contexts_follow(ctx, stream, dwords, rc == 0);
    return rc == 0 ? 0 : -EINVAL;
}

static int resource_create(const struct vg_renderer_resource *resource)
{
    if (!is_open)
        return -EIO;
    is_used = 1;
    vg_fences_note_work();
    return vg_virgl_resource_create(resource);
}

static int fence(uint32_t ctx, uint32_t ring, uint64_t seq)
{
    return is_open ? vg_fences_create(ctx, ring, seq) : -EIO;
}

static void poll_fences(void)
{
    if (is_open)
        vg_fences_poll();
}

static void wait_fences(uint64_t ns)
{
    if (is_open)
        vg_fences_wait_some(ns);
}

static uint64_t resource_bytes(const struct vg_renderer_resource *resource)
{
    return vg_layout_valid(resource) ? vg_layout_bytes(resource) : 0;
}

static const struct vg_renderer_ops ops = {
    .version = VG_RENDERER_VERSION,
    .open = virgl_open,
    .close = virgl_close,
    .reset = virgl_reset,
    .poll_fd = vg_fences_poll_fd,
    .poll = poll_fences,
    .capset = get_capset,
    .fill_capset = fill_capset,
    .ctx_create = ctx_create,
    .ctx_destroy = ctx_destroy,
    .ctx_attach = ctx_attach,
    .ctx_detach = ctx_detach,
    .resource_bytes = resource_bytes,
    .resource_create = resource_create,
    .resource_unref = vg_virgl_resource_unref,
    .attach_iov = vg_virgl_attach_iov,
    .detach_iov = vg_virgl_detach_iov,
    .transfer = vg_virgl_transfer,
    .read_rect = vg_virgl_read_rect,
    .write_rect = vg_virgl_write_rect,
    .submit = submit,
    .fence = fence,
    .wait = wait_fences,
};

const void *vg_virgl_ops(void)
{
    return &ops;
}

/* ---- for people ---- */

static void ignore_fence(void *cookie, uint32_t ctx, uint32_t ring, uint64_t seq)
{
    (void)cookie, (void)ctx, (void)ring, (void)seq;
}

static void ignore_message(void *cookie, const char *text)
{
    (void)cookie, (void)text;
}

int vg_virgl_probe(const char *render_node, char *name, size_t name_size, char *why, size_t why_size)
{
    static const struct vg_renderer_events nobody = {NULL, ignore_fence, ignore_message};
    char renderer[NAME_SIZE];
    int rc = virgl_open(render_node, &nobody, why, why_size);
    if (rc < 0)
        return rc;
    get_name(renderer);
    snprintf(name, name_size, "%s%s%s", renderer[0] == '\0' ? "an unknown GPU" : renderer, node[0] == '\0' ? "" : " on ", node);
    virgl_close();
    return 0;
}

const char *vg_virgl_version(void)
{
    return VG_VIRGL_VERSION;
}
