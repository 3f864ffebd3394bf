"""What a configuration chooses by name: torsos and exploration strategies, checked and made."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from rlzoo.config.describe import describe
from rlzoo.config.values import CALLABLE, fill, lookup, mark
from rlzoo.tables import EXPLORATIONS, TORSOS, Table


def choice_of(given: Any, what: str) -> dict[str, Any]:
    """Returns a strategy or torso given as a name, a mapping or an object as a mapping."""
    if isinstance(given, str):
        return {"name": given}
    if isinstance(given, Mapping):
        return describe(given)
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
    if isinstance(target, type):
        target(**params)  # its own checks of ranges
    return {"name": choice["name"], **describe(params)}


def known_torsos() -> Table:
    """Returns the torsos that a configuration may name: also one of Keras's own layers."""
    return Table({**TORSOS.data, "keras": "rlzoo.networks.described:described"})
