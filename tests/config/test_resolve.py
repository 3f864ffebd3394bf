"""Configurations: layers, types, names, files, and files that mean harm."""

import dataclasses
import functools
import json
import os
import re
import warnings

import gymnasium
import pytest
import yaml

import rlzoo
from rlzoo.agents import DQN
from rlzoo.config.choices import make_exploration, make_torso
from rlzoo.config.describe import flatten
from rlzoo.config.files import from_yaml, load_run, preset_for, presets, to_yaml
from rlzoo.config.plain_yaml import load_yaml
from rlzoo.config.record import RunConfig
from rlzoo.config.resolve import env_settings, resolve
from rlzoo.config.values import fill, typed
from rlzoo.exploration import Exploration, Softmax
from rlzoo.ops.schedules import Linear
from tests.env_doubles import ChainEnv


def flat(**changes):
    return flatten(dataclasses.asdict(resolve("dqn", "CartPole-v1", **changes)))


# Layers.


def test_defaults_are_complete():
    run = resolve("dqn", "CartPole-v1", preset=False)
    defaults = dataclasses.asdict(DQN.Config())
    assert run.exploration["name"] == defaults.pop("exploration")
    assert run.torso["name"] == defaults.pop("torso")
    assert run.agent_params == defaults
    assert run.steps == 100_000
    assert run.eval_every == run.checkpoint_every == 5_000
    falling = {"name": "linear", "start": 1.0, "end": 0.05, "steps": 20_000}
    assert run.exploration["epsilon"] == falling
    assert "sizes" in run.torso and "seed" not in run.torso


def test_epsilon_falls_in_the_first_fifth_of_a_run_unless_told_otherwise():
    def epsilon(**settings):
        return resolve("dqn", "CartPole-v1", preset=False, **settings).exploration["epsilon"]

    assert epsilon(steps=5_000)["steps"] == 1_000
    assert epsilon(steps=1)["steps"] == 1
    assert epsilon(exploration="epsilon_greedy", steps=500)["steps"] == 100
    assert epsilon(overrides=["exploration.epsilon=0.2"]) == 0.2
    assert epsilon(overrides=["exploration.epsilon.end=0.2"])["end"] == 0.2


@pytest.mark.parametrize(("agent", "own"), [("dqn", 1), ("reinforce", 8)])
def test_the_agent_decides_how_many_environments_there_are_unless_told_otherwise(agent, own):
    def count(**settings):
        run = resolve(agent, "CartPole-v1", preset=False, **settings)
        assert "num_envs" not in run.agent_params
        return run.num_envs

    assert count() == own
    assert count(num_envs=3) == count(overrides=["num_envs=3"]) == 3


def test_what_a_setting_left_open_means_is_written_down(tmp_path):
    """A target that moves by a share at the pace of copies would stand still."""
    for given, period in (
        ([], 100),
        (["target_update_rate=0.005"], 1),
        (["target_update_rate=0.005", "target_update_period=250"], 250),
        (["target_update_period=7"], 7),
    ):
        run = resolve("dqn", "CartPole-v1", preset=False, overrides=given)
        assert run.agent_params["target_update_period"] == period
        (tmp_path / "config.yaml").write_text(to_yaml(run))
        assert resolve(file=tmp_path) == run
    with pytest.raises(ValueError, match=r"target_update_rate: expected .* received 0.0"):
        resolve("dqn", "CartPole-v1", overrides=["target_update_rate=0"])


def test_each_layer_overrides_the_one_below(tmp_path):
    preset = preset_for("dqn", "CartPole-v1")
    assert flat()["steps"] == preset["steps"]
    file = tmp_path / "my.yaml"
    file.write_text("steps: 111\nseed: 5\nagent_params: {learning_rate: 0.25, batch_size: 7}\n")
    got = flat(file=file)
    assert (got["steps"], got["seed"]) == (111, 5)
    assert (got["agent_params.learning_rate"], got["agent_params.batch_size"]) == (0.25, 7)
    assert got["torso.sizes"] == str(preset["torso"]["sizes"])  # what the file leaves out
    got = flat(file=file, steps=222, overrides=["learning_rate=0.5"])
    assert (got["steps"], got["seed"]) == (222, 5)
    assert (got["agent_params.learning_rate"], got["agent_params.batch_size"]) == (0.5, 7)
    assert flat(steps=222, overrides=["steps=333"])["steps"] == 333


