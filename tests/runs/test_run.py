"""Runs from Python: what they leave behind, repeating them, going on, parts of one's own."""

import csv
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

import rlzoo
from rlzoo.agents import variables
from rlzoo.exploration import Exploration, Greedy, Softmax
from rlzoo.storage import checkpoint
from tests.env_doubles import ChainEnv
from tests.helpers import held_steps
from tests.runs.killed_runs import final_arrays

ROOT = Path(__file__).parents[2]
TINY = {"eval_every": 0, "eval_episodes": 1, "log_every": 20}
TINY_DQN = {**TINY, "learning_starts": 16, "batch_size": 8, "replay_capacity": 100}


def same_weights(one: Path, other: Path) -> bool:
    found, expected = final_arrays(one), final_arrays(other)
    assert found.keys() == expected.keys()
    return all(found[name].tobytes() == array.tobytes() for name, array in expected.items())


def events(run_dir: Path):
    """Returns what TensorBoard reads in a folder: all scalars by tag, and its accumulator."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
    tags = accumulator.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in tags}, accumulator


def rows(run_dir: Path) -> dict[str, list[tuple[int, float]]]:
    """Returns what `metrics.csv` holds, by tag."""
    found = defaultdict(list)
    with open(run_dir / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            found[row["tag"]].append((int(row["step"]), float(row["value"])))
    return found


# --- what a run leaves behind ---


def test_the_folder_holds_everything(run):
    names = {path.name for path in run.dir.iterdir()}
    event_files = {name for name in names if name.startswith("events.out.tfevents.")}
    assert len(event_files) == 1
    assert names - event_files == {
        "config.yaml", "metrics.csv", "checkpoints", "curve.png", "summary.json", "hparams",
    }  # fmt: skip
    assert [path.name for path in checkpoint.checkpoints(run.dir / "checkpoints")] == [
        "step-000000600",
        "step-000000504",  # checkpoint_every=100 in chunks of 8 steps
    ]
    best = checkpoint.checkpoints(run.dir / "checkpoints", best=True)
    assert [path.name for path in best] == [f"best-{run.summary['best_step']:09d}"]
    assert len(list((run.dir / "checkpoints").iterdir())) == 3


def test_the_summary(run):
    with open(run.dir / "summary.json") as file:
        summary = json.load(file)
    assert summary == run.summary
    assert summary["agent"] == "dqn" and summary["env"] == "CartPole-v1" and summary["seed"] == 1
    assert summary["steps"] == 600 and summary["episodes"] == 4
    for name in ("mean_return", "last_mean_return"):
        assert 5 <= summary[name] <= 500
    assert summary["seconds"] > 0 and summary["steps_per_second"] > 0
    assert {"rlzoo", "tensorflow", "keras", "gymnasium", "numpy"} <= set(summary["versions"])
    assert summary["best_step"] in {step for step, _ in rows(run.dir)["eval/return"]}


def test_the_configuration_is_complete(run):
    with open(run.dir / "config.yaml") as file:
        config = yaml.safe_load(file)
    assert config == json.loads(json.dumps(dataclasses.asdict(run.config)))
    assert config["agent_params"]["discount"] == 0.99  # also what nobody gave
    assert config["exploration"]["epsilon"]["end"] == 0.1
    assert config["torso"]["activation"] == "relu"


def test_tensorboard_has_every_tag_over_environment_steps(run):
    scalars, _ = events(run.dir)
    expected = {
        "episode/return", "episode/length", "eval/return", "exploration/epsilon",
        "exploration/entropy", "exploration/greedy_fraction", "loss/td", "value/q", "grad/norm",
        "time/steps_per_second",
    }  # fmt: skip
    assert expected <= set(scalars)
    for tag in expected - {"eval/return"}:
        steps = [step for step, _ in scalars[tag]]
        assert steps == sorted(set(steps)) and steps[-1] == 600, tag
    assert [step for step, _ in scalars["eval/return"]] == [200, 400, 600]
    # What nothing was learned for is not shown.
    assert scalars["loss/td"][0][0] > 64 > scalars["exploration/entropy"][0][0]
    for step, epsilon in scalars["exploration/epsilon"]:
        # A mean over a window of 50 steps and a chunk at most.
        assert epsilon == pytest.approx(1.0 - 0.9 * min(step, 500) / 500, abs=0.9 * 60 / 500)
    assert all(np.isfinite(value) for values in scalars.values() for _, value in values)
    lengths, returns = scalars["episode/length"], scalars["episode/return"]
    assert lengths == returns  # CartPole gives 1 for each step


def test_the_table_of_metrics_holds_what_tensorboard_does(run):
    scalars, _ = events(run.dir)
    found = rows(run.dir)
    assert found.keys() == scalars.keys()
    for tag, values in scalars.items():
        assert [step for step, _ in values] == [step for step, _ in found[tag]]
        np.testing.assert_allclose(
            [value for _, value in values], [value for _, value in found[tag]], rtol=1e-6
        )


def test_the_curve_is_a_picture(run):
    import imageio.v3 as iio

    picture = iio.imread(run.dir / "curve.png")
    assert picture.shape[0] > 300 and picture.shape[1] > 500
    assert len(np.unique(picture.reshape(-1, picture.shape[-1]), axis=0)) > 20


def test_a_name_is_made_up_where_none_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = [
        rlzoo.train(
            "dyna_q", STATES, steps=10, preset=False, overrides=TINY,
            quiet=True, seed=4,
        )
        for _ in range(2)
    ]  # fmt: skip
    for run in runs:
        assert run.dir.parts[0] == "runs" and run.dir.parts[2] == "dyna_q"
        assert "-s4" in run.dir.name and (run.dir / "summary.json").exists()
    assert runs[0].dir != runs[1].dir


# --- the same again ---


def test_its_configuration_repeats_a_run_exactly(run, tmp_path):
    again = rlzoo.train(config=run.dir / "config.yaml", run_dir=tmp_path / "again", quiet=True)
    assert same_weights(run.dir, again.dir)
    for name in ("mean_return", "std_return", "last_mean_return", "best_step", "steps"):
        assert again.summary[name] == run.summary[name]
    ours, theirs = (
        {t: v for t, v in rows(d).items() if "time/" not in t} for d in (run.dir, again.dir)
    )
    assert ours == theirs


def test_another_seed_is_another_run(run, tmp_path):
    other = rlzoo.train(
        config=run.dir / "config.yaml", seed=2, steps=200, run_dir=tmp_path / "other", quiet=True
    )
    ours, theirs = final_arrays(run.dir), final_arrays(other.dir)
    assert ours.keys() == theirs.keys()
    kernels = [name for name in ours if name.startswith("actor/") and ours[name].ndim == 2]
    assert kernels and not any(np.array_equal(ours[name], theirs[name]) for name in kernels)
    assert not np.array_equal(ours["replay/obs"][:100], theirs["replay/obs"][:100])


HASHES = """
import hashlib, sys, tempfile
from pathlib import Path
import rlzoo
from tests.runs.killed_runs import final_arrays
loop, vector, seed = *sys.argv[1:3], int(sys.argv[3])
small = {"learning_starts": 64, "batch_size": 16, "planning_steps": 2, "torso.sizes": [8]}
common = {"eval_every": 500, "eval_episodes": 2, "checkpoint_every": 500}
for agent, env, torso, keys, more in (
    ("dqn", "CartPole-v1", None, ("learning_starts", "batch_size", "torso.sizes"), {}),
    ("reinforce", "CartPole-v1", None, ("torso.sizes",), {"env.max_episode_steps": 50}),
    ("dqn", "rlzoo/Memory-v0", "lstm", ("learning_starts",), {"torso.units": 4}),
    ("reinforce", "rlzoo/Memory-v0", "lstm", (), {"torso.units": 4}),
    ("dyna_q", "rlzoo/DynaMaze-v0", None, ("planning_steps",), {"env.max_episode_steps": 200}),
    ("dyna_q", "CartPole-v1", None, tuple(small), {}),
):
    overrides = {**common, **{key: small[key] for key in keys}, **more}
    with tempfile.TemporaryDirectory() as folder:
        run = rlzoo.train(agent, env, steps=2_000, seed=seed, torso=torso, vector=vector,
            loop=loop, preset=False, overrides=overrides, run_dir=Path(folder) / "run", quiet=True)
        digest = hashlib.sha256()
        for name, array in sorted(final_arrays(run.dir).items()):
            digest.update(name.encode() + array.tobytes())
        print(agent, env, digest.hexdigest(), run.summary["mean_return"])
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_agree_bit_for_bit_and_so_does_async():
    def start(*arguments):
        command = [sys.executable, "-c", HASHES, *arguments]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    runs = [("graph", "sync"), ("graph", "sync"), ("host", "sync"), ("host", "async")]
    processes = [start(*run, "1") for run in runs]
    one, again, host, apart = (p.communicate(timeout=500)[0].splitlines() for p in processes)
    assert len(one) == 6 and not any(process.returncode for process in processes)
    assert one == again
    assert host == apart


