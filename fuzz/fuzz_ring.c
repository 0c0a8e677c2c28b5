/*
 * libFuzzer target: rings of every kind and commands of the C core, from the guest's side. The first byte chooses the
 * features: event index, packed, in order.
 *
 * The input is a little program: each operation puts a command into a ring (in pieces, indirect or not), spoils bytes
 * of guest memory, rings and descriptors included, drains a queue and answers what comes out as the daemon would, moves
 * indices, takes memory away or resets the device. Any bytes are a valid program, so no corpus is needed to begin.
 *
 * Contract: whatever the guest does, every drain ends, in IDLE, BROKEN or STOPPED, nothing is charged against the
 * budget when everything is gone, and no sanitizer has anything to say.
 */
#define _GNU_SOURCE
#include <linux/virtio_gpu.h>
#include <linux/virtio_ring.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vg_internal.h"

#ifdef FUZZ_RENDER
#include "fuzz_render.h"
#else
static const uint32_t commands_3d[] = {VIRTIO_GPU_CMD_SUBMIT_3D};
#define renderer_start(dev) ((void)(dev))
#define renderer_enter(dev, queue) ((void)(dev))
#define renderer_leave(dev) ((void)(dev))
#define renderer_turn(how) ((void)0)
#define template_3d(type, id, side, fields) 0
#endif

#define HALF 0x8000u /* guest memory: two regions side by side, a hole after them, and one region that shrinks */
#define RAM_GPA 0x10000u
#define SHRINKING_GPA 0x80000u
#define SHRINKING_SIZE 0x4000u
#define UVA 0x7f0000000000u
#define RING_BYTES 0x1000u /* of one queue: descriptors, avail at 0x400, used at 0x800; packed: the same places */
#define BUFFERS 0x2000u
#define NUM 16
#define MAX_HELD 8
#define HOSTMEM (4u << 20)

struct input {
    const uint8_t *data;
    size_t size;
};

struct guest {
    vg_device *dev;
    struct input in;
    uint32_t next_buffer;
    int packed;
    uint16_t avail[VG_NUM_QUEUES];
    uint16_t next_desc[VG_NUM_QUEUES];
    uint16_t wrap[VG_NUM_QUEUES]; /* packed: 0 while the wrap counter is 1 */
    vg_request held[MAX_HELD]; /* with the caller, to be answered later */
    uint32_t held_count;
    uint64_t held_image;
};

static int ram_fd, shrinking_fd, eventfds[3];
static uint8_t *ram; /* both halves */

#define REQUIRE(condition)                                                       \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "fuzz_ring: broken contract: %s\n", #condition);     \
            abort();                                                             \
        }                                                                        \
    } while (0)

/* ---- input ---- */

static uint8_t take(struct input *in)
{
    if (in->size == 0)
        return 0;
    in->size--;
    return *in->data++;
}

static uint32_t take32(struct input *in)
{
    uint32_t value = take(in);
    value |= (uint32_t)take(in) << 8;
    value |= (uint32_t)take(in) << 16;
    return value | (uint32_t)take(in) << 24;
}

/* Numbers that matter to such a device, small ones first; or any number. */
static uint32_t take_field(struct input *in)
{
    static const uint32_t values[] = {
        0, 1, 2, 3, 4, 5, 8, 16, 32, 63, 64, 65, 100, 256, 1024, 0x1000,
        RAM_GPA, RAM_GPA + BUFFERS, RAM_GPA + HALF - 8, SHRINKING_GPA, SHRINKING_GPA + 0x3ff0,
        67, 68, 121, 134, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0, 0x40000001, 16384, 65535,
    };
    uint8_t choice = take(in);
    return choice < 0x80 ? values[choice % (sizeof(values) / sizeof(values[0]))] : take32(in);
}

/* ---- rings ---- */

static uint32_t ring_at(uint32_t queue)
{
    return queue * RING_BYTES;
}

/* A packed ring that starts over has its used place where the guest's next one is: as after an orderly stop. */
static uint32_t base(const struct guest *guest, uint32_t queue)
{
    if (!guest->packed)
        return guest->avail[queue];
    uint32_t place = guest->next_desc[queue] | (guest->wrap[queue] ? 0 : 0x8000);
    return place | place << 16;
}

