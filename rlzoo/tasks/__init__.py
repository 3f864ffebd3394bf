"""Supervised tasks that train a torso. Adding one is a file and a line in `rlzoo.tables.TASKS`."""

from rlzoo.tables import TASKS
from rlzoo.tasks.base import Examples, Problem, Task

__all__ = ["TASKS", "Examples", "Problem", "Task"]
