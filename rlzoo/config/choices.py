"""What a configuration chooses by name: torsos and exploration strategies, checked and made."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlzoo.config.describe import describe
from rlzoo.config.values import CALLABLE, fill, lookup, mark
from rlzoo.tables import EXPLORATIONS, TORSOS, Table

_PARTS = "parts"  # a torso for each part of an observation


def choice_of(given: Any, what: str) -> dict[str, Any]:
    """Returns a strategy or torso given as a name, a mapping or an object as a mapping."""
    if isinstance(given, str):
        return {"name": given}
    if isinstance(given, Mapping):
        return describe(_named(given) if what == "torso" else given)
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return describe(given)
    if isinstance(given, (bool, int, float, list, tuple)) or given is None:
        raise ValueError(f"{what}: expected a name, a mapping or an object, received {given!r}.")
    if what == "torso" and callable(getattr(given, "get_config", None)):
        from rlzoo.networks.described import describe_torso, first_unknown

        return describe_torso(given) or {"name": mark(first_unknown(given))}
    return {"name": mark(given)}


def make_exploration(choice: Mapping[str, Any]) -> Any:
    """Returns the exploration strategy that a `{"name": ..., **parameters}` mapping describes.

    An empty mapping is none: the agent explores in its own way.
    """
    if not choice:
        return None
    strategy, params = lookup(choice, EXPLORATIONS, "exploration")
    return strategy(**fill(strategy, params, "exploration."))


def make_torso(choice: Mapping[str, Any], seed: int | None = None) -> Any:
    """Returns the Keras torso that a `{"name": ..., **parameters}` mapping describes.

    An empty mapping is no torso: the agent keeps a table.
    """
    if not choice:
        return None
    torso, params = lookup(choice, known_torsos(), "torso")
    return torso(**fill(torso, params, "torso."), seed=seed)


def filled(choice: Mapping[str, Any], table: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Returns a `{"name": ..., **parameters}` choice with every parameter, type-checked."""
    if str(choice.get("name")).startswith(CALLABLE):
        return dict(choice)
    target, params = lookup(choice, table, what)
    params = fill(target, params, f"{what}.")
    if isinstance(params.get("encoder"), Mapping):
        from rlzoo.networks import ENCODERS

        params["encoder"] = filled(params["encoder"], ENCODERS, f"{what}.encoder")
    if choice["name"] == _PARTS:
        params["torsos"] = {
            path: filled(choice_of(torso, "torso"), known_torsos(), f"{what}.torsos.{path}")
            for path, torso in params["torsos"].items()
        }
        if params["then"] is not None:
            then = choice_of(params["then"], "torso")
            params["then"] = filled(then, known_torsos(), f"{what}.then")
    if isinstance(target, type):
        target(**params)  # its own checks of ranges
    return {"name": choice["name"], **describe(params)}


def known_torsos() -> Table:
    """Returns the torsos that a configuration may name: also those that are made of others."""
    made = {"keras": "rlzoo.networks.described:described", _PARTS: f"{__name__}:parts"}
    return Table({**TORSOS.data, **made})


def parts(torsos: dict, then: dict | str | None = None, seed: int | None = None) -> Any:
    """Returns a torso for each part of an observation, joined.

    Args:
        torsos: by the path of a part; each as `make_torso` takes it.
        then: from the joined features on.
        seed: of the initialisers.
    """
    from rlzoo.networks import over_parts

    made = {
        path: make_torso(choice_of(choice, "torso"), None if seed is None else seed + 1_000 * i)
        for i, (path, choice) in enumerate(sorted(torsos.items()))
    }
    return over_parts(made, None if then is None else make_torso(choice_of(then, "torso"), seed))


def _named(torso: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a choice of torsos for parts, {camera: conv, state: dense}, with its name."""
    if not torso or torso.keys() & {"name", "encoder"} or not all(map(_is_torso, torso.values())):
        return torso
    return {"name": _PARTS, "torsos": torso}


def _is_torso(value: Any) -> bool:
    name = value.get("name") if isinstance(value, Mapping) else value
    return isinstance(name, str) and name in TORSOS