static void start(struct guest *guest, uint32_t queue)
{
    uint64_t uva = UVA + RAM_GPA + ring_at(queue);
    vg_queue_set_num(guest->dev, queue, NUM);
    vg_queue_set_addr(guest->dev, queue, uva, uva + 0x400, uva + 0x800);
    vg_queue_set_base(guest->dev, queue, base(guest, queue));
    vg_queue_set_kick(guest->dev, queue, eventfds[0]);
    vg_queue_set_call(guest->dev, queue, eventfds[1]);
    vg_queue_set_err(guest->dev, queue, eventfds[2]);
    vg_queue_set_started(guest->dev, queue, 1);
    vg_queue_set_enabled(guest->dev, queue, 1);
}

static void put_split(struct guest *guest, uint32_t queue, uint64_t gpa, uint32_t len, uint16_t flags)
{
    uint16_t slot = guest->next_desc[queue];
    struct vring_desc desc = {.addr = gpa, .len = len, .flags = flags, .next = (uint16_t)((slot + 1) % NUM)};
    memcpy(ram + ring_at(queue) + slot * sizeof(desc), &desc, sizeof(desc));
    guest->next_desc[queue] = desc.next;
}

/* Available at once: nobody looks before the next drain. The buffer id is the slot of the chain's last descriptor. */
static void put_packed(struct guest *guest, uint32_t queue, uint64_t gpa, uint32_t len, uint16_t flags)
{
    uint16_t slot = guest->next_desc[queue];
    uint16_t owner = guest->wrap[queue] ? VG_PACKED_USED : VG_PACKED_AVAIL;
    struct vring_packed_desc desc = {.addr = gpa, .len = len, .id = slot, .flags = flags | owner};
    memcpy(ram + ring_at(queue) + slot * sizeof(desc), &desc, sizeof(desc));
    guest->next_desc[queue] = (uint16_t)((slot + 1) % NUM);
    guest->wrap[queue] ^= slot + 1 == NUM;
}

static void put_desc(struct guest *guest, uint32_t queue, uint64_t gpa, uint32_t len, uint16_t flags)
{
    if (guest->packed)
        put_packed(guest, queue, gpa, len, flags);
    else
        put_split(guest, queue, gpa, len, flags);
}

static void publish(struct guest *guest, uint32_t queue, uint16_t head)
{
    uint8_t *avail = ram + ring_at(queue) + 0x400;
    memcpy(avail + 4 + 2 * (guest->avail[queue] % NUM), &head, 2);
    guest->avail[queue]++;
    memcpy(avail + 2, &guest->avail[queue], 2);
}

static uint32_t allocate(struct guest *guest, uint32_t size)
{
    if (guest->next_buffer + size > 2 * HALF)
        guest->next_buffer = BUFFERS;
    uint32_t offset = guest->next_buffer;
    guest->next_buffer += size;
    return offset;
}

/* ---- operations ---- */

/* Three resources: tiny, a cursor, and one larger than the pieces in which the core copies. */
static const uint32_t sides[] = {5, 64, 300};

/* Backing made of as many pieces as it takes; they lie over one another, the memory is smaller than the resource. */
static uint32_t backing(uint32_t *fields, uint32_t side)
{
    const uint32_t piece = 0xf000;
    if (side == sides[0]) { /* in the region that shrinks */
        memcpy(fields + 1, (uint32_t[]){1, SHRINKING_GPA, 0, side * side * 4, 0}, 20);
        return 6;
    }
    uint32_t left = side * side * 4, count = 0;
    for (; left > 0; count++) {
        uint32_t length = left < piece ? left : piece;
        uint32_t entry[4] = {RAM_GPA + 0x200 * count, 0, length, 0};
        memcpy(fields + 2 + 4 * count, entry, sizeof(entry));
        left -= length;
    }
    fields[1] = count;
    return 2 + 4 * count;
}

/* The same as a blob of just that size. */
static uint32_t blob(uint32_t *fields, uint32_t id, uint32_t side)
{
    uint32_t attach[64], count = backing(attach, side) - 2;
    memcpy(fields, (uint32_t[]){id, VIRTIO_GPU_BLOB_MEM_GUEST, 0, attach[1], 0, 0, side * side * 4, 0}, 32);
    memcpy(fields + 8, attach + 2, count * 4);
    return 8 + count;
}