# --- one folder, one run ---


def test_a_folder_that_holds_a_run_is_refused(run):
    before = sorted(run.dir.rglob("*"))
    with pytest.raises(ValueError, match=rf"holds a run already.*rlzoo resume {run.dir}"):
        rlzoo.train("dqn", "CartPole-v1", run_dir=run.dir, quiet=True)
    assert sorted(run.dir.rglob("*")) == before


def test_a_run_that_could_not_start_does_not_take_its_folder(tmp_path):
    with pytest.raises(ValueError, match="recurrent torso"):
        rlzoo.train("dyna_q", "CartPole-v1", torso="lstm", run_dir=tmp_path / "run", quiet=True)
    rlzoo.train(
        "dyna_q", STATES, steps=10, run_dir=tmp_path / "run",
        preset=False, overrides=TINY, quiet=True,
    )  # fmt: skip


# --- resume ---


def changed(run_dir: Path, tmp_path: Path, **changes) -> Path:
    """Returns a copy of a run whose config.yaml says something else."""
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    config = yaml.safe_load((copy / "config.yaml").read_text())
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            config[section][name] = value
        else:
            config[section] = value
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    return copy


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        (
            {"env": "Acrobot-v1"},
            ["spec.obs.Box.shape", "spec.action.Discrete.n: expected 3, found 2"],
        ),
        ({"env_kwargs__max_episode_steps": 9}, ["spec.max_episode_steps: expected 9, found 500"]),
        ({"torso__sizes": [32]}, ["actor/torso/dense/kernel", "[4, 32]", "[4, 16]"]),
        ({"torso__sizes": [16, 16]}, ["actor/torso/dense_1/bias: missing"]),
        ({"agent_params__dueling": True}, ["actor/"]),
        ({"agent_params__replay_capacity": 200}, ["replay/obs"]),
    ],
)
def test_resume_names_what_does_not_fit(changes, fields, run, tmp_path):
    copy = changed(run.dir, tmp_path, **changes)
    table = (copy / "metrics.csv").read_bytes()
    with pytest.raises(ValueError) as caught:
        rlzoo.resume(copy, steps=700, quiet=True)
    for field in fields:
        assert field in str(caught.value)
    assert (copy / "metrics.csv").read_bytes() == table


