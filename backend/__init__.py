"""The device: guest memory, virtqueues, resources, scanouts and published frames, with a C core behind cffi.

"Backend" here means the device's inside (what stands behind the vhost-user socket), not the whole back-end process of
the vhost-user specification, which also has the daemon (package ``vhost_gpu``).
"""
