"""Strategies, schedules, torsos and settings as plain values."""

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from rlzoo.config.values import mark
from rlzoo.tables import EXPLORATIONS, SCHEDULES

_UPKEEP = (  # how a run is kept and judged, not what it learns; beginnings of fields' names
    "seed", "eval_", "until_", "checkpoint_", "keep_", "log_", "vector", "on_env_error",
    "env_step_",
)  # fmt: skip
_LONGEST = 100  # characters of a setting in a table


def describe(value: Any) -> Any:
    """Returns strategies, schedules and their values as plain mappings, lists and numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"name": _registered_name(value), **describe(fields)}
    if isinstance(value, Mapping):
        return {key: describe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if callable(value):
        return {"name": mark(value)}
    return value


def env_name(env: str | Callable) -> str:
    """Returns how a configuration names an environment: its id, or a mark for a callable."""
    return env if isinstance(env, str) else mark(env)


def flatten(values: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Returns nested settings as one level of dotted keys and plain values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{name}": item for name, item in flatten(value).items()}
        else:
            flat[str(key)] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return flat


def settings(config: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Returns what decides how a run learns, but for its seed, named as `--set` takes it.

    Args:
        config: of the run, as config.yaml holds it.
    """
    flat = {}
    for key, value in flatten(config).items():
        section, dot, rest = key.partition(".")
        if not section.startswith(_UPKEEP) and value not in ("None", "[]"):
            name = {"agent_params": "", "env_kwargs": "env."}.get(section, section + dot)
            flat[name + rest] = _brief(value) if isinstance(value, str) else value
    return flat


def _brief(text: str) -> str:
    """Returns a text, such as of a Keras model, that fits a column and differs from others."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[: _LONGEST - 10]}... {hashlib.sha256(text.encode()).hexdigest()[:6]}"


def _registered_name(value: Any) -> str:
    """Returns the name of a strategy's or schedule's class in its table, or a mark."""
    for name, registered in (*EXPLORATIONS.items(), *SCHEDULES.items()):
        if type(value) is registered:
            return name
    return mark(value)
