"""Imports point one way: protocol <- backend <- vhost_gpu, protocol <- frontend. Read from the sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = {"protocol", "backend", "vhost_gpu", "frontend"}
ALLOWED = {
    "protocol": {"protocol"},
    "backend": {"protocol", "backend"},
    "vhost_gpu": {"protocol", "backend", "vhost_gpu"},
    "frontend": {"protocol", "frontend"},
}
PICTURES = {"numpy", "PIL", "pyglet"}
FORBIDDEN = {
    "protocol": {"asyncio", "socket", "uvloop", "selectors", "os"} | PICTURES,
    "backend": PICTURES,
    "vhost_gpu": PICTURES,
    "frontend": set[str](),
}
SUPERVISOR_FORBIDDEN = {"backend"}
SOURCES = sorted(path.relative_to(ROOT) for package in OURS for path in (ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Full names of what a source imports, inside functions too; of a name from a module, both."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module, f"{path}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_module_imports_only_what_its_package_may(source: Path) -> None:
    package = source.parts[0]
    tops = {name.split(".")[0] for name in imported(ROOT / source)}
    assert tops & OURS <= ALLOWED[package]
    assert not tops & FORBIDDEN[package]


def reached(module: str, seen: set[str]) -> set[str]:
    """Our modules that importing this one loads, itself included."""
    path = ROOT / (module.replace(".", "/") + ".py")
    path = path if path.exists() else ROOT / module.replace(".", "/") / "__init__.py"
    if module in seen or not path.exists():
        return seen
    seen.add(module)
    for name in imported(path):
        if name.split(".")[0] in OURS:
            reached(name, seen)
    return seen


def test_the_supervisor_loads_no_backend() -> None:
    modules = reached("vhost_gpu.supervisor", set())
    assert not {module for module in modules if module.split(".")[0] in SUPERVISOR_FORBIDDEN}