static uint32_t rectangle(uint32_t *fields, uint32_t side)
{
    fields[2] = fields[3] = side;
    return 4;
}

/* A blob's picture: all of it, its upper half, all but its last row one pixel on, or all of it on the other scanout. */
static uint32_t picture(uint32_t *fields, uint32_t id, uint32_t side, uint32_t which)
{
    const uint32_t heights[] = {side, side / 2, side - 1, side};
    memcpy(fields, (uint32_t[]){0, 0, side, heights[which], which == 3, id, side, heights[which], 2, 0, side * 4}, 44);
    fields[14] = which == 2 ? 4 : 0;
    return 18;
}

/* A command as a driver would send it, for resource id. Returns the number of fields behind the header. */
static uint32_t template(uint32_t type, uint32_t id, uint32_t which, uint32_t *fields)
{
    static const uint8_t formats[] = {1, 2, 3, 4, 67, 68, 121, 134};
    uint32_t side = sides[id - 1], count = template_3d(type, id, side, fields);
    if (count > 0)
        return count;
    switch (type) {
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_2D:
        memcpy(fields, (uint32_t[]){id, formats[type * id % 8], side, side}, 16);
        return 4;
    case VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING:
        fields[0] = id;
        return backing(fields, side);
    case VIRTIO_GPU_CMD_SET_SCANOUT:
        fields[5] = id;
        return rectangle(fields, side) + 2;
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB:
        return blob(fields, id, side);
    case VIRTIO_GPU_CMD_SET_SCANOUT_BLOB:
        return picture(fields, id, side, which);
    case VIRTIO_GPU_CMD_RESOURCE_FLUSH:
        fields[4] = id;
        return rectangle(fields, side) + 2;
    case VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D:
        fields[6] = id;
        return rectangle(fields, side) + 4;
    case VIRTIO_GPU_CMD_UPDATE_CURSOR:
    case VIRTIO_GPU_CMD_MOVE_CURSOR:
        fields[4] = id;
        return 8;
    default:
        fields[0] = id;
        return 2;
    }
}

static const uint32_t commands[] = {
    VIRTIO_GPU_CMD_TRANSFER_TO_HOST_2D,     VIRTIO_GPU_CMD_RESOURCE_FLUSH, VIRTIO_GPU_CMD_RESOURCE_CREATE_2D,
    VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING, VIRTIO_GPU_CMD_SET_SCANOUT,    VIRTIO_GPU_CMD_MOVE_CURSOR,
    VIRTIO_GPU_CMD_UPDATE_CURSOR,           VIRTIO_GPU_CMD_RESOURCE_UNREF, VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING,
    VIRTIO_GPU_CMD_RESOURCE_CREATE_BLOB,    VIRTIO_GPU_CMD_SET_SCANOUT_BLOB,
    VIRTIO_GPU_CMD_GET_DISPLAY_INFO,        VIRTIO_GPU_CMD_GET_EDID,       VIRTIO_GPU_CMD_GET_CAPSET,
    VIRTIO_GPU_CMD_RESOURCE_MAP_BLOB,       VIRTIO_GPU_CMD_RESOURCE_UNMAP_BLOB,
};

/* Any number is one in 16; of the others, half are of 3D where there is a renderer. */
static uint32_t choose_command(struct guest *guest, uint8_t choice)
{
    if (choice >= 0xf0)
        return take32(&guest->in);
    if (sizeof(commands_3d) > sizeof(commands_3d[0]) && choice >= 0x78)
        return commands_3d[choice % (sizeof(commands_3d) / sizeof(commands_3d[0]))];
    return commands[choice % (sizeof(commands) / sizeof(commands[0]))];
}