def test_resume_of_another_agents_checkpoint(run, tmp_path):
    copy = changed(run.dir, tmp_path)
    fresh = rlzoo.config.resolve.resolve("dyna_q", "CartPole-v1", preset=False)
    (copy / "config.yaml").write_text(rlzoo.config.files.to_yaml(fresh))
    with pytest.raises(ValueError, match="agent: expected 'dyna_q', found 'dqn'"):
        rlzoo.resume(copy, quiet=True)


def test_resume_where_nothing_is(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "none"):
        with pytest.raises(ValueError, match=r"There is no file .*config\.yaml"):
            rlzoo.resume(path, quiet=True)
    assert not (tmp_path / "none").exists()


def test_a_damaged_newest_checkpoint_is_passed_over(run, tmp_path):
    copy = changed(run.dir, tmp_path)
    newest = checkpoint.checkpoints(copy / "checkpoints")[0]
    victim = newest / "0003.npy"
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    with pytest.warns(UserWarning, match=r"step-000000600.*Loaded the older step-000000504"):
        resumed = rlzoo.resume(copy, quiet=True)
    assert same_weights(resumed.dir, run.dir)


# --- another strategy, midway ---


def test_the_strategy_is_swapped_midway(run, tmp_path):
    copy = changed(run.dir, tmp_path)
    going_on = rlzoo.resume(copy, quiet=True)  # it had ended: nothing is left to do
    assert going_on.summary["steps"] == 600 and same_weights(copy, run.dir)
    going_on.train(200, exploration=Softmax(0.5), quiet=True)
    assert going_on.summary["steps"] == going_on.config.steps == 800
    assert yaml.safe_load((copy / "config.yaml").read_text())["exploration"] == {
        "name": "softmax",
        "temperature": 0.5,
    }
    scalars, _ = events(copy)
    assert scalars["exploration/epsilon"][-1][0] == 600
    assert scalars["exploration/temperature"][0][0] > 600
    assert scalars["exploration/temperature"][-1] == (800, 0.5)
    # The learner went on: its replay holds both halves.
    before, after = final_arrays(run.dir), final_arrays(copy)
    assert before["replay/added"] == 600 and after["replay/added"] == 800
    old, new = held_steps(before), held_steps(after)
    both = old.keys() & new.keys()  # of a ring of 300
    assert len(both) > 50 and max(new) == 799
    for number in both:
        assert all(map(np.array_equal, old[number], new[number]))
    again = rlzoo.resume(copy, steps=820, quiet=True)  # a strategy of ours needs no naming
    assert isinstance(again.agent.actor.exploration, Softmax)


