/*
 * A mode-setting program that a test drives line by line: reads commands on stdin, answers "ok" or "error: WHY".
 * Uses the kernel's interface alone (drm.h, drm_mode.h: package libdrm-dev), the legacy calls, so that it needs no library.
 *
 *   show OUTPUT WIDTH HEIGHT SEED        a pattern on an output (0 is the first connector)
 *   span WIDTH HEIGHT SEED               one framebuffer over two outputs side by side, each WIDTH x HEIGHT
 *   flip OUTPUT SEED                     page flip to another buffer of the same size; returns after the flip's event
 *   paint OUTPUT X Y WIDTH HEIGHT COLOUR fills a rectangle and reports it as damage
 *   cursor OUTPUT SEED HOT_X HOT_Y       a cursor picture with its hot spot
 *   move OUTPUT X Y                      cursor position
 *   hide OUTPUT                          no cursor
 *   off OUTPUT                           switches the output off
 * With arguments, "kms pnm WIDTH HEIGHT SEED", it writes the pattern to stdout as a picture file and ends.
 */
#include <drm.h>
#include <drm_fourcc.h>
#include <drm_mode.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define OUTPUTS 4
#define MODES 64
#define CURSOR_SIDE 64

struct buffer {
    uint32_t handle, fb, width, height, pitch;
    uint32_t *pixels;
};

struct output {
    uint32_t connector, crtc, x; /* x: of the output in its framebuffer */
    struct drm_mode_modeinfo modes[MODES];
    uint32_t num_modes;
    struct buffer *shown;
};

static int card;
static struct output outputs[OUTPUTS];
static uint32_t num_outputs;

static void call(unsigned long request, void *argument, const char *name)
{
    while (ioctl(card, request, argument) < 0) {
        if (errno == EINTR || errno == EAGAIN)
            continue;
        printf("error: %s: %s\n", name, strerror(errno));
        exit(1);
    }
}

static void find_outputs(void)
{
    uint32_t connectors[OUTPUTS], crtcs[OUTPUTS], encoders[OUTPUTS], fbs[OUTPUTS];
    struct drm_mode_card_res res = {
        .connector_id_ptr = (uintptr_t)connectors, .count_connectors = OUTPUTS,
        .crtc_id_ptr = (uintptr_t)crtcs, .count_crtcs = OUTPUTS,
        .encoder_id_ptr = (uintptr_t)encoders, .count_encoders = OUTPUTS,
        .fb_id_ptr = (uintptr_t)fbs, .count_fbs = OUTPUTS,
    };
    call(DRM_IOCTL_MODE_GETRESOURCES, &res, "GETRESOURCES");
    num_outputs = res.count_connectors < OUTPUTS ? res.count_connectors : OUTPUTS;
    for (uint32_t i = 0; i < num_outputs; i++) {
        struct output *out = &outputs[i];
        struct drm_mode_get_connector con = {.connector_id = connectors[i]};
        call(DRM_IOCTL_MODE_GETCONNECTOR, &con, "GETCONNECTOR");
        con.count_props = con.count_encoders = 0;
        con.count_modes = con.count_modes < MODES ? con.count_modes : MODES;
        con.modes_ptr = (uintptr_t)out->modes;
        call(DRM_IOCTL_MODE_GETCONNECTOR, &con, "GETCONNECTOR");
        out->connector = connectors[i];
        out->crtc = crtcs[i];
        out->num_modes = con.count_modes;
    }
}

static struct buffer *new_buffer(uint32_t width, uint32_t height, int framebuffer)
{
    struct buffer *buf = calloc(1, sizeof(*buf));
    struct drm_mode_create_dumb dumb = {.width = width, .height = height, .bpp = 32};
    call(DRM_IOCTL_MODE_CREATE_DUMB, &dumb, "CREATE_DUMB");
    struct drm_mode_map_dumb map = {.handle = dumb.handle};
    call(DRM_IOCTL_MODE_MAP_DUMB, &map, "MAP_DUMB");
    *buf = (struct buffer){.handle = dumb.handle, .width = width, .height = height, .pitch = dumb.pitch};
    buf->pixels = mmap(NULL, dumb.size, PROT_READ | PROT_WRITE, MAP_SHARED, card, (off_t)map.offset);
    if (buf->pixels == MAP_FAILED) {
        printf("error: mmap: %s\n", strerror(errno));
        exit(1);
    }
    if (framebuffer) {
        struct drm_mode_fb_cmd2 fb = {.width = width, .height = height, .pixel_format = DRM_FORMAT_XRGB8888,
                                      .handles = {dumb.handle}, .pitches = {dumb.pitch}};
        call(DRM_IOCTL_MODE_ADDFB2, &fb, "ADDFB2");
        buf->fb = fb.fb_id;
    }
    return buf;
}

