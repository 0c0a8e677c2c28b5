/*
 * A thread that sends pictures over a stream socket, by reference (sendfile(2)): what takes long is not the event
 * loop's then, and waits for CPU time that the guest and the renderer do not want.
 *
 * The socket is shared with the loop: while a job runs, all that the loop has to say is posted here, and goes out
 * between two messages. A message that the socket has begun to take is always ended before anything else.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
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

struct bytes {
    uint8_t *data;
    uint64_t size, room;
};

struct vg_sender {
    int socket;
    uint64_t queue_limit; /* bytes in the socket's queue, up to which a message is begun */
    int wake_fd, news_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stopping, cancelled;
    int error;
    uint64_t sent;
    struct bytes posted; /* the rest of a message that was begun, and whole ones */
    /* The job, while there is one. */
    bool has_job;
    int file;
    vg_send_message *messages;
    uint32_t count, next;
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

static ssize_t send_pixels(const struct vg_sender *sender, const vg_send_message *message, uint64_t done)
{
    off_t offset = (off_t)(message->offset + done);
    ssize_t sent = sendfile(sender->socket, sender->file, &offset, message->size - done);
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
}

/* ---- the thread: bytes ---- */

static uint8_t *make_room(struct bytes *bytes, uint64_t more)
{
    if (bytes->size + more > bytes->room) {
        uint8_t *data = realloc(bytes->data, bytes->size + more);
        if (data == NULL)
            return NULL;
        bytes->data = data;
        bytes->room = bytes->size + more;
    }
    return bytes->data;
}

static void send_posted(struct vg_sender *sender)
{
    struct bytes *posted = &sender->posted;
    ssize_t sent = send_bytes(sender, posted->data, posted->size, 0);
    note(sender, sent);
    if (sent == 0)
        wait_for(sender, true);
    if (sent <= 0)
        return;
    posted->size -= (uint64_t)sent;
    memmove(posted->data, posted->data + sent, posted->size);
    if (posted->size == 0)
        tell(sender);
}

static int read_pixels(const struct vg_sender *sender, const vg_send_message *message, uint64_t done, uint8_t *out)
{
    while (done < message->size) {
        ssize_t got = pread(sender->file, out, message->size - done, (off_t)(message->offset + done));
        if (got <= 0)
            return got < 0 ? errno : ENODATA;
        out += got;
        done += (uint64_t)got;
    }
    return 0;
}

/* What is left of a message becomes bytes, in front of all others: the file may change from now on. */
static void keep_rest(struct vg_sender *sender, const vg_send_message *message, uint64_t done)
{
    uint64_t head = sizeof(message->header), rest = head + message->size - done;
    uint64_t of_head = done < head ? head - done : 0;
    uint8_t *data = make_room(&sender->posted, rest);
    if (data == NULL) {
        sender->error = ENOMEM;
        return;
    }
    memmove(data + rest, data, sender->posted.size);
    memcpy(data, message->header + head - of_head, of_head);
    sender->error = read_pixels(sender, message, done > head ? done - head : 0, data + of_head);
    sender->posted.size += rest;
}

/* ---- the thread: messages ---- */

static ssize_t send_part(struct vg_sender *sender, const vg_send_message *message, uint64_t done)
{
    const uint64_t head = sizeof(message->header);
    pthread_mutex_unlock(&sender->lock);
    ssize_t sent = done < head ? send_bytes(sender, message->header + done, head - done, MSG_MORE)
                               : send_pixels(sender, message, done - head);
    int error = errno;
    pthread_mutex_lock(&sender->lock);
    errno = error;
    note(sender, sent);
    return sent;
}

static void send_message(struct vg_sender *sender, const vg_send_message *message)
{
    uint64_t done = 0;
    while (done < sizeof(message->header) + message->size && sender->error == 0) {
        ssize_t sent = send_part(sender, message, done);
        if (sent > 0) {
            done += (uint64_t)sent;
        } else if (sent == 0 && (sender->cancelled || sender->stopping)) {
            if (done > 0)
                keep_rest(sender, message, done);
            return;
        } else if (sent == 0) {
            wait_for(sender, true);
        }
    }
}