# --- parts of one's own ---


@dataclasses.dataclass(frozen=True)
class Stubborn(Exploration):
    """Repeats, more often than not, what it did least so far. It counts: it keeps a state."""

    push: float = 1.0

    def init(self, num_envs, spec):
        return (tf.zeros([spec.num_actions]),)

    def log_probs(self, scores, state, step):
        return tf.nn.log_softmax(scores - self.push * state[0])

    def observe(self, state, chunk):
        done = tf.one_hot(chunk.action, state[0].shape[0])  # [T, N, A]
        return (state[0] + 0.01 * tf.reduce_sum(done, axis=[0, 1]),)


@keras.saving.register_keras_serializable("tests")
class Squares(keras.Layer):
    """A torso as a user writes one."""

    def __init__(self, units=8, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.inner = keras.layers.Dense(units)

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return keras.ops.square(self.inner(x))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def sequential():
    return keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.LayerNormalization()])


def stacked():
    return keras.layers.StackedRNNCells([keras.layers.LSTMCell(4), keras.layers.GRUCell(3)])


CHAIN = partial(gymnasium.make, "CartPole-v1", max_episode_steps=12)
MEMORY = partial(gymnasium.make, "rlzoo/Memory-v0", delay=3)
STATES = partial(ChainEnv, num_states=3)


class Unmarked(Exploration):
    def log_probs(self, scores, state, step):
        return tf.nn.log_softmax(scores)


@dataclasses.dataclass(frozen=True)
class Returns(Exploration):
    """Returns what it is told to."""

    function: Any = None

    def log_probs(self, scores, state, step):
        return self.function(scores)


