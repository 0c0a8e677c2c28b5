"""Sockets: modes, stale and living paths, what systemd or a management layer hands over."""

import os
import socket
import stat
import subprocess

import pytest

from protocol.errors import ConfigError
from vhost_gpu import listen
from vhost_gpu.listen import DISPLAY, VHOST_USER


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "vm.sock")


@pytest.fixture
def bound():
    """Binds and closes at the end."""
    listeners = []

    def bind(kind, path):
        listeners.append(listen.bind(kind, path))
        return listeners[-1]

    yield bind
    for listener in listeners:
        listener.close()


@pytest.fixture(params=[0, 0o077, 0o777])
def umask(request):
    old = os.umask(request.param)
    yield request.param
    assert os.umask(old) == request.param


@pytest.mark.parametrize("kind", [VHOST_USER, DISPLAY])
def test_mode_is_0600_whatever_the_umask(bound, path, umask, kind):
    bound(kind, path)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.umask(umask) == umask


def test_mode_is_0600_under_a_default_acl(bound, tmp_path):
    entry = {"user": b"\x01\x00\x07\x00", "group": b"\x04\x00\x07\x00", "other": b"\x20\x00\x07\x00"}
    acl = b"\x02\x00\x00\x00" + b"".join(entry[name] + b"\xff" * 4 for name in ("user", "group", "other"))
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", acl)
    except OSError:
        return  # a file system without ACLs has no such trap
    bound(VHOST_USER, str(tmp_path / "acl.sock"))
    assert stat.S_IMODE(os.stat(tmp_path / "acl.sock").st_mode) == 0o600


def test_close_removes_socket_and_lock(path):
    listener = listen.bind(VHOST_USER, path)
    listener.close()
    listener.close()
    assert os.listdir(os.path.dirname(path)) == []


def test_close_leaves_a_path_that_is_no_longer_ours(path):
    listener = listen.bind(VHOST_USER, path)
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        listener.close()
        assert stat.S_ISSOCK(os.stat(path).st_mode)


