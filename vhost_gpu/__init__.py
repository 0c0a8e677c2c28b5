"""The daemon: sockets, sessions, display sinks, service integration and command line; and our own guest driver.

Together with ``backend`` this is the "back-end" of the vhost-user specification. Its peer, the specification's
"front-end", is called the VMM.
"""

__version__ = "0.1.0"