@pytest.mark.parametrize(
    ("part", "given", "message"),
    [
        ("torso", keras.layers.Dense, r"received the class Dense. Make one of it: Dense\(...\)"),
        ("torso", keras.layers.LSTMCell, "received the class LSTMCell"),
        ("torso", len, "torso: expected a Keras layer, received <built-in function len>"),
        ("exploration", Stubborn, r"received the class Stubborn. Make one of it: Stubborn\(...\)"),
        ("exploration", 0.1, "exploration: expected an Exploration, received 0.1"),
        ("exploration", Unmarked(), "Unmarked is no dataclass.*above its class"),
        ("exploration", Returns(tf.nn.softmax), "Returns.log_probs: expected log-prob.* a sum of"),
        ("exploration", Returns(tf.identity), "Returns.log_probs: expected log-probabilities"),
        ("exploration", Returns(lambda scores: scores[0]), r"shape \(2, 4\).*received \(4,\)"),
    ],
)
def test_what_is_no_part_is_refused_in_one_line(part, given, message, tmp_path):
    with pytest.raises(ValueError, match=message) as caught:
        rlzoo.train(
            "dqn", "rlzoo/DynaMaze-v0", steps=20, run_dir=tmp_path / "run", preset=False,
            quiet=True, loop="host", **{part: given},
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_run_that_goes_on_takes_no_part_that_is_none(tmp_path):
    run = rlzoo.train(
        "dyna_q", STATES, steps=10, run_dir=tmp_path / "run", preset=False, overrides=TINY
    )
    for wrong, message in ((Stubborn, "the class Stubborn"), (Returns(tf.exp), "a sum of")):
        with pytest.raises(ValueError, match=message):
            run.train(10, exploration=wrong)
        with pytest.raises(ValueError, match=message):
            rlzoo.resume(run.dir, env=STATES, exploration=wrong)


def test_a_run_that_goes_on_is_as_quiet_as_before(tmp_path, capfd):
    run = rlzoo.train(
        "dyna_q", STATES, steps=10, run_dir=tmp_path / "run", preset=False, overrides=TINY,
        quiet=True,
    )  # fmt: skip
    run.train(10)
    assert capfd.readouterr().err == ""
    run.train(10, quiet=False)
    assert "Going on from step 20" in capfd.readouterr().err
    run.train(10)
    assert "Going on from step 30" in capfd.readouterr().err


def test_a_strategy_of_ones_own(tmp_path):
    check_part("dyna_q", STATES, "exploration", Stubborn, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "env", "part", "make"),
    [
        ("dqn", CHAIN, "torso", Squares),
        ("dyna_q", CHAIN, "torso", sequential),
        ("reinforce", MEMORY, "torso", stacked),
        ("dqn", CHAIN, "exploration", Stubborn),
    ],
)
def test_more_parts_of_ones_own(agent, env, part, make, tmp_path):
    check_part(agent, env, part, make, tmp_path)


def check_part(agent, env, part, make, tmp_path):
    def made():
        keras.utils.set_random_seed(3)  # it is up to the user what weights a layer starts with
        return {part: make()}

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    overrides = TINY if agent == "reinforce" or env is STATES else TINY_DQN
    if agent == "dyna_q" and env is not STATES:
        overrides = {**overrides, "planning_starts": 16}
    if part == "torso" and agent != "reinforce":  # by default it falls over the steps of the run
        overrides = {**overrides, "exploration.epsilon": 0.3}
    arguments = {"num_envs": 2, "preset": False, "overrides": overrides, "quiet": True}
    rlzoo.train(agent, env, steps=80, run_dir=whole, **made(), **arguments)
    rlzoo.train(agent, env, steps=40, run_dir=parts, **made(), **arguments)

    again = made()
    if make in (sequential, stacked):
        again = {}  # of Keras's own layers: config.yaml describes them
    else:
        kind = type(make()).__name__
        for use in (rlzoo.load, rlzoo.evaluate, rlzoo.resume):
            expected = rf"{part} was .*{kind}.*pass it again \({part}=\.\.\.\)"
            with pytest.raises(ValueError, match=expected):
                use(parts, env=env)
    rlzoo.resume(parts, steps=80, env=env, quiet=True, **again)
    assert same_weights(whole, parts)

    policy = rlzoo.load(whole, env=env, last=True, **again)
    last = final_arrays(whole)
    for name, variable in variables(policy.agent).items():
        if name.startswith("actor/"):
            assert np.array_equal(variable.numpy(), last[name])


class Failing(gymnasium.Wrapper):
    """CartPole that breaks down at its 30th step, once it is armed."""

    armed = False
    count = 0

    def step(self, action):
        self.count += 1
        if self.armed and self.count == 30:
            raise RuntimeError("broke down")
        return self.env.step(action)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [Greedy(), Stubborn()])
def test_a_run_stopped_soon_after_a_swap_goes_on(strategy, run, tmp_path, monkeypatch):
    """Before it saved with the new strategy, which has a state of another shape."""
    copy = tmp_path / "copy"  # in the host loop: no port knows the wrapper
    rlzoo.train(config=run.dir / "config.yaml", loop="host", run_dir=copy, quiet=True)
    going_on = rlzoo.resume(copy, env=lambda: Failing(gymnasium.make("CartPole-v1")), quiet=True)
    monkeypatch.setattr(Failing, "armed", True)
    with pytest.raises(RuntimeError, match="broke down"):
        going_on.train(200, exploration=strategy, quiet=True)
    assert checkpoint.load(copy / "checkpoints")[1]["loop"]["step"] == 600
    own = {"exploration": strategy} if isinstance(strategy, Stubborn) else {}
    resumed = rlzoo.resume(copy, steps=620, quiet=True, **own)
    assert resumed.agent.actor.exploration == strategy and resumed.summary["steps"] >= 620
    assert final_arrays(copy)["replay/added"] == resumed.summary["steps"]


