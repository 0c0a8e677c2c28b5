/*
 * What kms.c shows, drawn by the device's renderer: the pictures come from a fragment shader, into buffers of the
 * GPU that nothing copies on their way to the screen. Driven line by line: reads commands on stdin, answers "ok" or
 * "error: WHY".
 *
 *   show OUTPUT WIDTH HEIGHT SEED        the pattern on an output (0 is the first connector)
 *   flip OUTPUT SEED                     the next picture of the same size; returns after the page flip's event
 *   cursor OUTPUT SEED HOT_X HOT_Y       a cursor picture with its hot spot
 *   move OUTPUT X Y                      cursor position
 */
#include <EGL/egl.h>
#include <EGL/eglext.h>
#include <GLES3/gl3.h>
#include <errno.h>
#include <fcntl.h>
#include <gbm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xf86drm.h>
#include <xf86drmMode.h>

#define CURSOR_SIDE 64

struct canvas { /* buffers that GL draws into, one after the other */
    struct gbm_surface *gbm;
    EGLSurface egl;
    EGLContext context;
    GLuint program;
    uint32_t height;
};

static int card;
static struct gbm_device *gbm;
static EGLDisplay display;
static struct canvas screen, pointer;
static uint32_t crtc;

static void fail(const char *what, const char *why)
{
    printf("error: %s: %s\n", what, why);
    exit(1);
}

static void check(int ok, const char *what)
{
    char number[32];
    if (ok)
        return;
    snprintf(number, sizeof(number), "EGL 0x%x, %s", (unsigned)eglGetError(), strerror(errno));
    fail(what, number);
}

/* ---- drawing ----------------------------------------------------------------------------------------------------- */

static const char vertex[] =
    "#version 300 es\n"
    "void main() { gl_Position = vec4(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0, 0.0, 1.0); }\n";

/* The formulas of pattern() and cursor() in kms.c; the test computes the same (tests/e2e/harness/kms.py). */
static const char pattern[] =
    "#version 300 es\n"
    "precision highp float; precision highp int;\n"
    "uniform int seed, height; out vec4 colour;\n"
    "void main() {\n"
    "    int x = int(gl_FragCoord.x), y = height - 1 - int(gl_FragCoord.y);\n"
    "    ivec3 c = ivec3(x * 3 + seed * 40, y * 5 + x, (x ^ y) + seed * 17) & 255;\n"
    "    colour = vec4(c, 255) / 255.0;\n"
    "}\n";
static const char cursor_pattern[] =
    "#version 300 es\n"
    "precision highp float; precision highp int;\n"
    "uniform int seed, height; out vec4 colour;\n"
    "void main() {\n"
    "    int x = int(gl_FragCoord.x), y = height - 1 - int(gl_FragCoord.y);\n"
    "    ivec4 c = ivec4((x * 4 + seed * 50) & 255, y * 4, (seed * 90) & 255, 255);\n"
    "    colour = x + y < height ? vec4(c) / 255.0 : vec4(0.0);\n"
    "}\n";

static GLuint compile(const char *fragment)
{
    GLuint program = glCreateProgram();
    const struct { GLenum type; const char *text; } parts[] = {{GL_VERTEX_SHADER, vertex}, {GL_FRAGMENT_SHADER, fragment}};
    char log[200] = "";
    GLint linked = 0;
    for (int i = 0; i < 2; i++) {
        GLuint shader = glCreateShader(parts[i].type);
        glShaderSource(shader, 1, &parts[i].text, NULL);
        glCompileShader(shader);
        glGetShaderInfoLog(shader, sizeof(log), NULL, log);
        glAttachShader(program, shader);
    }
    glLinkProgram(program);
    glGetProgramiv(program, GL_LINK_STATUS, &linked);
    if (!linked)
        fail("shader", log);
    return program;
}

static EGLConfig config_of(uint32_t format)
{
    EGLConfig configs[256];
    EGLint count = 0, visual;
    const EGLint wanted[] = {EGL_SURFACE_TYPE, EGL_WINDOW_BIT, EGL_RENDERABLE_TYPE, EGL_OPENGL_ES3_BIT, EGL_NONE};
    check(eglChooseConfig(display, wanted, configs, 256, &count), "eglChooseConfig");
    for (int i = 0; i < count; i++)
        if (eglGetConfigAttrib(display, configs[i], EGL_NATIVE_VISUAL_ID, &visual) && (uint32_t)visual == format)
            return configs[i];
    fail("EGL", "no config of the buffer's format");
    return NULL;
}

static struct canvas new_canvas(uint32_t width, uint32_t height, uint32_t format, uint32_t use, const char *fragment)
{
    struct canvas made = {.height = height};
    const EGLint version[] = {EGL_CONTEXT_MAJOR_VERSION, 3, EGL_NONE};
    EGLConfig config = config_of(format);
    made.gbm = gbm_surface_create(gbm, width, height, format, use | GBM_BO_USE_RENDERING);
    check(made.gbm != NULL, "gbm_surface_create");
    made.egl = eglCreatePlatformWindowSurface(display, config, made.gbm, NULL);
    check(made.egl != EGL_NO_SURFACE, "eglCreatePlatformWindowSurface");
    made.context = eglCreateContext(display, config, EGL_NO_CONTEXT, version);
    check(eglMakeCurrent(display, made.egl, made.egl, made.context), "eglMakeCurrent");
    const char *renderer = (const char *)glGetString(GL_RENDERER);
    if (!strstr(renderer, "virgl"))
        fail("not the device's renderer", renderer);
    made.program = compile(fragment);
    return made;
}