EVERY_OPTION = {
    "steps": 700, "seed": 4, "num_envs": 2, "vector": "async", "loop": "host",
    "env_kwargs": {"sutton_barto_reward": True}, "wrappers": ["FlattenObservation"],
    "max_episode_steps": 30, "on_env_error": "drop", "env_step_timeout": 5.0, "eval_every": 70,
    "eval_episodes": 3, "eval_mode": "explore", "eval_env": "training", "checkpoint_every": 90,
    "checkpoint_minutes": 1.5, "keep_checkpoints": 4, "log_every": 8, "until_return": 9.0,
    "torso": {"name": "dense", "sizes": [8]}, "exploration": "softmax",
    "normalize": {"obs": True}, "frame_stack": 3,
}  # fmt: skip


def test_every_option_goes_every_way_to_the_same_record(tmp_path):
    """A keyword, --set in a mapping or as texts, and a file; at last as the record has it."""
    fields = RunConfig.__dataclass_fields__.keys()
    assert EVERY_OPTION.keys() == fields - {"agent", "env", "agent_params", "transfer"}
    run = resolve("dqn", "CartPole-v1", **EVERY_OPTION)
    texts = [f"{key}={json.dumps(value)}" for key, value in EVERY_OPTION.items()]
    assert resolve("dqn", "CartPole-v1", overrides=EVERY_OPTION) == run
    assert resolve("dqn", "CartPole-v1", overrides=texts) == run
    assert resolve("dqn", "CartPole-v1", hyperparameters=EVERY_OPTION) == run
    (tmp_path / "config.yaml").write_text(to_yaml(run))
    assert resolve(file=tmp_path) == run
    default = resolve("dqn", "CartPole-v1", preset=False)
    assert all(getattr(run, key) != getattr(default, key) for key in EVERY_OPTION.keys() - {"loop"})


def test_the_preset_is_optional():
    assert flat(preset=False)["agent_params.learning_rate"] != flat()["agent_params.learning_rate"]


@pytest.mark.parametrize(
    ("assignment", "key", "value"),
    [
        ("learning_rate=1e-3", "agent_params.learning_rate", 1e-3),
        ("learning_rate=1", "agent_params.learning_rate", 1.0),
        ("batch_size=6.4e1", "agent_params.batch_size", 64),
        ("double_q=true", "agent_params.double_q", True),
        ("loss=squared", "agent_params.loss", "squared"),
        ("eval_every=5000", "eval_every", 5000),
        ("eval_every=0", "eval_every", 0),
        ("vector=async", "vector", "async"),
        ("exploration=softmax", "exploration.name", "softmax"),
        ("exploration.epsilon=0.5", "exploration.epsilon", 0.5),
        ("exploration.epsilon.end=0.01", "exploration.epsilon.end", 0.01),
        ("exploration.epsilon={name: constant, value: 1}", "exploration.epsilon.value", 1.0),
        ("torso=gru", "torso.name", "gru"),
        ("torso.sizes=[8, 9]", "torso.sizes", "[8, 9]"),
        ("torso.activation=tanh", "torso.activation", "tanh"),
        ("env.sutton_barto_reward=true", "env_kwargs.sutton_barto_reward", True),
    ],
)
def test_set(assignment, key, value):
    got = flat(overrides=[assignment])[key]
    assert got == value and type(got) is type(value)


