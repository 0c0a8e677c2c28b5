"""Stands in for the session process in the supervisor's tests.

Does what its VMM says, one byte a command: ``e`` answer, ``x`` exit code 3, ``k`` SIGKILL itself, ``h`` hang,
``g`` garbage to the supervisor, ``d`` hold a descriptor and describe state, ``c`` close the control channel and stay,
``f`` list the open descriptors, ``v`` list the environment. EOF of the VMM ends it. ``--mute``: never ready.
"""

import json
import os
import selectors
import signal
import socket
import struct
import sys
import time


def send(control, message, fds=()):
    socket.send_fds(control, [json.dumps(message).encode()], fds)


def welcome():
    name = b"fake"
    payload = struct.pack("<II", 1, 1) + struct.pack("<I", len(name)) + name
    return struct.pack("<II", 16, len(payload)) + payload


class Fake:
    def __init__(self, control):
        self.control = control
        self.selector = selectors.DefaultSelector()
        self.selector.register(control, selectors.EVENT_READ, self.on_control)
        self.vmm = None
        self.viewers = []

    def run(self):
        while True:
            for key, _ in self.selector.select():
                key.data()

    def on_control(self):
        data, fds, _, _ = socket.recv_fds(self.control, 1 << 18, 8)
        if not data:
            sys.exit(0)
        message = json.loads(data)
        match message["type"]:
            case "start":
                self.vmm = socket.socket(fileno=fds[0])
                self.selector.register(self.vmm, selectors.EVENT_READ, self.on_vmm)
                self.name = message["name"]
            case "viewer":
                self.viewers.append(socket.socket(fileno=fds[0]))
                self.viewers[-1].send(welcome())
                send(self.control, {"type": "viewers", "count": len(self.viewers)})
            case "ping":
                send(self.control, {"type": "pong", "token": message["token"]})
            case "stop":
                self.end("asked to stop")

    def end(self, reason):
        send(self.control, {"type": "ended", "reason": reason})
        sys.exit(0)

    def on_vmm(self):
        command = self.vmm.recv(1)
        match command:
            case b"":
                self.end("the VMM left")
            case b"e":
                self.vmm.send(self.name.encode())
            case b"x":
                sys.exit(3)
            case b"k":
                os.kill(os.getpid(), signal.SIGKILL)
            case b"h":
                self.vmm.send(b"h")
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                time.sleep(1000)
            case b"g":
                self.control.send(b"garbage")
                time.sleep(1000)  # only a kill ends it: not the supervisor's end of the channel closing first
            case b"c":
                self.control.close()
                time.sleep(1000)
            case b"d":
                reader, writer = os.pipe()
                send(self.control, {"type": "hold", "key": "memory"}, [writer])
                send(self.control, {"type": "state", "key": "memory", "value": [1, 2, 3]})
                socket.send_fds(self.vmm, [b"d"], [reader])
                os.close(writer)
            case b"f":
                links = {
                    fd: os.readlink(f"/proc/self/fd/{fd}")
                    for fd in map(int, os.listdir("/proc/self/fd"))
                    if fd < 1000 and os.path.lexists(f"/proc/self/fd/{fd}")
                }
                self.vmm.send(json.dumps(links).encode())
            case b"v":
                self.vmm.send(json.dumps(sorted(os.environ)).encode())


def main():
    control = socket.socket(fileno=int(sys.argv[sys.argv.index("--control-fd") + 1]))
    if "--mute" not in sys.argv:
        send(control, {"type": "ready"})
    Fake(control).run()


main()