def test_a_stale_path_is_replaced(bound, path):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
        dead.listen()
    bound(VHOST_USER, path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_stale_lock_is_taken_over(bound, path):
    with open(path + ".lock", "w"):
        pass
    bound(VHOST_USER, path)


def test_a_path_of_a_living_daemon_is_refused_and_untouched(bound, path):
    first = bound(VHOST_USER, path)
    with pytest.raises(ConfigError, match="another vhost-gpu"):
        listen.bind(VHOST_USER, path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        first.sock.accept()[0].close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_path_of_another_program_is_refused(path, kind):
    with socket.socket(socket.AF_UNIX, kind) as other:
        other.bind(path)
        other.listen(0)
        with pytest.raises(ConfigError, match="another program"):
            listen.bind(VHOST_USER, path)
        assert os.listdir(os.path.dirname(path)) == ["vm.sock"]


def test_a_full_backlog_counts_as_living(path):
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as waiting:
        other.bind(path)
        other.listen(0)
        waiting.connect(path)
        with pytest.raises(ConfigError, match="another program"):
            listen.bind(VHOST_USER, path)


def test_anything_but_a_socket_is_refused(path):
    with open(path, "w") as stream:
        stream.write("precious")
    with pytest.raises(ConfigError, match="not a socket"):
        listen.bind(VHOST_USER, path)
    with open(path) as stream:
        assert stream.read() == "precious"


def test_a_symbolic_link_is_not_followed(path, tmp_path):
    os.symlink(tmp_path / "elsewhere", path)
    with pytest.raises(ConfigError, match="not a socket"):
        listen.bind(VHOST_USER, path)


def test_a_lock_that_is_a_link_is_refused(path, tmp_path):
    os.symlink(tmp_path / "elsewhere", path + ".lock")
    with pytest.raises(ConfigError):
        listen.bind(VHOST_USER, path)


@pytest.mark.parametrize("name", ["missing/vm.sock", "x" * 120])
def test_impossible_paths_are_configuration_errors(tmp_path, name):
    with pytest.raises(ConfigError):
        listen.bind(VHOST_USER, str(tmp_path / name))


@pytest.mark.parametrize(
    ("path", "display"),
    [
        ("/run/a/vm1.sock", "/run/a/vm1.display"),
        ("/run/vm1.socket", "/run/vm1.display"),
        ("/run/vm.1", "/run/vm.1.display"),
        ("vm", "vm.display"),
        ("/run/.sock", "/run/.sock.display"),
        ("/run/x.display", "/run/x.display.display"),
    ],
)
def test_display_path_beside(path, display):
    assert listen.display_path_beside(path) == display


def test_runtime_display_path_makes_its_directory(tmp_path):
    path = listen.runtime_display_path({"XDG_RUNTIME_DIR": str(tmp_path)})
    assert path == str(tmp_path / "vhost-gpu" / f"{os.getpid()}.display")
    assert stat.S_IMODE(os.stat(tmp_path / "vhost-gpu").st_mode) == 0o700
    assert listen.runtime_display_path({"XDG_RUNTIME_DIR": str(tmp_path)}) == path
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="no place"):
        listen.runtime_display_path({"XDG_RUNTIME_DIR": str(tmp_path / "file")})


INHERIT = """
import os, sys
sys.path.insert(0, sys.argv[1])
from protocol.errors import ConfigError
from vhost_gpu import listen
os.environ["LISTEN_PID"] = str(os.getpid())
try:
    found = listen.inherited()
    print(sorted((kind, listener.sock.fileno()) for kind, listener in found.items()))
except ConfigError as error:
    print("ConfigError:", error)
print([name for name in os.environ if name.startswith("LISTEN")])
"""


def inherit(tmp_path, types, names, listening=True):
    """What ``inherited()`` finds in a process that was passed sockets of these types from descriptor 3 on."""
    socks = []
    for index, kind in enumerate(types):
        sock = socket.socket(socket.AF_UNIX, kind)
        sock.bind(str(tmp_path / f"s{index}"))
        if listening:
            sock.listen()
        socks.append(sock)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    source = [os.dup(sock.fileno()) for sock in socks]
    redirect = " ".join(f"{3 + index}<&{fd}" for index, fd in enumerate(source))
    high = [fd + 100 for fd in source]
    for fd, target in zip(source, high, strict=True):
        os.dup2(fd, target)
        os.close(fd)
    redirect = " ".join(f"{3 + index}<&{fd}" for index, fd in enumerate(high))
    environ = {"LISTEN_FDS": str(len(types)), "LISTEN_FDNAMES": names, "PATH": os.environ["PATH"]}
    import sys

    command = ["bash", "-c", f'exec "$@" {redirect}', "bash", sys.executable, "-c", INHERIT, root]
    try:
        result = subprocess.run(command, env=environ, pass_fds=high, capture_output=True, text=True, check=True)
    finally:
        for fd in high:
            os.close(fd)
        for sock in socks:
            sock.close()
    return result.stdout.splitlines()


STREAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_SEQPACKET


@pytest.mark.parametrize(
    ("types", "names", "expected"),
    [
        ([STREAM, SEQPACKET], "vhost-user:display", "[('display', 4), ('vhost-user', 3)]"),
        ([SEQPACKET, STREAM], "display:vhost-user", "[('display', 3), ('vhost-user', 4)]"),
        ([STREAM], "", "[('vhost-user', 3)]"),
        ([STREAM, SEQPACKET], "vm.socket:vm.socket", "[('display', 4), ('vhost-user', 3)]"),
    ],
)
def test_inherited_sockets(tmp_path, types, names, expected):
    assert inherit(tmp_path, types, names) == [expected, "[]"]


@pytest.mark.parametrize(
    ("types", "names", "listening"),
    [
        ([STREAM, STREAM], "vhost-user:vhost-user", True),
        ([STREAM], "display", True),
        ([socket.SOCK_DGRAM], "display", False),
        ([STREAM], "vhost-user", False),
    ],
)
def test_inherited_sockets_that_do_not_fit(tmp_path, types, names, listening):
    assert inherit(tmp_path, types, names, listening)[0].startswith("ConfigError: LISTEN_FDS")


def test_inherited_of_another_process_is_not_ours():
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "OTHER": "1"}
    assert listen.inherited(environ) == {}
    assert environ == {"OTHER": "1"}


def test_inherited_count_that_is_no_number():
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        listen.inherited({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"})


def test_connection_of_fd():
    ours, theirs = socket.socketpair()
    with ours, listen.connection(theirs.detach()) as connection:
        ours.send(b"x")
        assert connection.recv(1) == b"x"
        assert not connection.get_inheritable()


def test_connection_of_what_is_no_connected_stream(tmp_path):
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reader, writer = os.pipe()
    with left, right, socket.socket() as tcp, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "l"))
        listening.listen()
        for fd in (left.fileno(), reader, tcp.fileno(), listening.fileno(), 100_000):
            with pytest.raises(ConfigError, match="--fd"):
                listen.connection(fd)
    os.close(reader)
    os.close(writer)
