"""Wrappers around a run's environments: Gymnasium's own by name, or the user's."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rlzoo.config.plain_yaml import load_yaml
from rlzoo.config.values import CALLABLE, mark
from rlzoo.text import nearest, short

if TYPE_CHECKING:
    from rlzoo.envs.making import EnvSource

_ELSEWHERE = {  # what they write or show is no part of training
    "RecordVideo": "`rlzoo record` makes videos",
    "HumanRendering": "`rlzoo record` makes videos",
}


def describe(given: Iterable[Any]) -> tuple[dict[str, Any], ...]:
    """Returns wrappers as a configuration holds them: `({"name": ..., **parameters}, ...)`.

    Args:
        given: names in `gymnasium.wrappers` or "module:Class", such mappings (also as YAML texts),
            classes, and whatever else makes an environment from an environment.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ValueError(f"wrappers: expected a list of wrappers, received {short(given)}.")
    return tuple(
        {key: list(value) if isinstance(value, tuple) else value for key, value in one.items()}
        for one in map(_describe, given)
    )


def makers(given: Iterable[Any]) -> tuple[Callable, ...]:
    """Returns what puts each wrapper around an environment. `given` is as for `describe`.

    Raises:
        ValueError: for a name that is unknown, or of an object that is not at hand.
    """
    return tuple(one if _is_object(one) else _named(_describe(one)) for one in given)


def wrapped(env: "EnvSource", given: Iterable[Any]) -> "EnvSource":
    """Returns what makes an environment with wrappers around it, the first inmost."""
    from rlzoo.envs.making import Wrapped

    made = makers(given)
    return Wrapped(env, made) if made else env


def imports(choices: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the names that would import a module or come from Python."""
    return [str(choice["name"]) for choice in choices if ":" in str(choice["name"])]


def _is_object(given: Any) -> bool:
    return callable(given) and not isinstance(given, (str, Mapping))


def _describe(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        if not given.lstrip().startswith("{"):
            return {"name": given}
        given = load_yaml(given, "--wrapper")
    if isinstance(given, Mapping):
        if not isinstance(given.get("name"), str):
            raise ValueError(
                "wrappers: expected a name and its parameters, such as "
                f"{{name: FrameStackObservation, stack_size: 4}}, received {short(given)}."
            )
        return dict(given)
    if not _is_object(given):
        raise ValueError(
            f"wrappers: expected a name, a mapping, or a class, received {short(given)}."
        )
    target, params = given, {}
    if isinstance(given, functools.partial) and not given.args:
        target, params = given.func, dict(given.keywords)
    if _gymnasiums().get(getattr(target, "__name__", "")) is target:
        return {"name": target.__name__, **params}
    return {"name": mark(given)}


def _named(choice: Mapping[str, Any]) -> Callable:
    from rlzoo.tables import import_named

    name = str(choice["name"])
    params = {key: value for key, value in choice.items() if key != "name"}
    if name.startswith(CALLABLE):
        raise ValueError(
            f"This run's wrapper was {name.removeprefix(CALLABLE)}, made in Python, which no file "
            "can bring back: pass all of them again (wrappers=[...])."
        )
    if name in _ELSEWHERE:
        raise ValueError(f"wrappers: {name} is of no use in training: {_ELSEWHERE[name]}.")
    if ":" not in name and name not in _gymnasiums():
        raise ValueError(
            f"Unknown wrapper {name!r}. {nearest(name, _gymnasiums())} Or module:Class, for yours."
        )
    if ":" in name:
        wrapper = import_named(name, "wrapper")
    else:
        wrapper = _gymnasiums()[name]  # which want tuples, and a file has lists
        params = {
            k: tuple(value) if isinstance(value, list) else value for k, value in params.items()
        }
    if not callable(wrapper):
        raise ValueError(f"wrapper: expected a class, and {name} is {short(wrapper)}.")
    return functools.partial(wrapper, **params)


def _gymnasiums() -> dict[str, Any]:
    from gymnasium import Wrapper, wrappers

    found = {name: getattr(wrappers, name) for name in vars(wrappers) if name[:1].isupper()}
    return {
        name: entry
        for name, entry in found.items()
        if isinstance(entry, type) and issubclass(entry, Wrapper) and name not in _ELSEWHERE
    }
