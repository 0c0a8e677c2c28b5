import pytest

from protocol.errors import ConfigError, PeerError


@pytest.mark.parametrize(("one", "other"), [(PeerError, ConfigError), (ConfigError, PeerError)])
def test_the_families_do_not_catch_each_other(one: type[Exception], other: type[Exception]) -> None:
    assert not issubclass(one, other)


@pytest.mark.parametrize("family", [PeerError, ConfigError])
def test_our_own_bugs_are_in_neither_family(family: type[Exception]) -> None:
    assert not issubclass(ValueError, family)
    assert not issubclass(family, ValueError | OSError)
