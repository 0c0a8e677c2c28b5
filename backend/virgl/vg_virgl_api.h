/*
 * What backend/_virgl offers to Python, and the tests: read by the C sources and by cffi (with vg_renderer.h), so it
 * holds plain declarations only.
 */
#pragma once

/* The table (const struct vg_renderer_ops *) for vg_render_start. One renderer a process can be open at a time. */
const void *vg_virgl_ops(void);
/* Opens the renderer, as the table's open does, and closes it again. name: what GL calls the GPU. 0, or a negative errno
   value and why. */
int vg_virgl_probe(const char *render_node, char *name, size_t name_size, char *why, size_t why_size);
/* virglrenderer's version that this was built with. */
const char *vg_virgl_version(void);
