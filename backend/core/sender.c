/*
 * A thread that sends pictures to the VMM's display, by reference (sendfile(2)) where that can be: what takes long is not
 * the event loop's then, and takes no CPU time away from threads that run.
 *
 * The socket is shared with the loop: while a job runs, all that the loop has to say is posted here, and goes out
 * between two messages. A message that the socket has begun to take is always ended before anything else. The loop never
 * waits for the thread, nor for more than a short copy under the lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "vg_internal.h"

#define POSTS 65536u /* room for what is said behind the rest of a message */

struct bytes {
    uint8_t *data;
    uint64_t start, size, room; /* size bytes from start on are left */
};

struct vg_sender {
    int socket;
    uint64_t queue_limit;
    uint8_t *buffer; /* of what is being sent */
    int wake_fd, news_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    bool stopping, cancelled;
    int error;
    uint64_t sent;
    struct bytes posted; /* the rest of a message that was begun, and whole ones */
    /* The job, while there is one. */
    bool has_job, by_reference;
    struct vg_picture picture;
};

/* ---- the socket ---- */

/* Bytes taken; 0: none now; -1 with errno. */
static ssize_t taken(ssize_t sent)
{
    return sent < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : sent;
}

static bool has_room(const struct vg_sender *sender)
{
    int queued = 0;
    return ioctl(sender->socket, TIOCOUTQ, &queued) == 0 && (uint64_t)queued <= sender->queue_limit;
}

static ssize_t send_bytes(const struct vg_sender *sender, const uint8_t *data, uint64_t size, int flags)
{
    return taken(send(sender->socket, data, size, MSG_NOSIGNAL | MSG_DONTWAIT | flags));
}

static ssize_t send_named(const struct vg_sender *sender, const struct vg_update *update, uint64_t done)
{
    off_t offset = (off_t)(update->offset + done);
    ssize_t sent = sendfile(sender->socket, sender->picture.file, &offset, update->named - done);
    if (sent != 0)
        return taken(sent);
    errno = ENODATA; /* the file ends too soon */
    return -1;
}

/* ---- the thread: waiting and noting, with the lock ---- */

static void note(struct vg_sender *sender, ssize_t sent)
{
    if (sent < 0)
        sender->error = errno;
    else
        sender->sent += (uint64_t)sent;
}

static void tell(struct vg_sender *sender)
{
    eventfd_write(sender->news_fd, 1);
}

/* Until somebody has something to say, or, if asked for, the socket may take more. */
static void wait_for(struct vg_sender *sender, bool socket_too)
{
    struct pollfd fds[] = {
        {.fd = sender->wake_fd, .events = POLLIN},
        {.fd = socket_too ? sender->socket : -1, .events = POLLOUT},
    };
    eventfd_t count;
    pthread_mutex_unlock(&sender->lock);
    if (poll(fds, 2, -1) > 0 && fds[0].revents != 0)
        eventfd_read(sender->wake_fd, &count);
    pthread_mutex_lock(&sender->lock);
    if (fds[1].revents & (POLLERR | POLLHUP))
        sender->error = EPIPE;
}

/* ---- the thread: bytes ---- */

