"""What can be trained, and every setting of it, as the source says it.

Read from the source with `ast`: nothing heavy is imported, and there is no second copy. A setting
is a field of a dataclass with the comment at its end, or an argument that a docstring tells of; its
range is what `check_ranges` holds it to.
"""

import ast
import functools
import io
import re
import shutil
import textwrap
import tokenize
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import rlzoo
from rlzoo import tables

TABLES: dict[str, Mapping[str, Any]] = {
    "agents": {**tables.AGENTS.data, **tables.BRIDGED.data},
    "envs": tables.ENVS,
    "torsos": tables.TORSOS.data,
    "explorations": tables.EXPLORATIONS.data,
    "schedules": tables.SCHEDULES.data,
    "tasks": tables.TASKS.data,
}
RUN = "run"  # the name of the options of a run
_PREFIXES = {"envs": "env.", "torsos": "torso.", "explorations": "exploration."}
_RUN_CONFIG = "rlzoo.config.record:RunConfig"
_PARTS = {"transfer": "rlzoo.config.record:Transfer", "normalize": "rlzoo.spaces:Normalization"}
_NO_OPTIONS = ("agent", "env", "env_kwargs", "agent_params", "torso", "exploration", *_PARTS)
_NO_LIMIT = ("math.inf", "COUNT[1]", "10 ** 15")
_ABOVE_0 = "1e-12"  # the least number of a range without its end 0


class Setting(NamedTuple):
    """One line of a listing."""

    name: str  # as `--set` takes it
    default: str  # the same; "" if it must be given
    meaning: str  # with unit and range


def about(kind: str, name: str) -> str:
    """Returns the first line about a thing in one of the tables."""
    target = _targets(kind, name)[0]
    # An agent's file is about the agent; with those of TF-Agents there are several in one.
    own = kind == "agents" and name not in tables.BRIDGED
    return _first_line(_module(target) if own else _definition(target))


def entries(name: str) -> dict[str, list[Setting]]:
    """Returns the settings of whatever has a name, by a heading; {} if nothing has.

    Several headings are for an agent that differs by the kind of observation.
    """
    if name == RUN:
        options = [s for s in _settings(_RUN_CONFIG) if s.name not in _NO_OPTIONS]
        for part, target in _PARTS.items():
            options += [s._replace(name=f"{part}.{s.name}") for s in _settings(target)]
        return {"options of a run": options}
    for kind, table in TABLES.items():
        if name in table:
            prefix = _PREFIXES.get(kind, "")
            found = {}
            for target in _targets(kind, name):
                heading = f"{name}: {_first_line(_definition(target))}"
                if kind == "agents":
                    heading = f"{name}: {_first_line(_definition(_config(target)))}"
                found[heading] = [s._replace(name=prefix + s.name) for s in _settings(target)]
            return found
    return {}


def names() -> list[str]:
    """Returns whatever `entries` knows."""
    return [RUN, *(name for table in TABLES.values() for name in table)]


def keys(name: str) -> list[str]:
    """Returns the settings that `--set` takes of an agent or a task, without those of a part."""
    return [setting.name for settings in entries(name).values() for setting in settings]


def kind(option: str) -> tuple[str, ...]:
    """Returns the type of an option of a run by its name, or the names that it takes."""
    fields: Any = _definition(_RUN_CONFIG)
    node = next(n for n in fields.body if _code(getattr(n, "target", n)) == option)
    if _is_literal(node):
        return tuple(map(str, ast.literal_eval(node.annotation.slice)))
    return (_code(node.annotation).removesuffix(" | None"),)


def _is_literal(field: ast.AnnAssign) -> bool:
    return (
        isinstance(field.annotation, ast.Subscript) and _code(field.annotation.value) == "Literal"
    )