/* Draws the next picture and returns the buffer that holds it. */
static struct gbm_bo *draw(const struct canvas *on, int seed)
{
    check(eglMakeCurrent(display, on->egl, on->egl, on->context), "eglMakeCurrent");
    glUseProgram(on->program);
    glUniform1i(glGetUniformLocation(on->program, "seed"), seed);
    glUniform1i(glGetUniformLocation(on->program, "height"), (GLint)on->height);
    glDrawArrays(GL_TRIANGLES, 0, 3);
    check(eglSwapBuffers(display, on->egl), "eglSwapBuffers");
    struct gbm_bo *drawn = gbm_surface_lock_front_buffer(on->gbm);
    check(drawn != NULL, "gbm_surface_lock_front_buffer");
    return drawn;
}

/* ---- showing ----------------------------------------------------------------------------------------------------- */

static uint32_t framebuffer(struct gbm_bo *bo)
{
    uint32_t fb, handles[4] = {gbm_bo_get_handle(bo).u32}, pitches[4] = {gbm_bo_get_stride(bo)}, offsets[4] = {0};
    check(!drmModeAddFB2(card, gbm_bo_get_width(bo), gbm_bo_get_height(bo), gbm_bo_get_format(bo), handles, pitches,
                         offsets, &fb, 0), "drmModeAddFB2");
    return fb;
}

static void show(int output, int width, int height, int seed)
{
    drmModeRes *res = drmModeGetResources(card);
    check(res && output < res->count_connectors && output < res->count_crtcs, "no such output");
    drmModeConnector *connector = drmModeGetConnector(card, res->connectors[output]);
    crtc = res->crtcs[output];
    for (int i = 0; i < connector->count_modes; i++) {
        drmModeModeInfo *mode = &connector->modes[i];
        if (mode->hdisplay != width || mode->vdisplay != height)
            continue;
        screen = new_canvas((uint32_t)width, (uint32_t)height, GBM_FORMAT_XRGB8888, GBM_BO_USE_SCANOUT, pattern);
        uint32_t fb = framebuffer(draw(&screen, seed));
        check(!drmModeSetCrtc(card, crtc, fb, 0, 0, &connector->connector_id, 1, mode), "drmModeSetCrtc");
        return;
    }
    fail("show", "no such mode");
}

static void flip(int seed)
{
    static struct gbm_bo *shown;
    char event[256];
    struct gbm_bo *next = draw(&screen, seed);
    uint32_t fb = framebuffer(next);
    check(!drmModePageFlip(card, crtc, fb, DRM_MODE_PAGE_FLIP_EVENT, NULL), "drmModePageFlip");
    check(read(card, event, sizeof(event)) > 0, "no flip event");
    if (shown)
        gbm_surface_release_buffer(screen.gbm, shown);
    shown = next;
}

static void cursor(int seed, int hot_x, int hot_y)
{
    if (!pointer.gbm)
        pointer = new_canvas(CURSOR_SIDE, CURSOR_SIDE, GBM_FORMAT_ARGB8888, GBM_BO_USE_CURSOR, cursor_pattern);
    uint32_t handle = gbm_bo_get_handle(draw(&pointer, seed)).u32;
    glFinish();
    check(!drmModeSetCursor2(card, crtc, handle, CURSOR_SIDE, CURSOR_SIDE, hot_x, hot_y), "drmModeSetCursor2");
}

static void move(int x, int y)
{
    check(!drmModeMoveCursor(card, crtc, x, y), "drmModeMoveCursor");
}

static int obey(const char *line)
{
    char verb[16];
    int a[4] = {0};
    int count = sscanf(line, "%15s %i %i %i %i", verb, &a[0], &a[1], &a[2], &a[3]) - 1;
    if (!strcmp(verb, "show") && count == 4)
        show(a[0], a[1], a[2], a[3]);
    else if (!strcmp(verb, "flip") && count == 2)
        flip(a[1]);
    else if (!strcmp(verb, "cursor") && count == 4)
        cursor(a[1], a[2], a[3]);
    else if (!strcmp(verb, "move") && count == 3)
        move(a[1], a[2]);
    else
        return 0;
    return 1;
}

int main(void)
{
    char line[256];
    setvbuf(stdout, NULL, _IOLBF, 0);
    card = open("/dev/dri/card0", O_RDWR | O_CLOEXEC);
    check(card >= 0, "/dev/dri/card0");
    gbm = gbm_create_device(card);
    check(gbm != NULL, "gbm_create_device");
    display = eglGetPlatformDisplay(EGL_PLATFORM_GBM_KHR, gbm, NULL);
    check(eglInitialize(display, NULL, NULL) && eglBindAPI(EGL_OPENGL_ES_API), "eglInitialize");
    while (fgets(line, sizeof(line), stdin))
        puts(obey(line) ? "ok" : "error: not understood");
    return 0;
}
