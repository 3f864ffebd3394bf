"""How a run shows its progress: a bar on a terminal and in a notebook, else plain lines."""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any, Protocol


class Screen(Protocol):
    """What a run shows itself on."""

    seconds: float  # least time between two showings

    def show(self, step: int, pace: Sequence[str], state: Sequence[str]) -> None:
        """Shows how far the run is: its pace, such as `40 s left`, and state, such as `loss 1`."""
        ...

    def say(self, text: str) -> None:
        """Shows a line that stays."""
        ...

    def close(self) -> None:
        """Leaves what was shown last."""
        ...


def make_screen(total_steps: int) -> Screen:
    """Returns what fits standard error.

    Args:
        total_steps: at which the run ends.
    """
    from rich.console import Console

    console = Console(stderr=True)
    terminal = sys.stderr.isatty() and not console.is_dumb_terminal
    notebook = console.is_jupyter and find_spec("ipywidgets")  # with which rich draws there
    return _Bar(total_steps) if terminal or notebook else _Lines(total_steps)


class _Lines:
    """A line at a time, in plain text: for files, pipes and simple terminals."""

    seconds = 5.0

    def __init__(self, total_steps: int):
        self._total_steps = total_steps

    def show(self, step: int, pace: Sequence[str], state: Sequence[str]) -> None:
        count = f"step {step:,}/{self._total_steps:,} ({percent(step, self._total_steps)})"
        self.say("  ".join([count, *pace, *state]))

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class _Bar:
    """A bar, and under it the state. Drawn by calls only: no thread takes time from training."""

    seconds = 0.2

    def __init__(self, total_steps: int):
        from rich.console import Console
        from rich.live import Live

        self._total_steps = total_steps
        self._live = Live(
            console=Console(stderr=True),
            auto_refresh=False,
            redirect_stdout=sys.stdout.isatty(),  # else it is a pipe or a file: leave it alone
        )

    def show(self, step: int, pace: Sequence[str], state: Sequence[str]) -> None:
        from rich.console import Group

        drawing = Group(self._bar(step, pace), _line("  ".join(state)))
        self._live.update(drawing)
        self._live.start()  # does nothing the second time
        self._live.refresh()

    def _bar(self, step: int, pace: Sequence[str]) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        total = self._total_steps
        bar = ProgressBar(total, min(step, total))
        row = Table.grid(expand=True, padding=(0, 2, 0, 0))
        row.add_column(no_wrap=True)
        row.add_column(ratio=1, max_width=22)
        row.add_column(no_wrap=True)
        text = "  ".join([percent(step, total), *pace])
        row.add_row(_line(f"step {step:,}/{total:,}"), bar, _line(text))
        return row

    def say(self, text: str) -> None:
        self._live.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._live.stop()


def percent(step: int, total: int) -> str:
    """Returns how much is done; whole episodes may go beyond the end, and are all."""
    return f"{min(100, 100 * step // max(total, 1))} %"


def _line(text: str) -> Any:
    """Returns text that is cut where the terminal ends."""
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="ellipsis")
