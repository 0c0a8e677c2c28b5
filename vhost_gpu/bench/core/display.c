/* The VMM's end of the display socket (docs/interop/vhost-user-gpu of QEMU), read as QEMU reads it. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "vb_loop.h"

#define MAX_SCANOUTS 16
#define MAX_SIDE 16384u
#define COUNT(field) __atomic_fetch_add(&(field), 1, __ATOMIC_RELAXED)

enum {
    GET_PROTOCOL_FEATURES = 1, SET_PROTOCOL_FEATURES, GET_DISPLAY_INFO, CURSOR_POS, CURSOR_POS_HIDE, CURSOR_UPDATE,
    SCANOUT, UPDATE, GET_EDID = 11,
};

typedef struct {
    uint32_t width, height;
    uint8_t *pixels;
} surface;

typedef struct {
    uint32_t scanout, x, y, width, height;
    uint8_t pixels[];
} update;

typedef struct {
    vb_display *display;
    surface surfaces[MAX_SCANOUTS];
    uint8_t *payload;
    uint32_t room, size;     /* of the payload */
} reader;

static bool receive(int fd, void *data, size_t size)
{
    return recv(fd, data, size, MSG_WAITALL) == (ssize_t)size;
}

static void set_scanout(reader *r)
{
    uint32_t fields[3];
    surface *s;

    memcpy(fields, r->payload, sizeof(fields));
    if (r->size != sizeof(fields) || fields[0] >= MAX_SCANOUTS || fields[1] > MAX_SIDE || fields[2] > MAX_SIDE) {
        COUNT(r->display->violations);
        return;
    }
    s = &r->surfaces[fields[0]];
    free(s->pixels);
    s->width = fields[1];
    s->height = fields[2];
    s->pixels = calloc((size_t)s->width * s->height + 1, 4);
    COUNT(r->display->scanouts);
}

static bool is_inside(const reader *r, const update *u)
{
    const surface *s = u->scanout < MAX_SCANOUTS ? &r->surfaces[u->scanout] : NULL;

    return s && s->pixels && u->width <= s->width && u->x <= s->width - u->width && u->height <= s->height &&
           u->y <= s->height - u->height && r->size == sizeof(*u) + (uint64_t)u->width * u->height * 4;
}

static void draw(reader *r)
{
    const update *u = (const update *)(const void *)r->payload;
    const surface *s;
    size_t row;

    if (r->size < sizeof(*u) || !is_inside(r, u)) {
        COUNT(r->display->violations);
        return;
    }
    s = &r->surfaces[u->scanout];
    row = (size_t)u->width * 4;
    for (uint32_t i = 0; i < u->height; i++)
        memcpy(s->pixels + ((size_t)(u->y + i) * s->width + u->x) * 4, u->pixels + i * row, row);
    __atomic_fetch_add(&r->display->pixel_bytes, row * u->height, __ATOMIC_RELAXED);
    COUNT(r->display->updates);
}

static bool answer(const vb_display *display, const uint8_t *reply, uint32_t size)
{
    return send(display->fd, reply, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* False when the socket is of no more use. */
static bool handle(reader *r, uint32_t request)
{
    vb_display *d = r->display;

    switch (request) {
    case GET_PROTOCOL_FEATURES:
        return answer(d, d->features_reply, d->features_size);
    case GET_DISPLAY_INFO:
        return answer(d, d->info_reply, d->info_size);
    case GET_EDID:
        return answer(d, d->edid_reply, d->edid_size);
    case SCANOUT:
        set_scanout(r);
        return true;
    case UPDATE:
        draw(r);
        return true;
    case CURSOR_POS:
    case CURSOR_POS_HIDE:
        COUNT(d->cursor_moves);
        return true;
    case CURSOR_UPDATE:
        COUNT(d->cursor_updates);
        return true;
    case SET_PROTOCOL_FEATURES:
        return true;
    default:
        COUNT(d->violations);
        return true;
    }
}

static bool make_room(reader *r, uint32_t size)
{
    void *larger;

    if (size <= r->room)
        return true;
    larger = realloc(r->payload, size);
    if (!larger)
        return false;
    r->payload = larger;
    r->room = size;
    return true;
}

static bool read_message(reader *r)
{
    uint32_t header[3];

    if (!receive(r->display->fd, header, sizeof(header)) || !make_room(r, header[2]))
        return false;
    r->size = header[2];
    if (r->size && !receive(r->display->fd, r->payload, r->size))
        return false;
    COUNT(r->display->messages);
    return handle(r, header[0]);
}

int vb_display_run(vb_display *display)
{
    reader r = {.display = display};

    if (!make_room(&r, 64 * 1024))
        return -ENOMEM;
    while (read_message(&r))
        ;
    for (int i = 0; i < MAX_SCANOUTS; i++)
        free(r.surfaces[i].pixels);
    free(r.payload);
    return 0;
}