static void end_job(struct vg_sender *sender)
{
    sender->has_job = sender->cancelled = false;
    pthread_cond_broadcast(&sender->changed);
    tell(sender);
}

/* A step of what there is to do. */
static void work(struct vg_sender *sender)
{
    if (sender->error != 0 && sender->posted.size > 0) {
        sender->posted.size = 0; /* nobody will read it */
        tell(sender);
    }
    if (sender->has_job && (sender->error != 0 || sender->cancelled || sender->next == sender->count))
        end_job(sender);
    else if (sender->posted.size > 0)
        send_posted(sender);
    else if (!sender->has_job)
        wait_for(sender, false);
    else if (!has_room(sender))
        wait_for(sender, true);
    else
        send_message(sender, &sender->messages[sender->next++]);
}

static void *sender_main(void *arg)
{
    struct vg_sender *sender = arg;
    pthread_mutex_lock(&sender->lock);
    while (!sender->stopping)
        work(sender);
    pthread_mutex_unlock(&sender->lock);
    return NULL;
}

/* ---- the loop's side ---- */

/* With all signals blocked, which are the loop's. It takes nobody's turn away: a picture can wait for a moment. */
static int start_thread(struct vg_sender *sender)
{
    const struct sched_param none = {0};
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&sender->thread, NULL, sender_main, sender);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc != 0)
        return rc;
    pthread_setname_np(sender->thread, "display");
    pthread_setschedparam(sender->thread, SCHED_BATCH, &none);
    return 0;
}

static void discard(struct vg_sender *sender)
{
    if (sender->wake_fd >= 0)
        close(sender->wake_fd);
    if (sender->news_fd >= 0)
        close(sender->news_fd);
    free(sender->posted.data);
    free(sender->messages);
    free(sender);
}

vg_sender *vg_sender_new(int socket, uint64_t queue_limit)
{
    struct vg_sender *sender = calloc(1, sizeof(*sender));
    if (sender == NULL)
        return NULL;
    sender->socket = socket;
    sender->queue_limit = queue_limit;
    sender->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    sender->news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    pthread_mutex_init(&sender->lock, NULL);
    pthread_cond_init(&sender->changed, NULL);
    if (sender->wake_fd >= 0 && sender->news_fd >= 0 && start_thread(sender) == 0)
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
    pthread_cond_destroy(&sender->changed);
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
        .error = sender->error,
    };
    pthread_mutex_unlock(&sender->lock);
}

int vg_sender_begin(vg_sender *sender, int file, const vg_send_message *messages, uint32_t count)
{
    vg_send_message *copy = malloc(count * sizeof(*copy));
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, messages, count * sizeof(*copy));
    pthread_mutex_lock(&sender->lock);
    int rc = sender->has_job ? -EBUSY : -sender->error;
    if (rc == 0) {
        free(sender->messages);
        sender->messages = copy;
        sender->file = file;
        sender->count = count;
        sender->next = 0;
        sender->has_job = true;
        eventfd_write(sender->wake_fd, 1);
    } else {
        free(copy);
    }
    pthread_mutex_unlock(&sender->lock);
    return rc;
}

int vg_sender_post(vg_sender *sender, const void *data, uint64_t size)
{
    pthread_mutex_lock(&sender->lock);
    uint8_t *room = make_room(&sender->posted, size);
    if (room != NULL) {
        memcpy(room + sender->posted.size, data, size);
        sender->posted.size += size;
        eventfd_write(sender->wake_fd, 1);
    }
    pthread_mutex_unlock(&sender->lock);
    return room == NULL ? -ENOMEM : 0;
}

void vg_sender_cancel(vg_sender *sender)
{
    pthread_mutex_lock(&sender->lock);
    if (sender->has_job) {
        sender->cancelled = true;
        eventfd_write(sender->wake_fd, 1);
    }
    while (sender->has_job)
        pthread_cond_wait(&sender->changed, &sender->lock);
    pthread_mutex_unlock(&sender->lock);
}
