/* What the render thread has to say to people. Any thread may add to it. */
#include <string.h>

#include "vg_internal.h"

void vg_render_event_add(struct vg_render *render, uint32_t kind, uint32_t ctx_id, const char *text)
{
    pthread_mutex_lock(&render->done_lock);
    /* What the loop must know is never lost: messages leave room for it. */
    uint32_t room = kind == VG_EVENT_MESSAGE ? VG_MAX_EVENTS / 2 : VG_MAX_EVENTS;
    if (render->num_events < room) {
        vg_render_event *event = &render->event[render->num_events++];
        *event = (vg_render_event){.kind = kind, .ctx_id = ctx_id};
        strncpy(event->text, text, sizeof(event->text) - 1);
    } else {
        render->lost_events++;
    }
    pthread_mutex_unlock(&render->done_lock);
}

/* The loop is told directly: the thread may be in a call for long. */
void vg_render_message(void *cookie, const char *text)
{
    struct vg_render *render = cookie;
    vg_render_event_add(render, VG_EVENT_MESSAGE, 0, text);
    vg_render_signal(render->news_event_fd);
}

int vg_render_take_event(vg_device *dev, vg_render_event *out)
{
    struct vg_render *render = dev->render;
    if (render == NULL)
        return 0;
    pthread_mutex_lock(&render->done_lock);
    int found = render->num_events > 0;
    if (found) {
        *out = render->event[0];
        out->lost = render->lost_events;
        render->lost_events = 0;
        render->num_events--;
        memmove(render->event, render->event + 1, render->num_events * sizeof(*render->event));
    }
    pthread_mutex_unlock(&render->done_lock);
    return found;
}
