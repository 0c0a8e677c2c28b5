"""The viewer's keys. Ctrl+Alt+letter is always the viewer's, so that every other key can go to the guest one day."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto


class Action(Enum):
    """What a key can ask for."""

    FULLSCREEN = auto()
    STATISTICS = auto()
    HELP = auto()
    SCREENSHOT = auto()
    FILTER = auto()
    ONE_TO_ONE = auto()
    FIT = auto()
    QUIT = auto()


@dataclass(frozen=True, slots=True)
class Binding:
    """An action and its keys."""

    action: Action
    letter: str
    """A letter or digit, with Ctrl+Alt."""
    function: str | None
    """A function key that does the same alone, while the guest has no keyboard here."""
    text: str
    """For the help overlay."""

    @property
    def keys(self) -> str:
        """The keys as a person reads them."""
        return f"Ctrl+Alt+{self.letter}" + (f" or {self.function}" if self.function else "")


BINDINGS = (
    Binding(Action.HELP, "H", "F1", "show or hide this help"),
    Binding(Action.FULLSCREEN, "F", "F11", "fullscreen on and off"),
    Binding(Action.FIT, "0", None, "fit the picture to the window"),
    Binding(Action.ONE_TO_ONE, "1", None, "one guest pixel = one screen pixel"),
    Binding(Action.FILTER, "N", None, "scale nearest or linear"),
    Binding(Action.STATISTICS, "S", "F10", "statistics on and off"),
    Binding(Action.SCREENSHOT, "P", "F12", "save a screenshot"),
    Binding(Action.QUIT, "Q", None, "quit"),
)


def action_for(name: str, ctrl: bool, alt: bool, shift: bool = False) -> Action | None:
    """The action of a key press, or None when it is not the viewer's. name: 'F', '1', 'F11', as printed on the key."""
    if shift or ctrl != alt:
        return None
    for binding in BINDINGS:
        if name == (binding.letter if ctrl else binding.function):
            return binding.action
    return None