/* A command with some fields changed: where it lies, and how long it is. */
static uint32_t build(struct guest *guest, uint32_t *length)
{
    uint32_t words[6 + 64] = {0}, *fields = words + 6;
    uint8_t choice = take(&guest->in), how = take(&guest->in);
    words[0] = choose_command(guest, choice);
    words[1] = how & 3;
    words[2] = how;
    words[4] = 1 + (how >> 5) % 3; /* a context, and a ring of it */
    words[5] = how >> 4 & 1;
    uint32_t count = template(words[0], 1 + (how >> 2) % 3, how & 3, fields);
    for (uint32_t changes = how >> 6; changes > 0; changes--) {
        uint32_t field = take(&guest->in) % count;
        fields[field] = take_field(&guest->in);
    }
    /* Cut short at times, but never to nothing: the shortest command has one field. */
    *length = (6 + count) * 4 - ((how & 0xf0) == 0x30 ? take(&guest->in) % 28 : 0);
    uint32_t offset = allocate(guest, *length);
    memcpy(ram + offset, words, *length);
    return offset;
}

struct pieces {
    struct vring_desc at[8];
    uint32_t count;
};

static void add_piece(struct pieces *pieces, uint32_t offset, uint32_t len, uint16_t flags)
{
    pieces->at[pieces->count++] = (struct vring_desc){.addr = RAM_GPA + offset, .len = len, .flags = flags};
}

static void publish_direct(struct guest *guest, uint32_t queue, const struct pieces *pieces)
{
    uint16_t head = guest->next_desc[queue];
    for (uint32_t i = 0; i < pieces->count; i++) {
        uint16_t more = i + 1 < pieces->count ? VRING_DESC_F_NEXT : 0;
        put_desc(guest, queue, pieces->at[i].addr, pieces->at[i].len, pieces->at[i].flags | more);
    }
    if (!guest->packed)
        publish(guest, queue, head);
}

static void publish_indirect(struct guest *guest, uint32_t queue, struct pieces *pieces)
{
    uint32_t size = pieces->count * sizeof(struct vring_desc), table = allocate(guest, size);
    uint16_t head = guest->next_desc[queue];
    for (uint32_t i = 0; i + 1 < pieces->count && !guest->packed; i++) {
        pieces->at[i].flags |= VRING_DESC_F_NEXT;
        pieces->at[i].next = (uint16_t)(i + 1);
    }
    for (uint32_t i = 0; i < pieces->count && guest->packed; i++)
        /* id and flags lie where flags and next do in a split ring's table */
        pieces->at[i] = (struct vring_desc){pieces->at[i].addr, pieces->at[i].len, 0, pieces->at[i].flags};
    memcpy(ram + table, pieces->at, size);
    put_desc(guest, queue, RAM_GPA + table, size, VRING_DESC_F_INDIRECT);
    if (!guest->packed)
        publish(guest, queue, head);
}

static void send(struct guest *guest, uint32_t queue)
{
    struct pieces pieces = {.count = 0};
    uint32_t length, offset = build(guest, &length);
    uint8_t shape = take(&guest->in);
    for (uint32_t cuts = shape & 3; cuts > 0 && length > 1; cuts--) {
        uint32_t piece = take(&guest->in) % length;
        add_piece(&pieces, offset, piece, 0);
        offset += piece;
        length -= piece;
    }
    add_piece(&pieces, offset, length, 0);
    for (uint32_t rooms = shape >> 2 & 3; rooms > 0; rooms--) {
        uint32_t room = take(&guest->in);
        add_piece(&pieces, allocate(guest, room), room, VRING_DESC_F_WRITE);
    }
    if (shape & 0x10)
        publish_indirect(guest, queue, &pieces);
    else
        publish_direct(guest, queue, &pieces);
}

/* Any head in the avail ring, or a lone descriptor with any flags. */
static void stray(struct guest *guest, uint32_t queue, uint8_t value)
{
    if (guest->packed)
        put_packed(guest, queue, RAM_GPA + BUFFERS, 64, value & 7);
    else
        publish(guest, queue, value);
}

static void spoil(struct guest *guest)
{
    uint32_t place = take(&guest->in) | (uint32_t)take(&guest->in) << 8;
    for (uint32_t count = 1 + take(&guest->in) % 8; count > 0; count--)
        ram[place++ % (2 * HALF)] = take(&guest->in);
}

