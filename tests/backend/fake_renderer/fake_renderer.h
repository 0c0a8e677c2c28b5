/* What tests ask of the fake renderer; read by cffi and by the source. Any thread may call these. */
#pragma once

/* The table for vg_render_start, at its defaults: fences done at once, everything succeeds, nothing hangs. */
const void *fake_ops(void);
/* The next calls of this name return this result (0: succeed again), or, for fence, open and so on as documented there. */
void fake_fail(const char *name, int result);
/* Whether fences are told of only by fake_retire. */
void fake_hold_fences(int hold);
/* Whether there is a poll_fd; takes effect at the next open. */
void fake_use_poll_fd(int use);
/* The thread waits for fences in the renderer; to be called before it is started. */
void fake_use_wait(void);
/* Fences of this timeline up to seq are done: told by the next poll, or, at_once, by the calling thread. */
void fake_retire(uint32_t ctx_id, uint32_t ring_idx, uint64_t seq, int at_once);
/* Calls of this name hang until fake_release. NULL: none does. */
void fake_hang(const char *name);
void fake_release(void);
/* The same, from another thread, a moment after the render thread began to be waited for. */
void fake_release_soon(void);
/* Waits until a call hangs. 0: it does; -1: not within seconds. */
int fake_wait_hanging(uint32_t seconds);
/* The renderer says something, on the calling thread. */
void fake_say(const char *text);

/* What was called, one line a call ("submit 1 8"), in order. */
uint32_t fake_num_calls(void);
const char *fake_call(uint32_t index);
void fake_clear_calls(void);

/* What it has now. */
uint32_t fake_num_resources(void);
uint32_t fake_num_contexts(void);
uint32_t fake_num_iovs(void);
uint64_t fake_last_seq(void);
/* The pixels of level 0 of a resource, 4 bytes each, rows packed; NULL: there is no such resource. */
uint8_t *fake_pixels(uint32_t id);
