"""The embedded guest: our own VMM side of vhost-user and a virtio-gpu driver over memfd memory.

It speaks to any vhost-user-gpu back-end over the real socket, so that the demo, the tests and the benchmarks run
without a VMM and without root: ``memory`` (guest memory), ``ring`` (driver side of a virtqueue), ``vmm`` (the VMM
side), ``display`` (the VMM's end of the display socket), ``driver`` (virtio-gpu commands), ``framebuffer``, ``scene``
(a moving picture) and ``demo`` (the command).
"""