/* What backend/device.py does with the commands that the core hands over. */
static uint32_t execute(vg_device *dev, const vg_request *req)
{
    uint32_t w[8] = {0};
    memcpy(w, req->data + 24, req->size - 24 < sizeof(w) ? req->size - 24 : sizeof(w));
    switch (req->type) {
    case VIRTIO_GPU_CMD_RESOURCE_CREATE_2D:
        return vg_resource_create_2d(dev, w[0], w[1], w[2], w[3]);
    case VIRTIO_GPU_CMD_RESOURCE_UNREF:
        return vg_resource_unref(dev, w[0]);
    case VIRTIO_GPU_CMD_SET_SCANOUT:
        return vg_set_scanout(dev, w[4], w[5], w[0], w[1], w[2], w[3]);
    case VIRTIO_GPU_CMD_RESOURCE_ATTACH_BACKING:
        REQUIRE(req->size == 32 + (uint64_t)w[1] * 16);
        return vg_resource_attach_backing(dev, w[0], req->data + 32, w[1]);
    case VIRTIO_GPU_CMD_RESOURCE_DETACH_BACKING:
        return vg_resource_detach_backing(dev, w[0]);
    case VIRTIO_GPU_CMD_UPDATE_CURSOR:
        return vg_update_cursor(dev, w[0], w[1], w[2], w[4], w[5], w[6]);
    default:
        return VIRTIO_GPU_RESP_ERR_UNSPEC;
    }
}

static void answer(struct guest *guest, vg_request *req)
{
    static const uint8_t payload[1064];
    uint32_t type = execute(guest->dev, req);
    uint64_t len = req->type == VIRTIO_GPU_CMD_GET_EDID ? sizeof(payload) : 0;
    vg_request_complete(guest->dev, req, type, payload, len);
}

static void drain(struct guest *guest, uint32_t queue, int hold)
{
    /* A ring holds 16 chains, and nobody adds any while it is drained. */
    for (int calls = 0; calls < 64; calls++) {
        vg_request req;
        renderer_enter(guest->dev, queue);
        int state = vg_queue_drain(guest->dev, queue, calls % 2 ? 0 : 1000000, &req);
        renderer_leave(guest->dev);
        REQUIRE(state >= 0);
        if (state == VG_DRAIN_REQUEST && hold && guest->held_count < MAX_HELD)
            guest->held[guest->held_count++] = req;
        else if (state == VG_DRAIN_REQUEST)
            answer(guest, &req);
        else if (state != VG_DRAIN_AGAIN)
            return;
    }
    REQUIRE(!"a drain that ends");
}

static void answer_held(struct guest *guest, int drop)
{
    while (guest->held_count > 0) {
        vg_request *req = &guest->held[--guest->held_count];
        if (drop)
            vg_request_drop(guest->dev, req);
        else
            answer(guest, req);
    }
    vg_queue_notify(guest->dev, VG_QUEUE_CONTROL);
}

/* What a sink does: looks, holds, reads, lets go. */
static void look(struct guest *guest, uint32_t scanout)
{
    static uint8_t row[16384];
    static vg_cursor cursor;
    vg_frame frame;
    vg_rect damage[4];
    uint64_t retired[4];
    vg_resource_info resource = {.id = 0};
    vg_queue_info info;
    vg_blob_picture picture;

    while (vg_resource_next(guest->dev, resource.id, &resource))
        if (resource.width <= sizeof(row) / 4) /* a guest may ask for far wider ones */
            vg_resource_read(guest->dev, resource.id, 0, 0, resource.width, 1, row, sizeof(row));
    vg_queue_describe(guest->dev, scanout, &info);
    vg_take_dirty(guest->dev);
    vg_cursor_describe(guest->dev, scanout, &cursor);
    vg_scanout_blob(guest->dev, scanout, &picture);
    vg_scanout_take_damage(guest->dev, scanout, damage, 4);
    if (guest->held_image != 0)
        vg_image_release(guest->dev, guest->held_image);
    guest->held_image = 0;
    if (vg_scanout_frame(guest->dev, scanout, &frame) == 0 && frame.resource_id != 0) {
        if (vg_image_hold(guest->dev, frame.image) == 0)
            guest->held_image = frame.image;
        if (frame.width <= sizeof(row) / 4)
            vg_image_read_xrgb(guest->dev, frame.image, frame.x, frame.y, frame.width, 1, row, sizeof(row));
    }
    vg_take_retired_images(guest->dev, retired, 4);
}

