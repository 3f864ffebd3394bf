"""Plain values: layers of settings, and their types checked against Python's annotations."""

import dataclasses
import functools
import inspect
import math
import os
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from rlzoo.config.plain_yaml import load_yaml
from rlzoo.tables import SCHEDULES
from rlzoo.text import nearest, short

CALLABLE = "callable:"  # marks an object that came from Python and cannot be named in a file


# Layers: mappings of settings over mappings of settings.


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `below` overlaid by `above`; a mapping that names another choice replaces it."""
    if "name" in above and above["name"] != below.get("name"):
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            value = merge(old, value)
        merged[key] = value
    return merged


def assignments(
    overrides: Iterable[str] | Mapping[str, Any], keywords: Mapping[str, Any] | None = None
) -> list[tuple[str, Any]]:
    """Returns key and value of every `key=value` text, or of a mapping's items.

    Args:
        overrides: the texts or the mapping.
        keywords: others, given as keywords of Python; None leaves one out.

    Raises:
        ValueError: a text is no assignment, or one of the keywords is assigned as well.
    """
    pairs = [(key, value) for key, value in (keywords or {}).items() if value is not None]
    assigned = _assigned(overrides)
    for key in {key for key, _ in pairs} & {key for key, _ in assigned}:
        raise ValueError(f"{key}: given both as a keyword and in overrides. Leave one out.")
    return pairs + assigned


def _assigned(overrides: Iterable[str] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return [(str(key), plain_value(value)) for key, value in overrides.items()]
    pairs = []
    for text in [overrides] if isinstance(overrides, str) else overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"--set: expected key=value, received {text!r}.")
        pairs.append((key.strip(), load_yaml(value, f"--set {key}")))
    return pairs


# Types: values from YAML against the annotations of dataclasses and functions.


def fill(
    target: Callable, params: Mapping[str, Any], where: str = "", also: Iterable[str] = ()
) -> dict[str, Any]:
    """Returns the complete, type-checked keyword arguments of a dataclass or function.

    A parameter called `seed` is left out: it derives from the seed of the run.

    Args:
        target: whose annotated parameters count.
        params: the values given.
        where: what to put before a name in messages, such as "torso.".
        also: other names to suggest when one is unknown.

    Raises:
        ValueError: for an unknown name (with its nearest neighbours) or a value of another type.
    """
    hints = get_type_hints(target)
    known = {
        name: parameter
        for name, parameter in inspect.signature(target).parameters.items()
        if name != "seed"
    }
    for name in params:
        if name not in known:
            options = [f"{where}{key}" for key in known] + list(also)
            raise ValueError(f"Unknown setting {where}{name}. {nearest(where + name, options)}")
    filled = {}
    for name, parameter in known.items():
        if name in params:
            filled[name] = typed(params[name], hints.get(name, Any), where + name)
        elif parameter.default is parameter.empty:
            raise ValueError(f"{where}{name} is missing; expected {_say(hints.get(name, Any))}.")
        else:
            filled[name] = parameter.default
    return filled


def typed(value: Any, hint: Any, name: str) -> Any:
    """Returns `value` as an annotation asks for it: an int as a float, a list as a tuple.

    Raises:
        ValueError: if it is of another type, such as `learning_rate: expected a float, ...`.
    """
    value = plain_value(value)
    if isinstance(value, dict) and _schedules_in(hint):
        schedule, params = lookup(value, SCHEDULES, name)
        return schedule(**fill(schedule, params, f"{name}."))
    for option in get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,):
        fits, converted = _convert(value, option)
        if fits:
            return converted
    raise ValueError(f"{name}: expected {_say(hint)}, received {short(value)}.")


def plain_value(value: Any) -> Any:
    """Returns NumPy's numbers and arrays, ranges and paths as a file would hold them."""
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: plain_value(item) for key, item in value.items()}
    if isinstance(value, range):
        return list(value)
    if type(value) in (list, tuple):
        return type(value)(plain_value(item) for item in value)
    return value


def json_value(value: Any) -> Any:
    """Returns a value as JSON holds it: keys as texts, null for NaN and infinity, all else read."""
    value = plain_value(value)
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (int, str)) else str(value)


def lookup(choice: Mapping[str, Any], table: Mapping[str, Any], what: str) -> tuple[Any, dict]:
    """Returns the table's entry that `choice["name"]` names, and the other items."""
    name = choice.get("name")
    if not isinstance(name, str) or name not in table:
        if isinstance(name, str) and name.startswith(CALLABLE):
            raise ValueError(
                f"{what} was the Python object {name.removeprefix(CALLABLE)}, which no file can "
                f"bring back: pass it from Python ({what}=...)."
            )
        raise ValueError(f"Unknown {what} {short(name)}. {nearest(str(name), table)}")
    return table[name], {key: item for key, item in choice.items() if key != "name"}


def mark(value: Any) -> str:
    """Returns the mark of an object that only Python code can supply."""
    while isinstance(value, functools.partial):
        value = value.func
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{CALLABLE}{named.__module__}.{named.__qualname__}"


def _convert(value: Any, hint: Any) -> tuple[bool, Any]:
    """Returns whether `value` fits one annotation, and the value in that type."""
    origin, args = get_origin(hint), get_args(hint)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is Any:
        return True, value
    if hint is None or hint is type(None):
        return value is None, None
    if origin is Literal:
        return value in args, value
    if hint is float:
        is_number = is_number and abs(value) < 1e308 and not math.isnan(value)
        return is_number, float(value) if is_number else None
    if hint is int:
        is_whole = is_number and (isinstance(value, int) or value.is_integer())
        return is_whole, int(value) if is_whole else None
    if origin is tuple or hint is tuple:
        return _convert_tuple(value, args)
    if isinstance(origin or hint, type):
        return isinstance(value, origin or hint), value
    return callable(value), value  # a protocol or callable


def _convert_tuple(value: Any, hints: tuple) -> tuple[bool, Any]:
    if not isinstance(value, (list, tuple)):
        return False, None
    if len(hints) == 2 and hints[1] is Ellipsis:
        hints = (hints[0],) * len(value)
    if hints and len(hints) != len(value):
        return False, None
    hints = hints or (Any,) * len(value)
    items = [_convert(item, hint) for item, hint in zip(value, hints, strict=True)]
    return all(fits for fits, _ in items), tuple(item for _, item in items)


def _say(hint: Any) -> str:
    """Returns an annotation in words."""
    names = {float: "a float", int: "a whole number", bool: "true or false", str: "a text"}
    origin, args = get_origin(hint), get_args(hint)
    if hint in names:
        return names[hint]
    if hint is type(None):
        return "null"
    if origin is Literal:
        return " or ".join(map(repr, args))
    if origin in (Union, types.UnionType):
        words = [_say(option) for option in args if not dataclasses.is_dataclass(option)]
        if _schedules_in(hint):
            words.append("a schedule like {name: linear, start: 1.0, end: 0.05, steps: 10000}")
        return " or ".join(words)
    if origin is tuple:
        return f"a list like [{', '.join(_say(item) for item in args if item is not ...)}, ...]"
    if (origin or hint) is dict:
        return "a mapping like {key: value}"
    return getattr(hint, "__name__", str(hint))


def _schedules_in(hint: Any) -> bool:
    return any(dataclasses.is_dataclass(option) for option in (hint, *get_args(hint)))
