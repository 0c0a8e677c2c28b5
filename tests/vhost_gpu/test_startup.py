"""The daemon as a program: start, signals, sockets and their modes, what is left behind."""

import asyncio
import os
import signal
import socket
import stat
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
FAKE_SESSION = str(Path(__file__).with_name("fake_session.py"))
LIMIT = 20  # seconds, for a test that goes wrong
# The command with a scripted session program in place of the real one.
PROGRAM = f"""
import os, sys
sys.path.insert(0, {ROOT!r})
os.umask(0)
from vhost_gpu import cli, startup
startup.session_command = lambda: [sys.executable, {FAKE_SESSION!r}]
sys.exit(cli.main())
"""


class Program:
    """The running command; its error lines can be awaited."""

    def __init__(self, process):
        self.process = process

    async def line(self, words):
        async with asyncio.timeout(LIMIT):
            while words not in (text := (await self.process.stderr.readline()).decode()):
                assert text, f"ended without a line about {words!r}"
            return text

    async def end(self, number=None):
        """The exit code, and what it wrote last."""
        if number is not None:
            self.process.send_signal(number)
        async with asyncio.timeout(LIMIT):
            _, err = await self.process.communicate()
        return self.process.returncode, err.decode()


@pytest.fixture
async def run(tmp_path):
    programs = []

    async def run(*arguments, **options):
        environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), **options.pop("environ", {})}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, *arguments, stderr=PIPE, env=environ, cwd=tmp_path, **options
        )
        programs.append(Program(process))
        return programs[-1]

    yield run
    for program in programs:
        if program.process.returncode is None:
            await program.end(signal.SIGKILL)


async def appears(path, program):
    """Waits for a path that the program makes; it exists soon or the program has ended."""
    async with asyncio.timeout(LIMIT):
        while not os.path.exists(path):
            assert program.process.returncode is None
            await asyncio.sleep(0.005)


async def connect(path, program):
    await appears(path, program)
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    async with asyncio.timeout(LIMIT):
        while True:
            try:
                sock.connect(str(path))
                return sock
            except ConnectionRefusedError:  # bound, not yet listening
                await asyncio.sleep(0.005)


async def ask(sock, command):
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, command)
    async with asyncio.timeout(LIMIT):
        return await loop.sock_recv(sock, 4096)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_serves_and_ends_cleanly_on_a_signal(run, tmp_path, number):
    path = tmp_path / "vm.sock"
    program = await run("--socket-path", str(path))
    with await connect(path, program) as sock:
        assert await ask(sock, b"e") == b"session-1"
        for name in ("vm.sock", "vm.display"):
            assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600
        code, err = await program.end(number)
    assert code == 0
    assert "session-1: ended: asked to stop" in err
    assert os.listdir(tmp_path) == []


async def test_a_signal_during_the_start_leaves_nothing(run, tmp_path):
    path = tmp_path / "vm.sock"
    program = await run("--socket-path", str(path))
    await appears(path, program)
    assert (await program.end(signal.SIGTERM))[0] == 0
    assert os.listdir(tmp_path) == []


async def test_relative_paths_and_a_display_socket_of_ones_own(run, tmp_path):
    program = await run("--socket-path", "vm.sock", "--display-socket", "other.display")
    with await connect(tmp_path / "vm.sock", program) as sock:
        assert await ask(sock, b"e") == b"session-1"
        assert {"vm.sock", "other.display"} <= set(os.listdir(tmp_path))
        assert (await program.end(signal.SIGTERM))[0] == 0
    assert os.listdir(tmp_path) == []


async def test_a_second_daemon_is_refused_and_the_first_goes_on(run, tmp_path):
    path = tmp_path / "vm.sock"
    first = await run("--socket-path", str(path))
    with await connect(path, first) as sock:
        code, err = await (await run("--socket-path", str(path))).end()
        assert (code, err) == (2, f"vhost-gpu: another vhost-gpu is listening on {path}\n")
        code, err = await (await run("--socket-path", "other", "--display-socket", "vm.display")).end()
        assert (code, err) == (2, "vhost-gpu: another vhost-gpu is listening on vm.display\n")
        assert await ask(sock, b"e") == b"session-1"
    assert (await first.end(signal.SIGTERM))[0] == 0
    assert os.listdir(tmp_path) == []


async def test_after_a_kill_the_next_daemon_takes_the_path(run, tmp_path):
    path = tmp_path / "vm.sock"
    first = await run("--socket-path", str(path))
    with await connect(path, first) as sock:
        assert await ask(sock, b"e") == b"session-1"
        assert (await first.end(signal.SIGKILL))[0] == -signal.SIGKILL
    second = await run("--socket-path", str(path))
    await second.line("listening")
    with await connect(path, second) as sock:
        assert await ask(sock, b"e") == b"session-1"
    assert (await second.end(signal.SIGTERM))[0] == 0
    assert os.listdir(tmp_path) == []


async def test_a_handed_over_descriptor_is_served_and_the_daemon_ends_with_it(run, tmp_path):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with theirs:
            program = await run(f"--fd={theirs.fileno()}", pass_fds=[theirs.fileno()])
        assert await ask(ours, b"e") == b"session-1"
        assert f"{program.process.pid}.display" in os.listdir(tmp_path / "vhost-gpu")
    assert (await program.end())[0] == 0
    assert os.listdir(tmp_path / "vhost-gpu") == []


async def test_no_place_for_viewers_is_no_reason_to_refuse_the_guest(run, tmp_path):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours:
        with theirs:
            environ = {"XDG_RUNTIME_DIR": str(tmp_path / "missing" / "\N{BULLET}" / ("x" * 300))}
            program = await run(f"--fd={theirs.fileno()}", pass_fds=[theirs.fileno()], environ=environ)
        assert await ask(ours, b"e") == b"session-1"
        assert "warning supervisor: no viewers:" in await program.line("no viewers")
    assert (await program.end())[0] == 0


async def test_the_log_under_a_journal_has_priorities_and_no_time(run, tmp_path):
    path = tmp_path / "vm.sock"
    program = await run("--socket-path", str(path), "--log-format", "journal")
    assert await program.line("listening") == f"<6>supervisor: listening on {path} for VMMs\n"
    with await connect(path, program) as sock:
        assert await ask(sock, b"e") == b"session-1"
        sock.send(b"k")
        assert (await program.line("SIGKILL")).startswith("<3>session-1: killed by SIGKILL; ")
    assert (await program.end(signal.SIGTERM))[0] == 0


@pytest.mark.parametrize("place", ["missing/trace", ".", "vm.sock/trace"])
async def test_a_trace_that_can_not_be_made_is_told_at_once(run, tmp_path, place):
    program = await run("--socket-path", str(tmp_path / "vm.sock"), "--trace", str(tmp_path / place))
    code, err = await program.end()
    assert code == 2
    assert err == f"vhost-gpu: --trace: no file can be made at {tmp_path / place}\n"
    assert os.listdir(tmp_path) == []