def table(settings: Iterable[Setting], width: int | None = None) -> str:
    """Returns the lines of a listing, not wider than the terminal."""
    settings = list(settings)
    width = width or shutil.get_terminal_size().columns
    name_width = max((len(s.name) for s in settings), default=0) + 2
    default_width = min(
        width // 5, max((len(s.default) + 2 * bool(s.default) for s in settings), default=0)
    )
    indent = " " * (2 + name_width + default_width)
    lines = []
    for s in settings:
        head = f"  {s.name:<{name_width}}{s.default:<{default_width}}"
        if len(head) > len(indent):
            default = textwrap.wrap(s.default, max(20, width - 2 - name_width))
            lines.append(f"  {s.name:<{name_width}}{default[0]}")
            lines += [" " * (2 + name_width) + more for more in default[1:]]
            head = indent
        meaning = textwrap.wrap(s.meaning, max(20, width - len(indent))) or [""]
        lines += [(head + meaning[0]).rstrip(), *(indent + more for more in meaning[1:])]
    return "\n".join(lines)


def page() -> str:
    """Returns `docs/settings.md`."""
    parts = [_HEADING]
    for kind, table in {RUN: {RUN: ""}, **TABLES}.items():
        parts.append(f"## {_KINDS[kind]}\n")
        for name in table:
            for heading, settings in entries(name).items():
                parts.append(f"### {heading}\n" if name != RUN else "")
                rows = [f"| `{s.name}` | {_cell(s.default)} | {s.meaning} |" for s in settings]
                head = ["| setting | default | meaning |", "|---|---|---|"]
                parts.append("\n".join([*head, *rows] if rows else ["No settings."]) + "\n")
    return "\n".join(part for part in parts if part)


_HEADING = """\
# Every setting

Made by `scripts/settings` from the source; `rlzoo list NAME` prints the same. On the command line
a setting is `--set NAME=VALUE`; in Python it is a keyword, or an item of `overrides` where the name
has a dot: `rlzoo.train("dqn", "CartPole-v1", learning_rate=1e-3, overrides={"torso.sizes": [64]})`.
"""
_KINDS = {
    RUN: "Options of a run",
    "agents": "Agents",
    "envs": "Environments of ours",
    "torsos": "Torsos",
    "explorations": "Exploration strategies",
    "schedules": "Schedules",
    "tasks": "Tasks to pretrain on",
}


# Reading the source.


def _targets(kind: str, name: str) -> list[str]:
    """Returns the "module:Name" texts of an entry."""
    entry = TABLES[kind][name]
    return list(entry.values()) if isinstance(entry, dict) else [entry]


def _settings(target: str) -> list[Setting]:
    """Returns the settings of an agent, a dataclass, or what a function or class is called with."""
    target = _config(target)
    found = _definition(target)
    if isinstance(found, ast.ClassDef) and any(
        "dataclass" in _code(d) for d in found.decorator_list
    ):
        return _fields(target, found)
    return _arguments(target, found)


def _config(target: str) -> str:
    """Returns the class of hyperparameters of an agent, of anything else the same again."""
    for node in getattr(_definition(target), "body", ()):
        if isinstance(node, ast.Assign) and _code(node.targets[0]) == "Config":
            return f"{target.partition(':')[0]}:{_code(node.value)}"
    return target


def _fields(target: str, found: ast.ClassDef) -> list[Setting]:
    comments, ranges = _comments(target.partition(":")[0]), _ranges(_module(target), found)
    settings = []
    for node in found.body:
        if not isinstance(node, ast.AnnAssign):
            continue
        name, comment = _code(node.target), comments.get(node.end_lineno or 0, "")
        if not comment and target.startswith("rlzoo.tasks."):  # what all tasks have
            comment = _shared().get(name, "")
        default = "" if node.value is None else _value(node.value)
        if told := re.match(r"by default ([^;]+); ", comment):
            default, comment = told[1], comment[told.end() :]
        parts = [comment, "" if re.search(r"> |>= |\.\.", comment) else ranges.get(name, "")]
        if _is_literal(node):
            options = ast.literal_eval(node.annotation.slice)  # pyright: ignore
            parts.insert(0, ", ".join(map(str, options[:-1])) + f" or {options[-1]}")
        if "Schedule" in _code(node.annotation):
            parts.append("a number or a schedule")
        settings.append(Setting(name, default, "; ".join(filter(None, parts))))
    return settings


