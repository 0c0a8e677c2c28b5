"""Questions on the display socket that wait for the VMM's answer, each with a time limit.

A VMM need not answer (QEMU leaves a GET_EDID for an output it lacks unanswered), so whoever asks is told "no answer" in
time. Answers come in the order of the questions: one that comes late belongs to the question that gave up.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from protocol.errors import PeerError

TIME_LIMIT = 2.0
"""Seconds that a guest may be kept waiting for its VMM. A busy host's QEMU was seen to need more than half a second;
Linux gives up after five (virtio_gpu_init)."""
SILENT_TIME_LIMIT = 0.2
"""Seconds for a VMM that left the last question unanswered: a mute one must not cost its guest the full time twice."""
MAX_UNANSWERED = 64
"""Questions without an answer after which the VMM is asked no more."""

Callback = Callable[[Any], None]


@dataclass(slots=True)
class _Question:
    reply: type[Any]
    callback: Callback | None
    """None: gave up."""
    timer: asyncio.TimerHandle | None = None


class DisplayRequests:
    """The questions of one display socket, oldest first.

    Args:
        loop: the session's event loop.
        time_limit: seconds until a question is answered with None.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, time_limit: float = TIME_LIMIT) -> None:
        self._loop = loop
        self._time_limit = time_limit
        self._silent = False
        self._questions: deque[_Question] = deque()

    @property
    def mute(self) -> bool:
        """Whether the VMM has left so many questions open that asking more makes no sense."""
        return len(self._questions) >= MAX_UNANSWERED

    def ask(self, reply: type[Any], callback: Callback) -> None:
        """Notes a question that was sent; ``callback`` gets the reply message, or None, exactly once."""
        question = _Question(reply, callback)
        limit = min(self._time_limit, SILENT_TIME_LIMIT) if self._silent else self._time_limit
        question.timer = self._loop.call_later(limit, self._give_up, question)
        self._questions.append(question)

    def answer(self, reply: Any) -> None:
        """Takes a reply.

        Questions of another type before it were skipped by the VMM: they get None.

        Raises:
            PeerError: nobody asked.
        """
        while self._questions:
            question = self._questions.popleft()
            matches = isinstance(reply, question.reply)
            self._settle(question, reply if matches else None)
            if matches:
                self._silent = False
                return
        raise PeerError(f"unasked {type(reply).__name__}")

    def give_up(self) -> None:
        """Answers everything with None; what the VMM still says to it is passed over."""
        for question in tuple(self._questions):
            self._settle(question, None)

    def close(self) -> None:
        """Answers everything with None; there will be no replies."""
        while self._questions:
            self._settle(self._questions.popleft(), None)

    def _give_up(self, question: _Question) -> None:
        # It stays in the queue: its answer may still come, and must not be taken for a later question's.
        self._silent = True
        self._settle(question, None)

    def _settle(self, question: _Question, reply: Any) -> None:
        if question.timer is not None:
            question.timer.cancel()
            question.timer = None
        callback, question.callback = question.callback, None
        if callback is not None:
            callback(reply)
