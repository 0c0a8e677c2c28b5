"""The wire formats, sans-I/O: bytes and descriptors in, typed messages out.

Nothing here imports asyncio or a socket. In the vhost-user specification "front-end" is the VMM and "back-end" is our
whole process; this package says "VMM" for the former and "device" for the latter.
"""