/* The test computes the same (tests/e2e/harness/kms.py): pattern(). */
static uint32_t pattern(uint32_t x, uint32_t y, uint32_t seed)
{
    return ((x * 3 + seed * 40) & 255) << 16 | ((y * 5 + x) & 255) << 8 | (((x ^ y) + seed * 17) & 255);
}

static void fill_pattern(struct buffer *buf, uint32_t seed)
{
    for (uint32_t y = 0; y < buf->height; y++)
        for (uint32_t x = 0; x < buf->width; x++)
            buf->pixels[(size_t)y * buf->pitch / 4 + x] = pattern(x, y, seed);
}

static int write_picture(uint32_t width, uint32_t height, uint32_t seed)
{
    printf("P6\n%u %u\n255\n", width, height);
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++) {
            uint32_t pixel = pattern(x, y, seed);
            putchar((int)(pixel >> 16 & 255));
            putchar((int)(pixel >> 8 & 255));
            putchar((int)(pixel & 255));
        }
    return ferror(stdout);
}

static struct output *pick(uint32_t index)
{
    if (index >= num_outputs) {
        printf("error: no output %u\n", index);
        exit(1);
    }
    return &outputs[index];
}

static void set_crtc(struct output *out, struct buffer *buf, uint32_t x, uint32_t width, uint32_t height)
{
    for (uint32_t i = 0; i < out->num_modes; i++) {
        if (out->modes[i].hdisplay != width || out->modes[i].vdisplay != height)
            continue;
        struct drm_mode_crtc crtc = {.crtc_id = out->crtc, .fb_id = buf->fb, .x = x, .count_connectors = 1, .mode_valid = 1,
                                     .set_connectors_ptr = (uintptr_t)&out->connector, .mode = out->modes[i]};
        call(DRM_IOCTL_MODE_SETCRTC, &crtc, "SETCRTC");
        out->shown = buf;
        out->x = x;
        return;
    }
    printf("error: no mode %ux%u\n", width, height);
    exit(1);
}

static void show(uint32_t index, uint32_t width, uint32_t height, uint32_t seed)
{
    struct buffer *buf = new_buffer(width, height, 1);
    fill_pattern(buf, seed);
    set_crtc(pick(index), buf, 0, width, height);
}

static void span(uint32_t width, uint32_t height, uint32_t seed)
{
    struct buffer *buf = new_buffer(2 * width, height, 1);
    fill_pattern(buf, seed);
    set_crtc(pick(0), buf, 0, width, height);
    set_crtc(pick(1), buf, width, width, height);
}

static void flip(uint32_t index, uint32_t seed)
{
    struct output *out = pick(index);
    struct buffer *buf = new_buffer(out->shown->width, out->shown->height, 1);
    fill_pattern(buf, seed);
    struct drm_mode_crtc_page_flip request = {.crtc_id = out->crtc, .fb_id = buf->fb, .flags = DRM_MODE_PAGE_FLIP_EVENT};
    call(DRM_IOCTL_MODE_PAGE_FLIP, &request, "PAGE_FLIP");
    char event[256];
    if (read(card, event, sizeof(event)) <= 0) {
        printf("error: no flip event: %s\n", strerror(errno));
        exit(1);
    }
    out->shown = buf;
}

static void paint(uint32_t index, uint32_t x, uint32_t y, uint32_t width, uint32_t height, uint32_t colour)
{
    struct output *out = pick(index);
    for (uint32_t row = y; row < y + height; row++)
        for (uint32_t column = x + out->x; column < x + out->x + width; column++)
            out->shown->pixels[(size_t)row * out->shown->pitch / 4 + column] = colour;
    struct drm_clip_rect clip = {.x1 = (uint16_t)(x + out->x), .y1 = (uint16_t)y,
                                 .x2 = (uint16_t)(x + out->x + width), .y2 = (uint16_t)(y + height)};
    struct drm_mode_fb_dirty_cmd dirty = {.fb_id = out->shown->fb, .num_clips = 1, .clips_ptr = (uintptr_t)&clip};
    call(DRM_IOCTL_MODE_DIRTYFB, &dirty, "DIRTYFB");
}