def test_an_encoder_is_completed_like_a_torso(tmp_path):
    run = resolve(
        "reinforce",
        "CartPole-v1",
        torso="lstm",
        overrides=["torso.encoder={name: conv, variant: small}", "torso.encoder.max_pool=true"],
    )
    encoder = run.torso["encoder"]
    assert (encoder["name"], encoder["variant"], encoder["max_pool"]) == ("conv", "small", True)
    assert encoder["activation"] == "relu" and "seed" not in encoder
    torso = make_torso(run.torso, seed=0)
    assert [layer.name for layer in torso.encoder.layers].count("pool_0") == 1


def test_overrides_as_a_mapping():
    got = flat(overrides={"learning_rate": 0.5, "exploration.epsilon": Linear(1.0, 0.5, 10)})
    assert got["agent_params.learning_rate"] == 0.5
    assert got["exploration.epsilon.name"] == "linear" and got["exploration.epsilon.steps"] == 10


def test_another_strategy_takes_nothing_from_the_one_below():
    run = resolve("dqn", "CartPole-v1", exploration="softmax")
    assert run.exploration == {"name": "softmax", "temperature": 1.0}
    run = resolve("dqn", "CartPole-v1", exploration="epsilon_greedy")
    assert run.exploration["epsilon"]["name"] == "linear"  # the preset's own


@pytest.mark.parametrize(
    "given",
    ["softmax", {"name": "softmax", "temperature": 0.5}, Softmax(0.5), Softmax(Linear(2, 1, 9))],
)
def test_a_strategy_may_come_in_any_form(given):
    run = resolve("dqn", "CartPole-v1", exploration=given)
    assert isinstance(make_exploration(run.exploration), Softmax)
    if not isinstance(given, (str, dict)):
        assert make_exploration(run.exploration) == given


def test_objects_of_the_user_are_marked():
    @dataclasses.dataclass(frozen=True)
    class Mine(Exploration):
        pass

    import keras

    class Own(keras.layers.Layer):
        pass

    torso = keras.Sequential([keras.layers.Dense(3), Own()])
    run = resolve("dqn", "CartPole-v1", exploration=Mine(), torso=torso)
    assert run.exploration["name"].startswith("callable:") and "Mine" in run.exploration["name"]
    assert from_yaml(to_yaml(run)) == run
    with pytest.raises(ValueError, match=r"exploration was the Python object .*Mine.*pass it"):
        make_exploration(run.exploration)
    with pytest.raises(ValueError, match=r"torso was the Python object .*Own"):
        make_torso(run.torso)


def test_a_torso_of_keras_own_layers_is_described():
    import keras

    run = resolve("dqn", "CartPole-v1", torso=keras.Sequential([keras.layers.Dense(3)]))
    assert from_yaml(to_yaml(run)) == run
    assert make_torso(run.torso).layers[0].units == 3
    with pytest.raises(ValueError, match=r"Unknown setting torso\.sizes"):
        resolve("dqn", "CartPole-v1", torso=keras.layers.Dense(3), overrides={"torso.sizes": [4]})


def test_dyna_q_takes_the_class_that_fits_the_observations():
    table = resolve("dyna_q", "rlzoo/DynaMaze-v0")
    assert table.torso == {} and make_torso(table.torso) is None
    assert "model_learning_rate" not in table.agent_params
    assert "model_learning_rate" in resolve("dyna_q", "CartPole-v1").agent_params
    with pytest.raises(ValueError, match="takes no torso, received 'lstm'"):
        resolve("dyna_q", "rlzoo/DynaMaze-v0", torso="lstm")


def test_every_preset_resolves():
    found = 0
    for agent, envs in presets().items():
        if agent.startswith("tf_agents."):
            continue  # the bridge's: see tests/interop
        for env in envs:
            run = resolve(agent, env)
            assert make_exploration(run.exploration) is not None
            assert from_yaml(to_yaml(run)) == run
            found += 1
    assert found >= 10


