"""Processes without OpenSSL: in a process of their own, since this one has it."""

import subprocess
import sys

import pytest

HAS_OPENSSL = "any(name in open('/proc/self/maps').read() for name in ('libssl', 'libcrypto'))"
RUNS = "import asyncio, uvloop; uvloop.run(asyncio.sleep(0)); asyncio.run(asyncio.sleep(0))"


def printed(*lines: str) -> str:
    source = "\n".join(("import sys", "from vhost_gpu import no_tls", *lines))
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_loops_run_without_it() -> None:
    assert printed("no_tls.install()", RUNS, f"print({HAS_OPENSSL})") == "False"


def test_what_else_is_asked_for_is_the_real_ones() -> None:
    lines = ("no_tls.install()", RUNS, "import ssl", "print(ssl.OPENSSL_VERSION_NUMBER > 0, sys.modules['ssl'] is ssl)")
    assert printed(*lines) == "True False"
    assert printed("no_tls.install()", "import ssl", "ssl.HAS_SNI", "import ssl", "print(ssl.__file__ != '')") == "True"


def test_a_process_that_has_it_keeps_it() -> None:
    assert printed("import ssl", "no_tls.install()", "import ssl as now", "print(now is ssl)") == "True"


@pytest.mark.parametrize("missing", ["__wrapped__", "__path__"])
def test_python_s_own_questions_load_nothing(missing: str) -> None:
    lines = ("no_tls.install()", "import ssl", f"print(hasattr(ssl, '{missing}'), {HAS_OPENSSL})")
    assert printed(*lines) == "False False"