def test_an_environment_of_ones_own_is_asked_for_again(tmp_path):
    arguments = {"preset": False, "overrides": TINY, "quiet": True}
    rlzoo.train("dyna_q", STATES, steps=20, run_dir=tmp_path, **arguments)
    for use in (rlzoo.load, rlzoo.evaluate, rlzoo.resume):
        with pytest.raises(ValueError, match=r"the environment was .*ChainEnv.*\(env=\.\.\.\)"):
            use(tmp_path)
    assert rlzoo.evaluate(tmp_path, env=STATES, episodes=2).returns == [10.0, 10.0]


class Anonymous(keras.Layer):
    """A torso that cannot be copied."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, x):
        return self.inner(x)


@pytest.mark.parametrize("agent", ["dqn", "reinforce", "dyna_q"])
def test_a_torso_that_cannot_be_copied_is_told_how(agent, tmp_path):
    with pytest.raises(ValueError, match=r"cannot be copied.*get_config"):
        rlzoo.train(
            agent, "CartPole-v1", torso=Anonymous(keras.layers.Dense(4)), steps=20,
            run_dir=tmp_path / "run", quiet=True,
        )  # fmt: skip


def test_nothing_is_written_outside_the_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rlzoo.load(run.dir)
    rlzoo.evaluate(run.dir, episodes=1)
    assert os.listdir(tmp_path) == []


def test_hyperparameters_are_keywords(tmp_path):
    run = rlzoo.train(
        "dyna_q",
        "rlzoo/DynaMaze-v0",
        steps=20,
        learning_rate=0.5,
        planning_steps=2,
        eval_episodes=1,
        loop="host",
        run_dir=tmp_path / "run",
        quiet=True,
    )
    assert run.config.agent_params["learning_rate"] == 0.5
    assert run.config.agent_params["planning_steps"] == 2
    assert run.config.eval_episodes == run.summary["episodes"] == 1


# --- in a Python session ---


def test_what_a_session_shows_of_a_run(run, digits_run):
    found = run.summary
    assert repr(run) == (
        f"<Run of dqn on CartPole-v1, seed 1: 600 steps, best {found['mean_return']:.4g}, last "
        f"{found['last_mean_return']:.4g}; {run.dir}>"
    )
    assert repr(rlzoo.load(run.dir)) == "<Policy of DQN: observations float32 [4], 2 actions>"
    result = rlzoo.evaluate(run.dir, episodes=2)
    assert repr(result).startswith(f"<Evaluation: return {result.mean_return:.4g} ± ")
    shown = repr(digits_run)
    assert shown.startswith("<Pretrained conv on mnist, seed 1: epoch ")
    assert f"accuracy {digits_run.summary['test_accuracy']:.4g}" in shown


@pytest.mark.slow
def test_tensorflow_starts_silently_in_python_unless_asked():
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    for first in ("from rlzoo.exploration import Softmax", "print(rlzoo.train_seeds.__name__)"):
        for level, silent in ({}, True), ({"TF_CPP_MIN_LOG_LEVEL": "0"}, False):
            code = f"import rlzoo\n{first}\nimport tensorflow as tf\ntf.zeros(1)"
            done = subprocess.run(
                [sys.executable, "-c", code],
                env=environment | level, capture_output=True, text=True, check=True,
            )  # fmt: skip
            assert (done.stderr == "") == silent, done.stderr


def test_a_failing_import_shows_what_tensorflow_had_to_say(tmp_path):
    (tmp_path / "tensorflow.py").write_text(
        "import os\nos.write(2, b'a library is missing\\n')\nraise ImportError('no such library')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import rlzoo.exploration"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "a library is missing" in done.stderr and "no such library" in done.stderr