def _arguments(target: str, found: ast.AST) -> list[Setting]:
    if isinstance(found, ast.ClassDef):
        documented = found
        made = [n for n in found.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
        if not made:
            return []
        function = made[0]
    else:
        documented = function = found
    meanings = _told(ast.get_docstring(documented) or "")  # pyright: ignore[reportArgumentType]
    arguments = function.args  # pyright: ignore[reportAttributeAccessIssue]
    defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
    return [
        Setting(a.arg, "" if d is None else _value(d), meanings.get(a.arg, ""))
        for a, d in zip(arguments.args, defaults, strict=True)
        if a.arg not in ("self", "seed", "render_mode")
    ]


def _told(docstring: str) -> dict[str, str]:
    """Returns what the section Args of a docstring says of each argument."""
    section = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", docstring, re.M)
    items = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section[1] if section else "", re.M)
    return {name: " ".join(text.split()).removesuffix(".") for name, text in items}


def _ranges(module: ast.Module, found: ast.ClassDef) -> dict[str, str]:
    """Returns the ranges that a dataclass is checked against: by a call, or a table beside it."""
    ranges = {}
    for node in ast.walk(found):
        if isinstance(node, ast.Call) and _code(node.func) == "check_ranges":
            ranges = {str(keyword.arg): _bounds(keyword.value, module) for keyword in node.keywords}
    for node in module.body if "_RANGES" in _code(found) else ():
        if isinstance(node, ast.Assign) and _code(node.targets[0]) == "_RANGES":
            items = zip(node.value.keys, node.value.values, strict=True)  # pyright: ignore
            ranges = {ast.literal_eval(key): _bounds(value, module) for key, value in items}
    return ranges


def _bounds(node: ast.expr, module: ast.Module) -> str:
    """Returns a range in short, such as 0..1 or >= 1; it may have a name in its module."""
    if not isinstance(node, ast.Tuple):
        for known in (*module.body, *_tree("rlzoo.agents.base").body):
            if isinstance(known, ast.Assign) and _code(known.targets[0]) == _code(node):
                return _bounds(known.value, module)
        return _code(node)
    low, high = (_code(end).removeprefix("self.").removesuffix(".0") for end in node.elts)
    if low == _ABOVE_0:
        return "> 0" if high in _NO_LIMIT else f"> 0, at most {high}"
    bounds = f">= {low}" if high in _NO_LIMIT else f"{low}..{high}"
    return bounds.replace(" ** ", "**")


def _value(node: ast.expr) -> str:
    """Returns a default as `--set` takes it."""
    if isinstance(node, ast.Call) and _code(node.func) == "dataclasses.field":
        made = node.keywords[0].value
        return _value(made.body) if isinstance(made, ast.Lambda) else "{}"
    try:
        return _text(ast.literal_eval(node))
    except ValueError:
        return _code(node)


def _text(value: Any) -> str:
    """Returns a value as YAML has it, on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) or '""'


def _cell(default: str) -> str:
    return f"`{default}`" if default else ""


@functools.cache
def _source(module: str) -> str:
    path = Path(rlzoo.__file__).parent.joinpath(*module.split(".")[1:])
    return path.with_suffix(".py").read_text("utf-8")


@functools.cache
def _tree(module: str) -> ast.Module:
    return ast.parse(_source(module))


def _module(target: str) -> ast.Module:
    return _tree(target.partition(":")[0])


def _definition(target: str) -> ast.AST:
    """Returns the class or function that a "module:Name" text names."""
    name = target.partition(":")[2]
    return next(node for node in _module(target).body if getattr(node, "name", None) == name)


@functools.cache
def _comments(module: str) -> dict[int, str]:
    """Returns the comment on each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(_source(module)).readline)
    return {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}


@functools.cache
def _shared() -> dict[str, str]:
    """Returns what the settings mean that all tasks have."""
    target = "rlzoo.tasks.base:Task"
    found = _definition(target)
    return {s.name: s.meaning for s in _fields(target, found)}  # pyright: ignore[reportArgumentType]


def _first_line(node: Any) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


_code = ast.unparse
