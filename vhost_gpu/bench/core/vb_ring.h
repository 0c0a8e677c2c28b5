/* Driver side of a virtqueue, as Linux does it (linux/virtio_ring.h; virtio 1.3, 2.7 and 2.8). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "vb_loop.h"

typedef struct {
    uint64_t request, payload, reply;        /* gpas */
    uint32_t request_length, payload_length, reply_length;   /* 0: none; a payload wants indirect ones, and a reply */
    uint8_t *table;                          /* room for three descriptors, for indirect ones */
    uint64_t table_gpa;
} vb_chain;

/* Chains that fit at once. */
uint32_t vb_ring_room(const vb_queue *queue);
/* Begins with an empty ring: interrupts are asked for. */
void vb_ring_begin(vb_queue *queue);
/* Adds chain number index (below vb_ring_room); the device sees it at the next publish. */
void vb_ring_add(vb_queue *queue, uint32_t index, const vb_chain *chain);
/* Shows the device what was added; true when it wants a kick. */
bool vb_ring_publish(vb_queue *queue);
/* The next chain that came back: 1 with its index and the bytes written (UINT32_MAX: not told), 0 for none, -EPROTO. */
int vb_ring_next_used(vb_queue *queue, uint32_t *index, uint32_t *length);
/* Asks for an interrupt with the next chain; true when one is there already. */
bool vb_ring_arm(vb_queue *queue);

/* What ring.c chooses from. next_used gives the id that the device wrote where the next chain or batch is; skip goes
   over a chain's entry. */
uint32_t vb_split_add(vb_queue *queue, uint32_t index, const vb_chain *chain);
bool vb_split_publish(vb_queue *queue);
bool vb_split_next_used(const vb_queue *queue, uint32_t *id, uint32_t *length);
uint32_t vb_split_index(const vb_queue *queue, uint32_t id);
void vb_split_arm(vb_queue *queue);

uint32_t vb_packed_add(vb_queue *queue, uint32_t index, const vb_chain *chain);
bool vb_packed_publish(vb_queue *queue);
bool vb_packed_next_used(const vb_queue *queue, uint32_t *id, uint32_t *length);
void vb_packed_skip(vb_queue *queue, uint32_t index);
void vb_packed_arm(vb_queue *queue);
