"""TensorBoard's HParams tab, as its own plugin reads it."""

import json
import shutil
import types

import pytest

from rlzoo.config.describe import settings
from rlzoo.reports import hparams


def tab(folder):
    """Returns the names of all columns, and the groups by name, as the tab shows them."""
    from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import (
        api_pb2,
        backend_context,
        get_experiment,
        list_session_groups,
    )

    multiplexer = plugin_event_multiplexer.EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    flags = types.SimpleNamespace(generic_data="true")
    context = backend_context.Context(
        base_plugin.TBContext(data_provider=provider, logdir=str(folder), flags=flags)
    )
    request = api_pb2.GetExperimentRequest(include_metrics=True)
    experiment = get_experiment.Handler(RequestContext(), context, "e", request).run()
    statuses = [api_pb2.STATUS_SUCCESS, api_pb2.STATUS_RUNNING, api_pb2.STATUS_UNKNOWN]
    request = api_pb2.ListSessionGroupsRequest(
        start_index=0, slice_size=100, allowed_statuses=statuses, include_metrics=True,
        col_params=[{"metric": metric.name} for metric in experiment.metric_infos],
    )  # fmt: skip
    handler = list_session_groups.Handler(RequestContext(), context, "e", request)
    columns = {info.name for info in experiment.hparam_infos}
    metrics = {info.name.tag for info in experiment.metric_infos}
    return columns, metrics, {group.name: group for group in handler.run().session_groups}


def values(group_or_session, name="metric_values"):
    return {value.name.tag: value.value for value in getattr(group_or_session, name)}


def test_seeds_are_one_group_named_by_what_was_trained(mazes):
    columns, metrics, groups = tab(mazes)
    assert metrics == {"final/best_return", "final/last_return", "final/area", "final/seconds"}
    assert {"agent", "env", "steps", "learning_rate", "exploration.name"} <= columns
    assert not {"seed", "eval_every", "log_every", "keep_checkpoints", "agent_params"} & columns
    sessions = {tuple(s.name for s in group.sessions): group for group in groups.values()}
    assert set(sessions) == {("a/hparams", "b/hparams"), ("c/hparams",)}
    for group in groups.values():
        assert group.name.startswith("dyna_q on rlzoo/DynaMaze-v0, ")
    assert sessions["c/hparams",].hparams["learning_rate"].number_value == 0.25
    assert sessions["a/hparams", "b/hparams"].hparams["steps"].number_value == 200


def test_the_figures_are_those_of_the_summaries(mazes):
    *_, groups = tab(mazes)
    names = {
        "final/best_return": "mean_return",
        "final/last_return": "last_mean_return",
        "final/area": "area",
        "final/seconds": "seconds",
    }
    found = {s.name.split("/")[0]: values(s) for g in groups.values() for s in g.sessions}
    for run in "abc":
        summary = json.loads((mazes / run / "summary.json").read_text())
        expected = {tag: pytest.approx(summary[key], rel=1e-6) for tag, key in names.items()}
        assert found[run] == expected


def test_pretraining_has_columns_of_its_own(mazes, tmp_path):
    shutil.copytree(mazes / "a", tmp_path / "maze")
    (tmp_path / "pretrain").mkdir()
    settings = {"task": "mnist", "batch_size": 32}
    results = {"test/accuracy": 0.9}
    hparams.write(tmp_path / "pretrain", "pretraining on mnist", settings, results, 40)
    columns, metrics, groups = tab(tmp_path)
    assert {"task", "agent"} <= columns and "test/accuracy" in metrics
    assert len(groups) == 2
    for name, group in groups.items():
        tags = set(values(group))
        of_pretraining = name.startswith("pretraining on mnist, ")
        assert ("test/accuracy" in tags) == of_pretraining
        assert ("final/best_return" in tags) != of_pretraining


def test_a_long_setting_becomes_a_short_one_that_still_differs():
    one, other = (settings({"torso": {"layers": "[" + "1, " * 999 + end}}) for end in ("1]", "2]"))
    assert one["torso.layers"] != other["torso.layers"]
    assert len(one["torso.layers"]) == len(other["torso.layers"]) == 100


def test_a_run_that_goes_on_has_its_newest_figures_once(tmp_path):
    (tmp_path / "run").mkdir()
    for step, best in ((100, 1.0), (200, 3.0)):
        hparams.write(tmp_path / "run", "dqn on X", {"steps": step}, {"final/best": best}, step)
    *_, groups = tab(tmp_path)
    (group,) = groups.values()
    assert values(group) == {"final/best": 3.0}
    assert group.hparams["steps"].number_value == 200
