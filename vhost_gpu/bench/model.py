"""What a measurement is: programs, scenarios and their figures. The report half builds on these alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from vhost_gpu.bench.target import Target


@dataclass(frozen=True, slots=True)
class Program:
    """A back-end to be measured: a program to start, or a socket on which one listens already.

    ``argv`` has ``{socket}`` where the vhost-user socket's path belongs; without it ``--socket-path PATH`` is appended.
    With no ``argv`` the back-end is running and listens at ``socket_path``.
    """

    name: str
    argv: tuple[str, ...] = ()
    socket_path: str | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """How long to measure: about ``seconds`` a figure; ``quick`` also shrinks what is counted and not timed.

    ``commands`` and ``resources`` are how many the memory-growth scenarios send.
    """

    seconds: float = 1.0
    quick: bool = False
    commands: int = 10_000_000
    resources: int = 100_000


@dataclass(frozen=True, slots=True)
class Figure:
    """A number that a scenario gives. ``limit``: the same run's figure that says what the machine allows, by name."""

    name: str
    title: str
    unit: str
    better: Literal["lower", "higher"]
    limit: str | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One measurement. ``run`` gives every figure by its name; a failed one raises ``BenchError``.

    ``options``: what a program is started with beside its own arguments. ``rival``: whether back-ends other than ours
    can be measured. ``standard``: whether it runs when nobody asks for certain scenarios.
    """

    name: str
    title: str
    figures: tuple[Figure, ...]
    run: Callable[[Target, Settings], dict[str, float]]
    rival: bool = True
    standard: bool = True
    options: tuple[str, ...] = ()


class BenchError(Exception):
    """The back-end could not be measured: it did not start, went away, or answered with errors."""