/* The test computes the same (tests/e2e/harness/kms.py): cursor_pixels(). */
static void cursor(uint32_t index, uint32_t seed, int32_t hot_x, int32_t hot_y)
{
    struct buffer *buf = new_buffer(CURSOR_SIDE, CURSOR_SIDE, 0);
    for (uint32_t y = 0; y < CURSOR_SIDE; y++)
        for (uint32_t x = 0; x < CURSOR_SIDE; x++) {
            uint32_t alpha = x + y < CURSOR_SIDE ? 255 : 0;
            buf->pixels[(size_t)y * buf->pitch / 4 + x] =
                alpha ? alpha << 24 | ((x * 4 + seed * 50) & 255) << 16 | (y * 4) << 8 | ((seed * 90) & 255) : 0;
        }
    struct drm_mode_cursor2 request = {.flags = DRM_MODE_CURSOR_BO, .crtc_id = pick(index)->crtc, .width = CURSOR_SIDE,
                                       .height = CURSOR_SIDE, .handle = buf->handle, .hot_x = hot_x, .hot_y = hot_y};
    call(DRM_IOCTL_MODE_CURSOR2, &request, "CURSOR2");
}

static void move(uint32_t index, int32_t x, int32_t y)
{
    struct drm_mode_cursor request = {.flags = DRM_MODE_CURSOR_MOVE, .crtc_id = pick(index)->crtc, .x = x, .y = y};
    call(DRM_IOCTL_MODE_CURSOR, &request, "CURSOR");
}

static void hide(uint32_t index)
{
    struct drm_mode_cursor request = {.flags = DRM_MODE_CURSOR_BO, .crtc_id = pick(index)->crtc};
    call(DRM_IOCTL_MODE_CURSOR, &request, "CURSOR");
}

static void off(uint32_t index)
{
    struct drm_mode_crtc crtc = {.crtc_id = pick(index)->crtc};
    call(DRM_IOCTL_MODE_SETCRTC, &crtc, "SETCRTC");
}

static int obey(const char *line)
{
    char verb[16];
    int a[6] = {0};
    int count = sscanf(line, "%15s %i %i %i %i %i %i", verb, &a[0], &a[1], &a[2], &a[3], &a[4], &a[5]) - 1;
    uint32_t u[6];
    for (int i = 0; i < 6; i++)
        u[i] = (uint32_t)a[i];
    if (!strcmp(verb, "show") && count == 4)
        show(u[0], u[1], u[2], u[3]);
    else if (!strcmp(verb, "span") && count == 3)
        span(u[0], u[1], u[2]);
    else if (!strcmp(verb, "flip") && count == 2)
        flip(u[0], u[1]);
    else if (!strcmp(verb, "paint") && count == 6)
        paint(u[0], u[1], u[2], u[3], u[4], u[5]);
    else if (!strcmp(verb, "cursor") && count == 4)
        cursor(u[0], u[1], a[2], a[3]);
    else if (!strcmp(verb, "move") && count == 3)
        move(u[0], a[1], a[2]);
    else if (!strcmp(verb, "hide") && count == 1)
        hide(u[0]);
    else if (!strcmp(verb, "off") && count == 1)
        off(u[0]);
    else
        return 0;
    return 1;
}

int main(int argc, char **argv)
{
    char line[256];
    if (argc == 5 && !strcmp(argv[1], "pnm"))
        return write_picture((uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]), (uint32_t)atoi(argv[4]));
    setvbuf(stdout, NULL, _IOLBF, 0);
    card = open("/dev/dri/card0", O_RDWR);
    if (card < 0) {
        printf("error: /dev/dri/card0: %s\n", strerror(errno));
        return 1;
    }
    find_outputs();
    while (fgets(line, sizeof(line), stdin))
        puts(obey(line) ? "ok" : "error: not understood");
    return 0;
}
