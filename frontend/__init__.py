"""The viewer: a process that shows what a session's scanouts show.

"Frontend" here means what a person looks at. It is not the "front-end" of the vhost-user specification, which is the
VMM; nothing in this package speaks vhost-user.
"""
