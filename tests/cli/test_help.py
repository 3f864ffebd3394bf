"""What `rlzoo list NAME` and docs/settings.md say is what the code does."""

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

from rlzoo import tables
from rlzoo.agents.base import check_ranges
from rlzoo.cli import help, main
from rlzoo.config.plain_yaml import load_yaml
from rlzoo.config.record import RunConfig, Transfer
from rlzoo.envs import make_env
from rlzoo.spaces import Normalization

_MADE = ("eval_every", "eval_mode", "checkpoint_every", "log_every", "num_envs")
PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
NAMES = [name for name in help.names() if name not in tables.BRIDGED]


def things(name):
    """Returns, for each heading of a name, its parameters and their defaults as Python has them."""
    if name == help.RUN:
        parts = {
            f"{part}.{f.name}": f.default
            for part, cls in (("transfer", Transfer), ("normalize", Normalization))
            for f in dataclasses.fields(cls)
        }
        options = {f.name: f.default for f in dataclasses.fields(RunConfig)}
        left_out = "agent env env_kwargs agent_params torso exploration transfer normalize".split()
        return [{k: v for k, v in (options | parts).items() if k not in left_out}]
    if name in tables.ENVS:
        made = type(make_env(name).unwrapped)
        entries, prefix = [made.__init__], "env."
    else:
        kinds = (tables.AGENTS, tables.TORSOS, tables.EXPLORATIONS, tables.SCHEDULES, tables.TASKS)
        table = next(table for table in kinds if name in table)
        entries = table[name]
        entries = list(entries.values()) if isinstance(entries, dict) else [entries]
        entries = [getattr(entry, "Config", entry) for entry in entries]
        prefix = {id(tables.TORSOS): "torso.", id(tables.EXPLORATIONS): "exploration."}
        prefix = prefix.get(id(table), "")
    found = []
    for entry in entries:
        parameters = inspect.signature(entry).parameters.values()
        known = {}
        for p in parameters:
            if p.name not in ("self", "seed", "render_mode") and p.kind is not p.VAR_KEYWORD:
                field = getattr(entry, "__dataclass_fields__", {}).get(p.name)
                made = field is not None and field.default_factory is not dataclasses.MISSING
                known[prefix + p.name] = field.default_factory() if made else p.default
        found.append(known)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_listed_with_its_default_and_a_meaning(name):
    found = list(help.entries(name).values())
    for settings, known in zip(found, things(name), strict=True):
        assert [setting.name for setting in settings] == list(known)
        for setting in settings:
            assert setting.meaning, f"{name} {setting.name}: a comment says what it means"
            default = known[setting.name]
            if setting.name in _MADE:
                continue  # made of other options, or by the agent
            if setting.default == "":
                assert default in (inspect.Parameter.empty, dataclasses.MISSING)
                continue
            same = json.loads(json.dumps(default))  # lists for tuples
            assert load_yaml(setting.default, setting.name) == same


def test_ranges_are_those_of_the_checks():
    meanings = {s.name: s.meaning for found in help.entries("dqn").values() for s in found}
    assert meanings["batch_size"].endswith("; >= 1")
    assert meanings["learning_starts"].endswith("; 0..replay_capacity")
    assert meanings["discount"] == "gamma, 0..1"
    assert meanings["loss"].startswith("huber or squared; ")
    with pytest.raises(ValueError, match="batch_size: expected at least 1"):
        check_ranges(type("Config", (), {"batch_size": 0}), batch_size=(1, float("inf")))
    run = {s.name: s.meaning for found in help.entries("run").values() for s in found}
    assert run["eval_episodes"].endswith(">= 1") and run["transfer.lr_scale"].endswith("0..1000")
    strategy = {s.name: s.meaning for s in help.entries("softmax").popitem()[1]}
    assert strategy["exploration.temperature"].endswith("a number or a schedule")


def test_the_page_is_what_the_source_says():
    assert PAGE.read_text("utf-8") == help.page(), "run scripts/settings"


def test_every_name_has_a_line():
    for kind, table in help.TABLES.items():
        for name in table:
            assert len(help.about(kind, name)) > 10


def test_a_listing_fits_the_terminal(monkeypatch, capfd):
    for columns in (60, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        for line in ("list", "list dqn", "list conv", "list mnist", "list run"):
            assert main(line.split()) == 0
            shown = capfd.readouterr().out.splitlines()
            longest = max((row for row in shown if row[:1] == " "), key=len)
            assert len(longest) <= columns, longest


def test_json_has_every_setting(capfd):
    assert main(["list", "dyna_q", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert shown["name"] == "dyna_q" and len(shown["settings"]) == 2
    tabular, deep = shown["settings"].values()
    assert {"name", "default", "meaning"} == set(tabular[0])
    assert "learning_rate" in {row["name"] for row in tabular}
    assert "planning_starts" in {row["name"] for row in deep}