static void drop(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

/* Room for more, before and behind what is left. False: no memory, and nothing has changed. */
static bool make_room(struct bytes *bytes, uint64_t before, uint64_t behind)
{
    uint64_t wanted = before + bytes->size + behind;
    uint8_t *data = malloc(wanted);
    if (data == NULL)
        return false;
    if (bytes->size > 0)
        memcpy(data + before, bytes->data + bytes->start, bytes->size);
    free(bytes->data);
    *bytes = (struct bytes){.data = data, .start = before, .size = bytes->size, .room = wanted};
    return true;
}

static bool append(struct bytes *bytes, const void *data, uint64_t size)
{
    uint64_t end = bytes->start + bytes->size;
    if (size > bytes->room - end && !make_room(bytes, 0, size))
        return false;
    memcpy(bytes->data + bytes->start + bytes->size, data, size);
    bytes->size += size;
    return true;
}

/* A part at a time: the loop may want the lock. */
static void send_posted(struct vg_sender *sender)
{
    struct bytes *posted = &sender->posted;
    uint64_t size = posted->size < VG_UPDATE_BUFFER ? posted->size : VG_UPDATE_BUFFER;
    ssize_t sent = send_bytes(sender, posted->data + posted->start, size, 0);
    note(sender, sent);
    if (sent == 0)
        wait_for(sender, true);
    if (sent <= 0)
        return;
    posted->start += (uint64_t)sent;
    posted->size -= (uint64_t)sent;
    if (posted->size > 0)
        return;
    drop(posted);
    tell(sender);
}

static int read_named(const struct vg_sender *sender, const struct vg_update *update, uint64_t done, uint8_t *out)
{
    while (done < update->named) {
        ssize_t got = pread(sender->picture.file, out, update->named - done, (off_t)(update->offset + done));
        if (got <= 0)
            return got < 0 ? errno : ENODATA;
        out += got;
        done += (uint64_t)got;
    }
    return 0;
}

/* What is left of a message, as bytes: 0, or an errno. Without the lock. */
static int copy_rest(struct vg_sender *sender, const struct vg_update *update, uint64_t done, struct bytes *rest)
{
    uint64_t of_part = update->size + update->named - done;
    uint64_t of_data = done < update->size ? update->size - done : 0;
    if (!make_room(rest, 0, of_part + update->missing + POSTS))
        return ENOMEM;
    memcpy(rest->data, update->data + update->size - of_data, of_data);
    int error = read_named(sender, update, done > update->size ? done - update->size : 0, rest->data + of_data);
    vg_picture_end_message(&sender->picture, rest->data + of_part);
    rest->size = of_part + update->missing;
    return error;
}

/* In front of what is posted: the image may change from now on. */
static void keep_rest(struct vg_sender *sender, const struct vg_update *update, uint64_t done)
{
    struct bytes rest = {0}, posted;
    pthread_mutex_unlock(&sender->lock);
    int error = copy_rest(sender, update, done, &rest);
    pthread_mutex_lock(&sender->lock);
    posted = sender->posted;
    if (error == 0 && posted.size > 0 && !append(&rest, posted.data + posted.start, posted.size))
        error = ENOMEM;
    sender->error = error;
    sender->posted = rest;
    free(posted.data);
}

/* ---- the thread: messages ---- */

static ssize_t send_part(struct vg_sender *sender, const struct vg_update *update, uint64_t done)
{
    pthread_mutex_unlock(&sender->lock);
    ssize_t sent = done < update->size ? send_bytes(sender, update->data + done, update->size - done,
                                                    update->named > 0 ? MSG_MORE : 0)
                                       : send_named(sender, update, done - update->size);
    int error = errno;
    pthread_mutex_lock(&sender->lock);
    errno = error;
    note(sender, sent);
    return sent;
}

/* Whether all of it went out. */
static bool send_update(struct vg_sender *sender, const struct vg_update *update)
{
    uint64_t done = 0;
    while (done < update->size + update->named && sender->error == 0 && !sender->stopping) {
        ssize_t sent = send_part(sender, update, done);
        if (sent > 0) {
            done += (uint64_t)sent;
        } else if (sent == 0 && sender->cancelled) {
            if (done > 0 || update->continues)
                keep_rest(sender, update, done);
            return false;
        } else if (sent == 0) {
            wait_for(sender, true);
        }
    }
    return sender->error == 0 && !sender->stopping;
}

static void end_job(struct vg_sender *sender)
{
    sender->has_job = sender->cancelled = false;
    tell(sender);
}

static bool next_part(struct vg_sender *sender, struct vg_update *update)
{
    pthread_mutex_unlock(&sender->lock);
    bool more = vg_picture_next(&sender->picture, sender->buffer, update);
    pthread_mutex_lock(&sender->lock);
    return more;
}

/* The next messages of the job, whole ones, or its end. */
static void go_on(struct vg_sender *sender)
{
    struct vg_update update;
    do {
        if (!next_part(sender, &update)) {
            end_job(sender);
            return;
        }
        if (update.named > 0)
            sender->by_reference = true;
    } while (send_update(sender, &update) && update.missing > 0);
}

/* A step of what there is to do. */
static void work(struct vg_sender *sender)
{
    if (sender->error != 0 && sender->posted.size > 0) {
        drop(&sender->posted); /* nobody will read it */
        tell(sender);
    }
    if (sender->has_job && (sender->error != 0 || sender->cancelled))
        end_job(sender);
    else if (sender->posted.size > 0)
        send_posted(sender);
    else if (!sender->has_job)
        wait_for(sender, false);
    else if (!has_room(sender))
        wait_for(sender, true);
    else
        go_on(sender);
}

static void *sender_main(void *arg)
{
    struct vg_sender *sender = arg;
    vg_long_slices(); /* a picture can wait for a moment */
    pthread_mutex_lock(&sender->lock);
    while (!sender->stopping)
        work(sender);
    pthread_mutex_unlock(&sender->lock);
    return NULL;
}

/* ---- the loop's side ---- */

/* With all signals blocked, which are the loop's. */
static int start_thread(struct vg_sender *sender)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&sender->thread, NULL, sender_main, sender);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return rc;
    pthread_setname_np(sender->thread, "display");
    return 0;
}