def test_a_callable_environment(tmp_path):
    def make(**kwargs):
        return gymnasium.make("CartPole-v1", **kwargs)

    run = resolve("dqn", make)
    assert run.env.startswith("callable:") and "make" in run.env
    (tmp_path / "config.yaml").write_text(to_yaml(run))
    with pytest.raises(ValueError, match=r"was the Python callable .* pass it from Python"):
        load_run(tmp_path)
    assert load_run(tmp_path, env=make) == run


def test_what_is_of_the_environment():
    given = ["env.size=3", "env.max_episode_steps=20", "env.at.x=1"]
    found = env_settings(given, max_episode_steps=9)
    assert found == {"env_kwargs": {"size": 3, "at": {"x": 1}}, "max_episode_steps": 20}
    assert env_settings(["max_episode_steps=7"])["max_episode_steps"] == 7
    for text in ("torso.sizes=[8]", "steps=3"):
        with pytest.raises(ValueError, match=r"--set: expected what the environment takes"):
            env_settings([text])


# Mistakes.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"overrides": ["learning_rte=1"]}, r"learning_rte.*Did you mean 'learning_rate'"),
        ({"overrides": ["eval_evry=1"]}, r"eval_evry.*'eval_every'"),
        ({"overrides": ["explortion.epsilon=1"]}, r"explortion.epsilon.*'exploration\.'"),
        ({"overrides": ["exploration.epsilom=1"]}, r"epsilom.*'exploration.epsilon'"),
        ({"overrides": ["exploration.epsilon.ennd=1"]}, r"ennd.*'exploration.epsilon.end'"),
        ({"overrides": ["torso.size=[1]"]}, r"torso.size\b.*'torso.sizes'"),
        (
            {"overrides": ["learning_rate=abc"]},
            r"learning_rate: expected a float or .*received 'abc'",
        ),
        (
            {"overrides": ["learning_rate=true"]},
            r"learning_rate: expected a float or .*received True",
        ),
        (
            {"overrides": ["learning_rate=.nan"]},
            r"learning_rate: expected a float or .*received nan",
        ),
        ({"overrides": ["batch_size=1.5"]}, r"batch_size: expected a whole number, received 1.5"),
        ({"overrides": ["double_q=1"]}, r"double_q: expected true or false, received 1"),
        ({"overrides": ["loss=hubr"]}, r"loss: expected 'huber' or 'squared', received 'hubr'"),
        (
            {"overrides": ["torso.sizes=[a]"]},
            r"torso.sizes: expected a list like .*received \['a'\]",
        ),
        ({"overrides": ["exploration.epsilon=x"]}, r"expected a float or a schedule like"),
        ({"overrides": ["exploration.epsilon={name: linar}"]}, r"linar.*Did you mean 'linear'"),
        ({"overrides": ["exploration.epsilon=2"]}, r"epsilon in \[0.0, 1.0\], received 2"),
        ({"overrides": ["learning_rate"]}, r"expected key=value, received 'learning_rate'"),
        ({"overrides": ["=3"]}, r"expected key=value"),
        ({"overrides": ["agent=reinforce"]}, r"Unknown setting agent"),
        ({"overrides": ["seed=[1"]}, r"--set seed is no plain YAML"),
        ({"exploration": "sofmax"}, r"Unknown exploration 'sofmax'. Did you mean 'softmax'"),
        ({"exploration": 3}, r"exploration: expected a name, .*received 3"),
        (
            {"torso": "lstm", "overrides": ["torso.encoder={name: cov}"]},
            r"Unknown torso.encoder 'cov'. Did you mean 'conv'",
        ),
        (
            {"torso": "lstm", "overrides": ["torso.encoder={name: conv, maxpool: true}"]},
            r"torso.encoder.maxpool\b.*'torso.encoder.max_pool'",
        ),
        (
            {"torso": "gru", "overrides": ["torso.encoder={name: conv, max_pool: 3}"]},
            "torso.encoder.max_pool: expected true or false, received 3",
        ),
        (
            {"torso": "gru", "overrides": ["torso.encoder={name: gru}"]},
            "Unknown torso.encoder 'gru'.*Known: conv, dense",
        ),
        (
            {"torso": "gru", "overrides": ["torso.encoder=conv"]},
            "torso.encoder: expected a list like .* or a mapping",
        ),
        ({"torso": "dens"}, r"Unknown torso 'dens'. Did you mean 'dense'"),
        ({"steps": 0}, r"steps: expected 1 to"),
        ({"steps": "many"}, r"steps: expected a whole number, received 'many'"),
        ({"seed": -1}, r"seed: expected 0 to"),
        ({"num_envs": 0}, r"num_envs: expected 1 to 65536, received 0"),
        ({"vector": "asinc"}, r"vector: expected 'sync' or 'async', received 'asinc'"),
        ({"loop": "graph", "vector": "async"}, r"processes, .*: use --loop host, or .*vector=sync"),
        ({"loop": "fast"}, r"loop: expected 'auto' or 'host' or 'graph', received 'fast'"),
        ({"file": "no/such.yaml"}, r"There is no file no/such.yaml"),
    ],
    ids=str,
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(ValueError) as caught:
        resolve("dqn", "CartPole-v1", **changes)
    assert re.search(message, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_actions_that_an_agent_does_not_take():
    cure = "{name: DiscretizeAction, bins: 5}"
    with pytest.raises(ValueError, match=f"Box ones. .*--wrapper '{re.escape(cure)}', or .*sac"):
        resolve("dqn", "Pendulum-v1")
    assert resolve("dqn", "Pendulum-v1", wrappers=[cure], loop="host").agent == "dqn"


@pytest.fixture
def portless():
    gymnasium.register("tests/Chain-v0", ChainEnv)
    yield "tests/Chain-v0"
    gymnasium.registry.pop("tests/Chain-v0")


@pytest.mark.parametrize(
    ("env", "loop"),
    [
        ("CartPole-v1", "graph"),
        ("rlzoo/DynaMaze-v0", "graph"),
        ("tests/Chain-v0", "host"),
        (lambda: gymnasium.make("CartPole-v1"), "host"),  # it may be anything
    ],
)
def test_auto_takes_the_graph_loop_where_it_can(env, loop, portless):
    assert resolve("dqn", env).loop == loop
    assert resolve("dqn", env, vector="async").loop == "host"
    assert resolve("dqn", env, loop="host").loop == "host"


def test_the_graph_loop_is_refused_where_there_is_no_port(portless):
    with pytest.raises(ValueError, match=r"tests/Chain-v0 has no port .*use --loop host\. Ports: "):
        resolve("dqn", portless, loop="graph")

    def wrapped():
        return gymnasium.wrappers.TransformReward(gymnasium.make("CartPole-v1"), lambda r: -r)

    with pytest.raises(ValueError, match=r"wrapped in TransformReward.*use --loop host"):
        resolve("dqn", wrapped, loop="graph")
    assert resolve("dqn", lambda: gymnasium.make("CartPole-v1"), loop="graph").loop == "graph"


def test_unknown_agents_and_missing_names():
    with pytest.raises(ValueError, match=r"Unknown agent 'dqnn'. Did you mean 'dqn'"):
        resolve("dqnn", "CartPole-v1")
    with pytest.raises(ValueError, match="An environment is missing"):
        resolve("dqn")
    with pytest.raises(ValueError, match="An agent is missing"):
        resolve(env="CartPole-v1")


def test_env_kwargs_are_plain_values():
    with pytest.raises(ValueError, match=r"env_kwargs.hook: expected plain values"):
        resolve("dqn", "CartPole-v1", overrides={"env.hook": print})
    with pytest.raises(ValueError, match=r"env_kwargs.a\[1\]"):
        RunConfig("dqn", "CartPole-v1", env_kwargs={"a": [1, {2}]})


# Files.


def test_a_written_configuration_repeats_the_run(tmp_path):
    run = resolve("reinforce", "CartPole-v1", seed=3, exploration=Softmax(Linear(2.0, 1.0, 50)))
    (tmp_path / "config.yaml").write_text(to_yaml(run))
    assert resolve(file=tmp_path) == resolve(file=tmp_path / "config.yaml") == run
    assert load_run(tmp_path) == run
    assert yaml.safe_load(to_yaml(run))["agent"] == "reinforce"
    json.dumps(flatten(dataclasses.asdict(run)))


def test_a_file_for_another_environment_and_agent(tmp_path):
    (tmp_path / "config.yaml").write_text(
        to_yaml(resolve("dqn", "CartPole-v1", overrides=["env.sutton_barto_reward=true"]))
    )
    run = resolve(env="Acrobot-v1", file=tmp_path)
    assert run.env == "Acrobot-v1" and run.env_kwargs == {}
    with pytest.raises(ValueError, match="configures the agent 'dqn', received 'reinforce'"):
        resolve("reinforce", file=tmp_path)


def test_a_run_needs_its_whole_configuration():
    with pytest.raises(ValueError, match="no 'env'"):
        from_yaml("agent: dqn\n")
    with pytest.raises(ValueError, match=r"unknown setting 'stps'. Did you mean 'steps'"):
        from_yaml("agent: dqn\nenv: CartPole-v1\nstps: 3\n")


# A Python file that leaves a mark when it is imported, called "trap".
HOSTILE = {
    "python_object": "!!python/object/apply:os.system ['touch {mark}']",
    "python_new": "!!python/object/new:os.system ['touch {mark}']",
    "python_name": "agent: !!python/name:trap.run",
    "python_module": "agent: !!python/module:trap",
    "python_tuple": "torso: !!python/tuple [1]",
    "python_object_state": "!!python/object:trap.Trap {{state: 1}}",
    "custom_tag": "agent: !trap dqn",
    "tag_directive": "%TAG !y! tag:yaml.org,2002:python/\n---\n!y!module:trap ''",
    "verbatim_tag": "agent: !<tag:yaml.org,2002:python/module:trap> ''",
    "nested_tag": "exploration: {{name: softmax, temperature: !!python/name:trap.run ''}}",
    "module_env": "env: trap:Env-v0",
    "module_env_dotted": "env: os.trap:CartPole-v1",
    "entry_point": "env: 'trap:run'",
    "callable_env": "env: callable:trap.run",
    "env_through_kwargs": "env: GymV26Environment-v0\nenv_kwargs: {{env_id: 'trap:Env-v0'}}",
    "deep_env_kwargs": "env: CartPole-v1\nenv_kwargs: {{a: [{{b: 'trap:Env'}}]}}",
    "strategy_by_module": "exploration: {{name: trap.Trap}}",
    "strategy_callable": "exploration: {{name: callable:trap.Trap}}",
    "torso_by_module": "torso: {{name: trap:run}}",
    "torso_lambda": "torso: {{name: dense, activation: 'lambda x: __import__(\"trap\")'}}",
    "agent_path": "agent: ../../trap",
    "agent_module": "agent: trap",
    "eval_in_number": "steps: __import__('trap').run()",
    "eval_in_list": "torso: {{name: dense, sizes: ['__import__(\"trap\")']}}",
    "schedule_by_module": "exploration: {{name: epsilon_greedy, epsilon: {{name: trap.run}}}}",
    "dunder_key": "__class__: trap",
    "dunder_param": "agent_params: {{__class__: trap, __init__: run}}",
    "billion_laughs": "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nsteps: *c",
    "recursive_alias": "agent_params: &a {{learning_rate: *a}}",
    "merge_key": "base: &b {{steps: 3}}\n<<: *b",
    "deep_nesting": "agent_params: " + "[" * 20_000,
    "huge": "agent_params: {{x: '" + "y" * 200_000 + "'}}",
    "two_documents": "agent: dqn\n---\n!!python/module:trap ''",
    "duplicate_key": "env: CartPole-v1\nenv: trap:Env-v0",
    "huge_number": "steps: " + "9" * 5_000,
    "not_a_mapping": "- trap",
    "binary": "agent: !!binary dHJhcA==",
    "null_byte": "agent: dqn\0trap",
}


@pytest.mark.parametrize("payload", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_executes_nothing(payload, tmp_path, monkeypatch):
    mark = tmp_path / "executed"
    (tmp_path / "trap.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
        "class Trap: pass\ndef run(*args): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    text = payload.format(mark=mark)
    lines = [line for line in ("agent: dqn", "env: CartPole-v1") if line.split(":")[0] not in text]
    if not text.startswith(("!", "%", "-")):
        text = "\n".join([*lines, text])
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(text)
    with pytest.raises(ValueError) as caught:
        build(resolve(file=run))
    assert len(str(caught.value)) < 2_000
    with pytest.raises(ValueError):
        build(load_run(run))
    assert not mark.exists()


def build(run):
    """What a run makes of its configuration."""
    make_exploration(run.exploration)
    torso = make_torso(run.torso)
    torso.build((1, 4))


def test_an_imported_environment_must_be_named_by_the_caller(tmp_path):
    text = to_yaml(RunConfig("dqn", "trap:Env-v0"))
    given = re.escape("--env trap:Env-v0 (in Python: env='trap:Env-v0').")
    with pytest.raises(ValueError, match=f"would import a module.* as well: {given}"):
        from_yaml(text)
    assert from_yaml(text, env="trap:Env-v0").env == "trap:Env-v0"
    text = text.replace("wrappers: []", "wrappers: [{name: 'trap:Own'}]")
    (tmp_path / "config.yaml").write_text(text)
    given = "dqn trap:Env-v0 --wrapper trap:Own"
    with pytest.raises(ValueError, match=f"as well: train {given}"):
        resolve(file=tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_configuration_is_a_small_regular_file(tmp_path):
    os.mkfifo(tmp_path / "config.yaml")
    with pytest.raises(ValueError, match="found a pipe or device"):
        load_run(tmp_path)
    (tmp_path / "big.yaml").write_bytes(b"a" * 200_000)
    with pytest.raises(ValueError, match="expected at most 100,000 bytes"):
        resolve(file=tmp_path / "big.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"agent: \xff")
    with pytest.raises(ValueError, match="expected UTF-8 text"):
        resolve(file=tmp_path / "latin.yaml")


# YAML and types.


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("50_000", 50_000),
        ("010", 10),
        ("-3", -3),
        ("1:30", "1:30"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("~", None),
        ("", None),
        (".inf", float("inf")),
        ("2020-01-01", "2020-01-01"),
        ("[64, 64]", [64, 64]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_yaml_is_the_core_schema(text, value):
    got = load_yaml(text, "text")
    assert got == value and isinstance(got, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    ("value", "hint", "want"),
    [
        (1, float, 1.0),
        (2.0, int, 2),
        ([1, 2], tuple[int, ...], (1, 2)),
        ([1, 2.0], tuple[float, float], (1.0, 2.0)),
        (None, int | None, None),
        (3, int | None, 3),
        ("x", str | int, "x"),
    ],
)
def test_types_are_converted(value, hint, want):
    got = typed(value, hint, "x")
    assert got == want and type(got) is type(want)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (True, int),
        (1, bool),
        ("1", int),
        (1.5, int),
        (None, int),
        (10**400, float),
        ([1], tuple[int, int]),
        (["a"], tuple[int, ...]),
        ("ab", tuple[str, ...]),
        ({"a": 1}, float),
    ],
)
def test_other_types_are_refused(value, hint):
    with pytest.raises(ValueError, match="x: expected "):
        typed(value, hint, "x")


def test_fill_needs_what_has_no_default():
    def function(a: int, b: float = 1.0, seed: int = 3):
        return a, b, seed

    assert fill(function, {"a": 2}) == {"a": 2, "b": 1.0}
    with pytest.raises(ValueError, match="a is missing; expected a whole number"):
        fill(function, {})
    with pytest.raises(ValueError, match="Unknown setting seed"):
        fill(function, {"a": 1, "seed": 4})


# Keywords of Python.


def test_hyperparameters_are_keywords_too():
    given = {"learning_rate": 0.25, "batch_size": 32, "eval_every": 77, "double_q": None}
    got = flat(hyperparameters=given, overrides={"torso.sizes": [8]})
    assert (got["agent_params.learning_rate"], got["agent_params.batch_size"]) == (0.25, 32)
    assert got["eval_every"] == got["checkpoint_every"] == 77
    assert got["agent_params.double_q"] == flat()["agent_params.double_q"]  # None: left as it is
    frozen = resolve("dyna_q", "FrozenLake-v1", hyperparameters={"env_kwargs": {"map_name": "8x8"}})
    assert frozen.env_kwargs == {"map_name": "8x8"}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"lr": 1e-3}, "Unknown setting lr. It is called 'learning_rate' here."),
        ({"total_timesteps": 10}, "Unknown setting total_timesteps. It is called 'steps' here."),
        ({"n_envs": 2}, "Unknown setting n_envs. It is called 'num_envs' here."),
        ({"buffer_size": 10}, "It is called 'replay_capacity' here."),
        ({"hidden": [8]}, "It is called 'torso.sizes' here."),
        ({"epsilon": 0.1}, "It is called 'exploration.epsilon' here."),
        ({"learning_rte": 1e-3}, "Did you mean 'learning_rate'"),
        ({"file": "x.yaml"}, "Unknown setting file."),
        (
            {"learning_rate": "fast"},
            "learning_rate: expected a float or a schedule like {name: linear, start: 1.0, "
            "end: 0.05, steps: 10000}, received 'fast'.",
        ),
        (
            {"learning_rate": 1e-3, "overrides": ["learning_rate=1"]},
            "learning_rate: given both as a keyword and in overrides. Leave one out.",
        ),
        (
            {"eval_every": 10, "overrides": {"eval_every": 10}},
            "eval_every: given both as a keyword and in overrides. Leave one out.",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_wrong_keywords_are_named(keywords, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)):
        rlzoo.train("dqn", "CartPole-v1", run_dir=tmp_path / "run", **keywords)
    with pytest.raises(ValueError, match=re.escape(message)):
        rlzoo.train_seeds("dqn", "CartPole-v1", seeds=[0], run_dir=tmp_path / "run", **keywords)
    assert list(tmp_path.iterdir()) == []


# Time limits.


def test_a_time_limit_has_one_path():
    """`gymnasium.make`'s keyword is the same setting, and the highest layer decides."""
    assert resolve("dyna_q", "CliffWalking-v1").max_episode_steps == 500  # the preset's
    for how in ({"max_episode_steps": 70}, {"overrides": ["env.max_episode_steps=70"]}):
        run = resolve("dyna_q", "CliffWalking-v1", **how)
        assert (run.max_episode_steps, run.env_kwargs) == (70, {})
    assert resolve("dqn", "CartPole-v1").max_episode_steps == 0
    with pytest.raises(ValueError, match="max_episode_steps: expected 0 to"):
        resolve("dqn", "CartPole-v1", max_episode_steps=-1)


def test_whole_episodes_without_a_limit_are_given_one_in_a_line():
    with pytest.warns(UserWarning, match="states no time limit.*1,000 steps.*--max-episode-steps"):
        run = resolve("reinforce", "CliffWalking-v1")
    assert (run.max_episode_steps, run.loop) == (1_000, "graph")
    env = functools.partial(ChainEnv, time_limit=5, end="truncate")  # a callable that ends itself
    with pytest.warns(UserWarning, match="1,000 steps"):
        assert resolve("reinforce", env).max_episode_steps == 1_000
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert resolve("reinforce", env, max_episode_steps=9).max_episode_steps == 9
        assert resolve("reinforce", "CartPole-v1").max_episode_steps == 0
        assert resolve("dqn", env).max_episode_steps == 0  # which needs none
