"""Every module has its tests: package/module.py in tests/package/test_module.py."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("protocol", "backend", "vhost_gpu", "vhost_gpu/bench", "vhost_gpu/guest", "frontend")
MODULES = sorted(
    path.relative_to(ROOT)
    for package in PACKAGES
    for path in (ROOT / package).glob("*.py")
    if not path.name.startswith("_")
)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_has_a_test_file(module: Path) -> None:
    test = Path("tests") / module.parent / f"test_{module.name}"
    assert (ROOT / test).is_file(), f"{module} has no {test}"
