"""Supervised tasks that train a torso, by name. Adding one is a file and a line in `TASKS`."""

from rlzoo.tasks.adding import Adding
from rlzoo.tasks.base import Examples, Problem, Task
from rlzoo.tasks.characters import Characters
from rlzoo.tasks.forecast import Forecast
from rlzoo.tasks.recall import Recall

TASKS: dict[str, type] = {
    "adding": Adding,
    "characters": Characters,
    "forecast": Forecast,
    "recall": Recall,
}

__all__ = ["TASKS", "Adding", "Characters", "Examples", "Forecast", "Problem", "Recall", "Task"]
