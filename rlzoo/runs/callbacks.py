"""Callbacks: code of the user's own that a run calls on its way, and that may end it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlzoo.loops.base import Episodes
from rlzoo.loops.evaluate import Evaluation
from rlzoo.tables import import_named
from rlzoo.text import nearest


class Callback:
    """What a run calls on its way; any object with some of these methods will do.

    A method that returns True ends the run: it is evaluated and saved as at its end, and
    `stopped_by` in the summary names the callback. If one raises, the run is saved first. What a
    callback keeps is not saved with the run: after a resume it starts anew.
    """

    def on_step(
        self, step: int, metrics: Mapping[str, float], episodes: Sequence[Episodes]
    ) -> bool | None:
        """Called after every chunk in the host loop, after many in the graph loop.

        Args:
            step: environment steps so far.
            metrics: means over what was just learned from, such as `loss/td`.
            episodes: those that have just ended, as (mean_return, mean_length, num_episodes).
        """

    def on_evaluation(self, step: int, evaluation: Evaluation, is_best: bool) -> bool | None:
        """Called after an evaluation; `is_best` says whether none before was better."""

    def on_checkpoint(self, path: Path, step: int) -> bool | None:
        """Called when a checkpoint is written; that of the best agent is called `best-...`."""


_METHODS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class Callbacks:
    """Several callbacks as one, which remembers who ended the run, and what went wrong.

    Args:
        given: objects with some of the methods of `Callback`, their classes, or "module:Name".

    Attributes:
        stopped_by: the name of the first that returned True, None before.
        error: what the first that failed has raised; none is called after it.
    """

    def __init__(self, given: Iterable[Any]):
        self.stopped_by: str | None = None
        self.error: Exception | None = None
        self._called: dict[str, list[tuple[str, Callable]]] = {name: [] for name in _METHODS}
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ValueError(f"callbacks: expected a list of callbacks, received {given!r}.")
        for callback in given:
            self._add(callback)

    def __bool__(self) -> bool:
        return any(self._called.values())

    def call(self, method: str, *args: Any) -> None:
        """Calls a method of all that have it."""
        for name, function in self._called[method]:
            if self.error is not None:
                return
            try:
                stops = function(*args)
            except Exception as error:
                note = f"In the callback {name}.{method}. The run is saved up to here."
                error.__notes__ = [*getattr(error, "__notes__", []), note]  # type: ignore[attr-defined]
                self.error = error
                return
            if stops is True and self.stopped_by is None:
                self.stopped_by = name

    def _add(self, given: Any) -> None:
        callback = import_named(given, "callback") if isinstance(given, str) else given
        if isinstance(callback, type):
            callback = callback()
        found = [name for name in _METHODS if callable(getattr(callback, name, None))]
        if not found:
            near = [name for name in dir(callback) if name.startswith("on_")] or [""]
            raise ValueError(
                f"callbacks: expected an object with on_step, on_evaluation or on_checkpoint, "
                f"received {given!r}. {nearest(near[0], _METHODS)}"
            )
        for name in found:
            self._called[name].append((type(callback).__qualname__, getattr(callback, name)))
