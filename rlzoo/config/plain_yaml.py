"""YAML read with distrust: plain values, nothing imported or executed.

What a file may hold is the core schema of YAML 1.2 in one document: texts, numbers, true, false,
null, lists and mappings.
"""

import os
import re
from pathlib import Path
from typing import Any

import yaml

from rlzoo.data import files
from rlzoo.storage.files import one_of_seeds

_MAX_BYTES = 100_000  # a resolved configuration has about 2,000


class _PlainLoader(yaml.SafeLoader):
    """Builds plain values only: no tags, no aliases (so no bombs), no key twice."""

    yaml_constructors = {
        f"tag:yaml.org,2002:{tag}": yaml.SafeLoader.yaml_constructors[f"tag:yaml.org,2002:{tag}"]
        for tag in ("null", "bool", "int", "float", "str", "seq", "map")
    } | {None: yaml.SafeLoader.construct_undefined}
    yaml_multi_constructors = {}  # noqa: RUF012
    yaml_implicit_resolvers = {}  # noqa: RUF012

    def compose_node(self, parent, index):
        """Refuses aliases, otherwise as the parent."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        """Refuses a key that is no text or comes twice, otherwise as the parent."""
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.YAMLError("keys must be plain texts")
            if key.value in seen:
                raise yaml.YAMLError(f"the key {key.value!r} comes twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?(0|[1-9][0-9_]{0,24})", [*"-+0123456789"]),
    ("float", r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,4})?", [*"-+.0123456789"]),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", [*"-+."]),
):
    _PlainLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), _first
    )


def load_yaml(text: str, where: str) -> Any:
    """Returns the plain value that a YAML text stands for.

    Args:
        text: YAML 1.2 with the core schema, one document, no tags, no aliases.
        where: the name of the text, for messages.

    Raises:
        ValueError: for anything else.
    """
    if len(text) > _MAX_BYTES:
        raise ValueError(f"{where} is longer than {_MAX_BYTES} characters: no configuration.")
    try:
        loader = _PlainLoader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{where} is no plain YAML: {reason}") from None


def read_text(path: Path) -> str:
    """Returns a small text file's content."""
    if not os.path.exists(path):
        raise ValueError(
            f"There is no file {files.shown(path)}; expected a config.yaml or a run folder."
            f"{one_of_seeds(path.parent)}"
        )
    return files.read_text(path, _MAX_BYTES)
