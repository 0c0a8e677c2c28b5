"""Lines, and the bar on a terminal."""

import io

from vhost_gpu.bench.progress import Progress


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def test_without_a_terminal_there_are_only_lines():
    out = io.StringIO()
    progress = Progress(out, 10, False)
    progress.starts("one")
    progress.ends("one done")
    progress.close()
    assert out.getvalue() == "[ 1/10] one done\n"


def test_on_a_terminal_a_bar_tells_what_runs_and_how_long_it_will_take():
    out, clock = io.StringIO(), Clock()
    progress = Progress(out, 4, True, clock)
    progress.starts("one")
    assert out.getvalue().endswith(f"[{'.' * 30}] --:-- one")
    clock.time = 25.0
    progress.ends("one done")
    progress.starts("two")
    assert out.getvalue().endswith(f"[{'#' * 7}{'.' * 23}]  1:15 two")
    progress.close()
    assert out.getvalue().endswith("\r\x1b[K")


def test_runs_that_will_not_take_place_are_not_waited_for():
    out = io.StringIO()
    progress = Progress(out, 4, False)
    progress.skips(2)
    progress.ends("a")
    assert out.getvalue() == "[1/2] a\n"
