/* Prints the X pointer's present picture: width height hot_x hot_y x y, then one a8r8g8b8 word in hexadecimal a pixel. */
#include <X11/Xlib.h>
#include <X11/extensions/Xfixes.h>
#include <stdio.h>

int main(void)
{
    Display *display = XOpenDisplay(NULL);
    int event, error;
    if (!display || !XFixesQueryExtension(display, &event, &error))
        return 1;
    XFixesCursorImage *image = XFixesGetCursorImage(display);
    if (!image)
        return 1;
    printf("%d %d %d %d %d %d\n", image->width, image->height, image->xhot, image->yhot, image->x, image->y);
    for (int i = 0; i < image->width * image->height; i++)
        printf("%08lx\n", image->pixels[i] & 0xffffffff);
    return 0;
}
