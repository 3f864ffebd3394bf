"""Supervised tasks that train a torso, by name. Adding one is a file and a line in `TASKS`."""

from rlzoo.tasks.base import Examples, Problem, Task
from rlzoo.tasks.recall import Recall

TASKS: dict[str, type] = {
    "recall": Recall,
}

__all__ = ["TASKS", "Examples", "Problem", "Recall", "Task"]