/* ---- memory ---- */

static void add_half(vg_device *dev, uint32_t half)
{
    uint64_t gpa = RAM_GPA + half * HALF;
    vg_mem_add(dev, ram_fd, gpa, HALF, UVA + gpa, half * HALF);
}

static void remove_half(vg_device *dev, uint32_t half)
{
    uint64_t gpa = RAM_GPA + half * HALF;
    vg_mem_remove(dev, gpa, HALF, UVA + gpa);
}

static void shrink(int gone)
{
    REQUIRE(ftruncate(shrinking_fd, gone ? 0 : SHRINKING_SIZE) == 0);
}

/* ---- the program ---- */

static void step(struct guest *guest)
{
    uint8_t op = take(&guest->in);
    uint32_t queue = op >> 4 & 1;
    switch (op & 15) {
    case 0: case 1: case 2: case 3:
        send(guest, queue);
        break;
    case 4: case 5:
        drain(guest, queue, 0);
        break;
    case 6:
        drain(guest, queue, 1);
        break;
    case 7:
        answer_held(guest, queue);
        break;
    case 8: case 9:
        spoil(guest);
        break;
    case 10:
        look(guest, queue);
        break;
    case 11:
        stray(guest, queue, take(&guest->in));
        break;
    case 12:
        vg_queue_set_started(guest->dev, queue, 0);
        start(guest, queue);
        break;
    case 13:
        remove_half(guest->dev, queue);
        if (take(&guest->in) & 1)
            add_half(guest->dev, queue);
        break;
    case 14:
        renderer_turn(take(&guest->in));
        shrink((int)queue);
        break;
    default:
        vg_device_reset(guest->dev);
    }
}

static void finish(struct guest *guest)
{
    for (uint32_t queue = 0; queue < VG_NUM_QUEUES; queue++)
        drain(guest, queue, 0);
    answer_held(guest, 0);
    if (guest->held_image != 0)
        vg_image_release(guest->dev, guest->held_image);
    vg_device_reset(guest->dev);
    REQUIRE(vg_hostmem_used(guest->dev) == 0);
    vg_device_free(guest->dev);
}

static void prepare_once(void)
{
    if (ram != NULL)
        return;
    ram_fd = memfd_create("ram", MFD_CLOEXEC);
    shrinking_fd = memfd_create("shrinking", MFD_CLOEXEC);
    for (int i = 0; i < 3; i++)
        eventfds[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    REQUIRE(ftruncate(ram_fd, 2 * HALF) == 0);
    ram = mmap(NULL, 2 * HALF, PROT_READ | PROT_WRITE, MAP_SHARED, ram_fd, 0);
    REQUIRE(ram != MAP_FAILED);
}

static uint64_t choose_features(struct guest *guest)
{
    uint8_t choice = take(&guest->in);
    guest->packed = choice >> 1 & 1;
    return VG_F_INDIRECT_DESC | (choice & 1 ? VG_F_EVENT_IDX : 0) | (choice & 2 ? VG_F_RING_PACKED : 0) |
           (choice & 4 ? VG_F_IN_ORDER : 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct guest guest = {.in = {data, size}, .next_buffer = BUFFERS};
    prepare_once();
    memset(ram, 0, 2 * HALF);
    shrink(0);
    guest.dev = vg_device_new(2, HOSTMEM);
    REQUIRE(guest.dev != NULL);
    renderer_start(guest.dev);
    add_half(guest.dev, 0);
    add_half(guest.dev, 1);
    vg_mem_add(guest.dev, shrinking_fd, SHRINKING_GPA, SHRINKING_SIZE, UVA + SHRINKING_GPA, 0);
    vg_set_features(guest.dev, choose_features(&guest));
    start(&guest, VG_QUEUE_CONTROL);
    start(&guest, VG_QUEUE_CURSOR);
    for (int steps = 0; guest.in.size > 0 && steps < 256; steps++)
        step(&guest);
    finish(&guest);
    return 0;
}
