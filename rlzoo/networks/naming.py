"""Names of variables, as checkpoints hold them: the same in every process."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import keras


def under(prefix: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns variables by their names with `prefix/` before."""
    return {f"{prefix}/{name}": variable for name, variable in variables.items()}


def all_named(owners: Mapping[str, keras.Layer | keras.optimizers.Optimizer]) -> dict[str, Any]:
    """Returns the variables of several, each by its path under the name of its owner."""
    found: dict[str, Any] = {}
    for name, owner in owners.items():
        found |= under(name, named_variables(owner))
    return found


def named_variables(owner: keras.Layer | keras.optimizers.Optimizer) -> dict[str, Any]:
    """Returns the variables of a layer or model by their paths, as `torso/dense_1/kernel`.

    Names in Keras count up within a process ("dense_3"); here they count within what holds them.
    A layer that has a `role` is named by it.
    Those of an optimiser, which has no parts, are numbered.
    """
    if isinstance(owner, keras.optimizers.Optimizer):
        return {str(i): variable for i, variable in enumerate(owner.variables)}
    return {path: variable for path, variable in _paths(owner, set())}


def _paths(layer: Any, seen: set[int]) -> Iterable[tuple[str, Any]]:
    """Goes through the variables of a layer that have not been seen, those of its parts first."""
    unique = _Unique()
    for part in layer._flatten_layers(include_self=False, recursive=False):
        found = list(_paths(part, seen))
        if found:
            name = unique(getattr(part, "role", part.name))
            yield from ((f"{name}/{path}", variable) for path, variable in found)
    for variable in layer.variables:
        if id(variable) not in seen:
            seen.add(id(variable))
            yield unique(variable.name), variable


class _Unique:
    """Names that count up in the order in which they are asked for."""

    def __init__(self):
        self._count: Counter[str] = Counter()

    def __call__(self, name: str) -> str:
        base = re.sub(r"_\d+$", "", re.sub(r"[^A-Za-z0-9_.-]", "_", name)) or "part"
        self._count[base] += 1
        count = self._count[base] - 1
        return f"{base}_{count}" if count else base
