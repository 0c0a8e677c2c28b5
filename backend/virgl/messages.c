/*
 * virglrenderer's own words, as lines for the log. It formats a line in pieces, so pieces wait until their line ends.
 */
#define VIRGL_RENDERER_UNSTABLE_APIS
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <virglrenderer.h>

#include "vg_virgl.h"

#define MAX_LINE 512

static const struct vg_renderer_events *taker;
static char line[MAX_LINE];
static char last[MAX_LINE];

/* What is said of every context, in versions that know no difference between news and complaints. */
static int is_small_talk(void)
{
    return strncmp(line, "gl_version ", strlen("gl_version ")) == 0 ||
           strncmp(line, "GLSL feature level ", strlen("GLSL feature level ")) == 0;
}

static void end_line(void)
{
    if (line[0] != '\0' && !is_small_talk()) {
        memcpy(last, line, sizeof(last));
        if (taker != NULL)
            taker->message(taker->cookie, last);
    }
    line[0] = '\0';
}

static void add(const char *text)
{
    size_t have = strlen(line);
    for (; *text != '\0'; text++) {
        if (*text == '\n') {
            end_line();
            have = 0;
        } else if (have < sizeof(line) - 1) {
            line[have++] = *text;
            line[have] = '\0';
        }
    }
}

#ifdef VIRGL_CHECK_VERSION /* 1.1: whole messages, with their importance */

static void on_log(enum virgl_log_level_flags level, const char *message, void *cookie)
{
    (void)cookie;
    if (level < VIRGL_LOG_LEVEL_WARNING)
        return;
    add(message);
    end_line();
}

static void install(void)
{
    virgl_set_log_callback(on_log, NULL, NULL);
}

#else

static void on_debug(const char *format, va_list arguments)
{
    char piece[MAX_LINE];
    vsnprintf(piece, sizeof(piece), format, arguments);
    add(piece);
}

static void install(void)
{
    virgl_set_debug_callback(on_debug);
}

#endif

void vg_messages_open(void)
{
    taker = NULL;
    line[0] = last[0] = '\0';
    install();
}

void vg_messages_to(const struct vg_renderer_events *events)
{
    taker = events;
    line[0] = '\0';
}

const char *vg_last_message(void)
{
    return last;
}
