"""Which key presses are the viewer's."""

from __future__ import annotations

from frontend.keys import BINDINGS, Action, action_for


def test_every_action_has_its_own_keys() -> None:
    assert {binding.action for binding in BINDINGS} == set(Action)
    assert len({binding.letter for binding in BINDINGS}) == len(BINDINGS)
    for binding in BINDINGS:
        assert action_for(binding.letter, ctrl=True, alt=True) is binding.action
        assert binding.keys.startswith(f"Ctrl+Alt+{binding.letter}")
        if binding.function:
            assert action_for(binding.function, ctrl=False, alt=False) is binding.action
            assert binding.keys.endswith(binding.function)


def test_other_presses_are_the_guests() -> None:
    assert action_for("F", ctrl=False, alt=False) is None
    assert action_for("F", ctrl=True, alt=False) is None
    assert action_for("F", ctrl=False, alt=True) is None
    assert action_for("F", ctrl=True, alt=True, shift=True) is None
    assert action_for("F11", ctrl=True, alt=True) is None
    assert action_for("ESCAPE", ctrl=False, alt=False) is None
