/*
 * EGL as far as this asks it itself. virglrenderer takes libraries and a driver for granted, and ends the process where
 * they are missing, so that is found out before. And there are GL's own functions, by name: its headers are not worth a
 * build dependency.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vg_virgl.h"

#define EGL_EXTENSIONS 0x3055 /* of EGL 1.5, and of EGL_EXT_client_extensions before */

/* Handles are counted, and these libraries stay loaded. */
static void *library(void)
{
    return dlopen("libEGL.so.1", RTLD_LAZY);
}

static int has_opengl(void)
{
    return dlopen("libOpenGL.so.0", RTLD_LAZY) != NULL || dlopen("libGL.so.1", RTLD_LAZY) != NULL;
}

int vg_egl_check(int on_gpu, char *why, size_t size)
{
    const char *(*query_string)(void *display, int name) = NULL;
    void *egl = library();
    if (egl != NULL)
        *(void **)&query_string = dlsym(egl, "eglQueryString");
    if (query_string == NULL) {
        snprintf(why, size, "there is no EGL (Debian package libegl1)");
        return -ENOENT;
    }
    if (!has_opengl()) {
        snprintf(why, size, "there is no OpenGL (Debian package libopengl0)");
        return -ENOENT;
    }
    const char *extensions = query_string(NULL, EGL_EXTENSIONS);
    if (extensions != NULL && strstr(extensions, on_gpu ? "_platform_gbm" : "_platform_surfaceless") != NULL)
        return 0;
    snprintf(why, size, "EGL has no driver for this (Debian package libegl-mesa0)");
    return -ENOENT;
}

void *vg_gl_function(const char *name)
{
    void *(*get_proc_address)(const char *) = NULL;
    void *egl = library();
    if (egl != NULL)
        *(void **)&get_proc_address = dlsym(egl, "eglGetProcAddress");
    return get_proc_address == NULL ? NULL : get_proc_address(name);
}