static void discard(struct vg_sender *sender)
{
    if (sender->wake_fd >= 0)
        close(sender->wake_fd);
    if (sender->news_fd >= 0)
        close(sender->news_fd);
    free(sender->posted.data);
    free(sender->buffer);
    free(sender);
}

vg_sender *vg_sender_new(int socket, uint64_t queue_limit)
{
    struct vg_sender *sender = calloc(1, sizeof(*sender));
    if (sender == NULL)
        return NULL;
    sender->socket = socket;
    sender->queue_limit = queue_limit;
    sender->buffer = malloc(VG_UPDATE_BUFFER);
    sender->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sender->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&sender->lock, NULL);
    if (sender->buffer != NULL && sender->wake_fd >= 0 && sender->news_fd >= 0 && start_thread(sender) == 0)
        return sender;
    discard(sender);
    return NULL;
}

void vg_sender_free(vg_sender *sender)
{
    pthread_mutex_lock(&sender->lock);
    sender->stopping = true;
    eventfd_write(sender->wake_fd, 1);
    pthread_mutex_unlock(&sender->lock);
    pthread_join(sender->thread, NULL);
    pthread_mutex_destroy(&sender->lock);
    discard(sender);
}

int vg_sender_news_fd(const vg_sender *sender)
{
    return sender->news_fd;
}

void vg_sender_status(vg_sender *sender, vg_sender_state *out)
{
    eventfd_t count;
    eventfd_read(sender->news_fd, &count);
    pthread_mutex_lock(&sender->lock);
    *out = (vg_sender_state){
        .sent = sender->sent,
        .posted = sender->posted.size,
        .has_job = sender->has_job,
        .by_reference = sender->by_reference,
        .error = sender->error,
    };
    pthread_mutex_unlock(&sender->lock);
}

/* The picture is nobody else's between two jobs. */
static int64_t take_job(struct vg_sender *sender, const struct vg_picture *picture, int64_t pixels)
{
    if (sender->error != 0)
        return -sender->error;
    if (sender->has_job)
        return -EBUSY;
    sender->picture = *picture;
    sender->by_reference = false;
    sender->has_job = true;
    eventfd_write(sender->wake_fd, 1);
    return pixels;
}

int64_t vg_sender_begin(vg_sender *sender, vg_device *dev, uint64_t image, const vg_place *place, const vg_region *damage)
{
    VG_ENTER(dev);
    struct vg_picture picture;
    int64_t pixels = vg_picture_of(dev, image, place, damage, &picture);
    if (pixels <= 0)
        return pixels;
    pthread_mutex_lock(&sender->lock);
    pixels = take_job(sender, &picture, pixels);
    pthread_mutex_unlock(&sender->lock);
    return pixels;
}

int vg_sender_post(vg_sender *sender, const void *data, uint64_t size)
{
    pthread_mutex_lock(&sender->lock);
    bool kept = append(&sender->posted, data, size);
    if (kept)
        eventfd_write(sender->wake_fd, 1);
    pthread_mutex_unlock(&sender->lock);
    return kept ? 0 : -ENOMEM;
}

void vg_sender_cancel(vg_sender *sender)
{
    pthread_mutex_lock(&sender->lock);
    if (sender->has_job) {
        sender->cancelled = true;
        eventfd_write(sender->wake_fd, 1);
    }
    pthread_mutex_unlock(&sender->lock);
}
