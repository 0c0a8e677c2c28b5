"""The documents agree with the program: options, keys, message numbers, links, and what mandoc thinks of the pages."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from frontend.keys import BINDINGS
from protocol.viewer import ErrorCode, MessageType

ROOT = Path(__file__).resolve().parent.parent
MAN = ROOT / "docs" / "man"
COMMANDS = {
    "vhost-gpu": "vhost_gpu.cli",
    "vhost-gpu-viewer": "frontend.cli",
    "vhost-gpu-screenshot": "frontend.screenshot",
    "vhost-gpu-demo": "vhost_gpu.guest.demo",
    "vhost-gpu-bench": "vhost_gpu.bench.cli",
    "vhost-gpu-trace": "vhost_gpu.trace",
}
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


def options_in_help(command: str) -> set[str]:
    code = f"import sys; from {COMMANDS[command]} import main; sys.exit(main(['--help']))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*|-[a-z])\b", done.stdout))


def options_in_page(command: str) -> set[str]:
    """The tags of the page's option list."""
    tags = re.findall(r"^\.It (Fl .*)$", (MAN / f"{command}.1").read_text(), re.MULTILINE)
    return {
        f"--{long}" if long else f"-{short}"
        for tag in tags
        for long, short in re.findall(r"Fl (?:Fl ([a-z-]+)|([a-z])\b(?!-))", tag)
    }


def section(text: str, heading: str) -> str:
    return text.split(heading, 1)[1].split("\n## ", 1)[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_page_has_the_options_of_the_command(command: str) -> None:
    assert options_in_page(command) == options_in_help(command)


@pytest.mark.parametrize("command", COMMANDS)
def test_page_names_no_other_option(command: str) -> None:
    named = set(re.findall(r"Fl Fl ([a-z-]+)", (MAN / f"{command}.1").read_text()))
    assert {f"--{name}" for name in named} <= options_in_help(command)


def test_every_page_is_of_a_command() -> None:
    assert {path.name for path in MAN.iterdir()} == {f"{command}.1" for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS)
def test_mandoc_finds_nothing(command: str) -> None:
    done = subprocess.run(["mandoc", "-Tlint", "-Wwarning", MAN / f"{command}.1"], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("document", [MAN / "vhost-gpu-viewer.1", ROOT / "README.md"], ids=lambda path: path.name)
def test_keys_are_listed(document: Path) -> None:
    text = document.read_text()
    assert [binding.keys for binding in BINDINGS if binding.keys not in text] == []


@pytest.mark.parametrize("numbers", [MessageType, ErrorCode])
def test_viewer_protocol_numbers(numbers: type[MessageType] | type[ErrorCode]) -> None:
    protocol = section((ROOT / "docs" / "architecture.md").read_text(), "\n## Viewer protocol")
    assert [number for number in numbers if f"{number.value} {number.name}" not in protocol.replace("`", "")] == []


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_readme_names_the_two_commands(command: str) -> None:
    assert command in (ROOT / "README.md").read_text()
    target = command.removeprefix("make ")
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []
