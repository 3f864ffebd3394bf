"""Transfer: a run's torso read back, and put to work in an agent, frozen, thawed or slowed."""

import dataclasses
import shutil
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml

import rlzoo
from rlzoo import networks
from rlzoo.config.files import load_run, to_yaml
from rlzoo.config.resolve import resolve
from rlzoo.envs import make_envs
from rlzoo.runs.build import Source, build_agent
from rlzoo.spaces import Box, Discrete, EnvSpec
from rlzoo.storage import checkpoint
from tests.env_doubles import ChainEnv
from tests.runs.killed_runs import final_arrays

CARTPOLE = {"env": "CartPole-v1", "steps": 40, "torso.sizes": [8, 8], "epochs": 1}
QUICK = {
    "learning_starts": 8,
    "batch_size": 8,
    "replay_capacity": 200,
    "train_every": 4,
    "eval_every": 0,
    "eval_episodes": 1,
    "checkpoint_every": 20,
}


def pretrained(task, folder, **overrides):
    run_dir = folder / "run"
    return rlzoo.pretrain(task, overrides=overrides, run_dir=run_dir, seed=3, quiet=True)


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    return pretrained("predict", tmp_path_factory.mktemp("dense"), **CARTPOLE)


@pytest.fixture(scope="module")
def discrete(tmp_path_factory):
    settings = {**CARTPOLE, "env": "rlzoo/DynaMaze-v0"}
    return pretrained("reconstruct", tmp_path_factory.mktemp("discrete"), **settings)


@pytest.fixture(scope="module")
def lstm(tmp_path_factory):
    """An LSTM behind an encoder, on sequences of observations [5]."""
    return pretrained(
        "recall", tmp_path_factory.mktemp("lstm"), delay=1, num_symbols=4, examples=16, epochs=1,
        torso={"name": "lstm", "units": 3, "encoder": [6]},
    )  # fmt: skip


# --- reading ---


def features_of(run, inputs):
    """Returns what enters the head of a pretrained model."""
    model = run.model
    head = model.layers[-1]
    features = head.input[0] if isinstance(head.input, list) else head.input
    return keras.Model(model.input, features)(inputs).numpy()


def test_a_dense_torso_computes_what_the_model_does(dense):
    inputs = {"obs": np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)}
    inputs["action"] = np.zeros(5, np.int32)
    found = rlzoo.load_torso(dense.dir)(inputs["obs"]).numpy()
    assert np.array_equal(found, features_of(dense, inputs))
    assert found.shape == (5, 8) and found.any()


def test_a_conv_torso_reads_bytes_as_fractions(digits_run):
    images = np.random.default_rng(0).integers(256, size=(3, 28, 28)).astype(np.uint8)
    found = rlzoo.load_torso(digits_run.dir)(images.astype(np.float32) / 255).numpy()
    expected = features_of(digits_run, {"obs": images})  # augmentation is for training only
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.any()


def test_a_torso_over_discrete_observations_reads_them_one_hot(discrete):
    size = discrete.model.get_layer("preprocess").space.n
    found = rlzoo.load_torso(discrete.dir)(np.eye(size, dtype=np.float32)).numpy()
    assert np.array_equal(found, features_of(discrete, {"obs": np.arange(size)}))


def test_a_recurrent_torso_walks_as_the_model_does(lstm):
    obs = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    cell = rlzoo.load_torso(lstm.dir)
    state = cell.get_initial_state(2)
    features = None
    for t in range(3):
        features, state = cell(obs[:, t], state)
    np.testing.assert_allclose(features, features_of(lstm, {"obs": obs}), rtol=1e-5, atol=1e-6)


def test_the_torso_of_an_agents_run(run):
    torso = rlzoo.load_torso(run.dir)
    best = checkpoint.load(run.dir / "checkpoints", best=True, only="actor/")[0]
    for name, weight in networks.named_variables(torso).items():
        assert np.array_equal(weight, best[f"actor/torso/{name}"])
    assert torso(np.ones((1, 4), np.float32)).shape == (1, 16)


def test_the_torso_of_an_agents_run_with_memory(tmp_path):
    """Its cell has a seed among its variables, before those of the encoder."""
    overrides = {"torso.units": 3, "torso.encoder": [6], "eval_every": 0, "eval_episodes": 1}
    overrides |= {"baseline": False}
    run = rlzoo.train(
        "reinforce", "rlzoo/Memory-v0", torso="lstm", steps=1, run_dir=tmp_path, quiet=True,
        loop="host", preset=False, overrides={**overrides, "env.delay": 1},
    )  # fmt: skip
    torso = rlzoo.load_torso(tmp_path)
    ours = run.agent.actor.network.layers
    trained = next(layer for layer in ours if networks.is_recurrent(layer))
    for found, expected in zip(torso.get_weights(), trained.get_weights(), strict=True):
        assert np.array_equal(found, expected)


def test_a_folder_without_a_torso(tmp_path):
    with pytest.raises(ValueError, match="is no folder of a run that has saved a checkpoint"):
        rlzoo.load_torso(tmp_path)
    rlzoo.train(
        "dyna_q", partial(ChainEnv, num_states=3), steps=4, run_dir=tmp_path / "table", quiet=True,
        preset=False, overrides={"eval_episodes": 1},
    )  # fmt: skip
    with pytest.raises(ValueError, match="has no torso that a file describes"):
        rlzoo.load_torso(tmp_path / "table")


# --- putting it to work ---


def built(agent, env: str | None = "CartPole-v1", **kwargs):
    """Returns the agent of a new run, as it is before its first step."""
    config = resolve(agent, env, preset=False, **kwargs)
    envs = make_envs(config.env, 1, 0, env_kwargs=config.env_kwargs)
    envs.close()
    return build_agent(config, envs.spec, Source(env=config.env), fresh=True)


def torso_of(network):
    """Returns the layer before the head."""
    return next(x for x in network.layers if x.name.endswith("_torso"))


def check_weights(layer, arrays) -> None:
    for found, expected in zip(layer.get_weights(), arrays, strict=True):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("agent", ["dqn", "reinforce", "dyna_q"])
def test_every_agent_starts_from_a_runs_weights(agent, dense):
    expected = dense.torso.get_weights()
    made = built(agent, torso_from=dense.dir)
    inner = getattr(made, "dqn", made)  # deep Dyna-Q has one
    other = made.value_network if agent == "reinforce" else inner.target.network
    found = [made.actor.network, other]
    for network in found:
        check_weights(torso_of(network), expected)
    own = built(agent, overrides={"torso.sizes": [8, 8]})
    assert not np.array_equal(torso_of(own.actor.network).get_weights()[0], expected[0])
    heads = [x.actor.network.layers[-1].get_weights()[0] for x in (made, own)]
    assert np.array_equal(*heads)


def test_a_conv_torso_in_an_agent(digits_run):
    made = built("dqn", "rlzoo/DigitBandit-v0", torso_from=digits_run.dir, freeze=True)
    check_weights(torso_of(made.actor.network), digits_run.torso.get_weights())


def test_a_conv_torso_before_a_memory(digits_run):
    made, other = (
        built(
            agent, "rlzoo/DigitBandit-v0", torso_from=digits_run.dir, torso="lstm", freeze=True,
            overrides={"torso.units": 5},
        )
        for agent in ("reinforce", "dqn")
    )  # fmt: skip
    for network in (
        made.actor.network,
        made.value_network,
        other.actor.network,
        other.target.network,
    ):
        torso = torso_of(network)
        assert networks.is_recurrent(torso) and torso.cell.units == 5
        check_weights(torso.encoder, digits_run.torso.get_weights())
        if network is not other.target.network:  # no gradient goes there anyway
            assert not torso.encoder.trainable_weights and torso.cell.trainable_weights


def test_a_memory_in_an_agent(lstm):
    made = built(
        "reinforce", "rlzoo/Memory-v0", torso_from=lstm.dir,
        overrides={"env.num_cues": 4, "env.delay": 1},
    )  # fmt: skip
    for network in (made.actor.network, made.value_network):
        check_weights(torso_of(network), lstm.torso.get_weights())


def test_a_discrete_torso_in_an_agent(discrete):
    made = built("dqn", "rlzoo/DynaMaze-v0", torso_from=discrete.dir)
    check_weights(torso_of(made.actor.network), discrete.torso.get_weights())


@pytest.mark.parametrize(
    ("agent", "env", "run", "kwargs", "message"),
    [
        ("dqn", "Acrobot-v1", "dense", {}, r"it reads numbers \[4\], and .* shows numbers \[6\]"),
        ("dqn", "rlzoo/DynaMaze-v0", "dense", {}, r"it reads numbers \[4\].*Discrete\(54\)"),
        ("dqn", "CartPole-v1", "discrete", {}, r"reads Discrete\(54\).*numbers \[4\]"),
        ("dqn", "rlzoo/DigitBandit-v0", "dense", {}, r"numbers \[4\].*pixels \[28, 28\]"),
        ("dqn", "CartPole-v1", "digits_run", {}, r"reads pixels \[28, 28\].*shows numbers \[4\]"),
        (
            "dqn",
            "CartPole-v1",
            "digits_run",
            {"torso": "lstm"},
            r"reads pixels \[28, 28\].*shows numbers \[4\]",
        ),
        (
            "dqn",
            "CartPole-v1",
            "dense",
            {"overrides": {"torso.sizes": [9, 8]}},
            r"\(4, 8\) \(8,\) \(8, 8\) \(8,\), .*\(4, 9\) \(9,\) \(9, 8\) \(8,\)",
        ),
        ("dqn", "CartPole-v1", "dense", {"torso": "conv"}, "is 'dense', received torso 'conv'"),
        ("reinforce", "CartPole-v1", "lstm", {"torso": "dense"}, "'lstm', received torso 'dense'"),
        ("dyna_q", "rlzoo/Memory-v0", "lstm", {}, "dyna_q cannot use a recurrent torso"),
        ("dyna_q", "rlzoo/DynaMaze-v0", "discrete", {}, "keeps a table"),
        ("dqn", "CartPole-v1", None, {"freeze": True}, "name its run too: --torso-from RUN"),
        (
            "dqn",
            "CartPole-v1",
            None,
            {"torso_lr_scale": 0.1},
            "torso_lr_scale say how .*--torso-from",
        ),
        (
            "dqn",
            "CartPole-v1",
            "dense",
            {"freeze": True, "unfreeze_after": 3},
            "freeze: leave out unfreeze_after",
        ),
        (
            "dqn",
            "CartPole-v1",
            "dense",
            {"torso_lr_scale": 0.0, "unfreeze_after": 3},
            "would stay frozen",
        ),
        ("dqn", "CartPole-v1", "dense", {"torso_lr_scale": -1.0}, "expected 0 to 1000"),
        ("dqn", "CartPole-v1", "dense", {"unfreeze_after": -1}, "expected 0 or more"),
        ("dqn", "CartPole-v1", "nowhere", {}, "is no folder of a run"),
    ],
)
def test_what_does_not_fit(agent, env, run, kwargs, message, request, tmp_path):
    if run == "nowhere":
        kwargs = {**kwargs, "torso_from": tmp_path / "nowhere"}
    elif run:
        kwargs = {**kwargs, "torso_from": request.getfixturevalue(run).dir}
    if env == "rlzoo/Memory-v0":
        kwargs = {**kwargs, "overrides": {"env.num_cues": 4}}
    with pytest.raises(ValueError, match=message) as caught:
        built(agent, env, **kwargs)
    assert "\n" not in str(caught.value)


def test_a_part_of_the_torso_may_be_given(dense):
    config = resolve("dqn", "CartPole-v1", torso_from=dense.dir, torso={"activation": "tanh"})
    assert config.torso["sizes"] == [8, 8] and config.torso["activation"] == "tanh"


# --- frozen, thawed, slowed ---


def train(agent, run_dir, dense, steps=60, **kwargs):
    settings = {"env": "CartPole-v1", "loop": "host", "seed": 5, "overrides": QUICK, **kwargs}
    if dense is not None:
        settings["torso_from"] = dense.dir
    return rlzoo.train(agent, steps=steps, run_dir=run_dir, preset=False, quiet=True, **settings)


def test_frozen_weights_stay_and_cost_no_slots(dense, tmp_path):
    run = train("dqn", tmp_path, dense, freeze=True)
    agent = run.agent
    check_weights(torso_of(agent.actor.network), dense.torso.get_weights())
    head = built("dqn", torso_from=dense.dir, freeze=True, seed=5).actor.network.layers[-1]
    assert not np.array_equal(
        agent.actor.network.layers[-1].get_weights()[0], head.get_weights()[0]
    )
    slots = [v for v in agent.trainer.optimizer.variables if len(v.shape)]
    assert len(slots) == 2 * len(agent.actor.network.layers[-1].weights)
    check_weights(rlzoo.load_torso(tmp_path), dense.torso.get_weights())


@pytest.mark.parametrize(
    ("loop", "stops"), [("host", []), pytest.param("graph", [44], marks=pytest.mark.slow)]
)
def test_thawed_weights_wait_then_learn(loop, stops, dense, tmp_path):
    """And a run stopped before they thaw, or after, ends as one that was not.

    Its checkpoints are all it needs: the folder that the torso came from may be gone.
    """
    whole = train("dqn", tmp_path / "whole", dense, loop=loop, unfreeze_after=32)
    final = torso_of(whole.agent.actor.network).get_weights()
    for after, before in zip(final, dense.torso.get_weights(), strict=True):
        assert not np.array_equal(after, before)

    source, run_dir = tmp_path / "source", tmp_path / "run"
    shutil.copytree(dense.dir, source)
    waiting = train("dqn", run_dir, None, steps=28, loop=loop, torso_from=source, unfreeze_after=32)
    check_weights(torso_of(waiting.agent.actor.network), dense.torso.get_weights())
    shutil.rmtree(source)
    assert rlzoo.load(run_dir) is not None
    for steps in (*stops, 60):
        rlzoo.resume(run_dir, steps=steps, quiet=True)
    found, expected = final_arrays(run_dir), final_arrays(whole.dir)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes(), name

    with pytest.raises(ValueError, match="is no folder of a run"):
        rlzoo.train(config=run_dir, run_dir=tmp_path / "again", quiet=True)
    assert not (tmp_path / "again").exists()
    config = yaml.safe_load((whole.dir / "config.yaml").read_text())
    transfer = {"run": str(dense.dir), "part": "torso", "lr_scale": 1.0, "unfreeze_after": 32}
    assert config["transfer"] == transfer
    assert resolve(file=whole.dir) == whole.config == load_run(whole.dir)
    check_weights(
        torso_of(built(None, None, file=whole.dir).actor.network), dense.torso.get_weights()
    )


def test_reinforce_slows_its_policy_and_its_baseline(dense):
    agent = built("reinforce", torso_from=dense.dir, torso_lr_scale=0.25)
    for network in (agent.actor.network, agent.value_network):
        scales = {float(w.lr_scale) for w in torso_of(network).weights}
        assert scales == {0.25}
        assert not any(hasattr(w, "lr_scale") for w in network.layers[-1].weights)
    thawing = built("reinforce", torso_from=dense.dir, unfreeze_after=10)
    rate = networks.changing_rate(thawing.actor.variables().values())
    assert rate is networks.changing_rate(thawing.value_network.variables) and float(rate) == 0.0


def one_step(scale, obs, changes=False):
    """Returns how far one step of Adam moves the torso and the head, and the network."""
    spec = EnvSpec(Box((3,)), Discrete(2), None)
    torso = networks.dense((4,), activation="tanh", seed=1)
    networks.build_torso(torso, spec.obs)
    rate = tf.Variable(scale) if changes else scale
    networks.scale_learning_rate(torso, rate)
    network = networks.build_network(spec, torso, networks.q_values(2, seed=2))
    before = network.get_weights()
    trainer = networks.Trainable(network, 0.01, 10.0)

    @tf.function(jit_compile=True)
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(network(obs) - 1.0))
        trainer.descend(tape, loss)

    step()
    moved = [after - old for after, old in zip(network.get_weights(), before, strict=True)]
    return moved[:2], moved[2:]


def test_a_scaled_step_is_so_much_of_a_step():
    obs = tf.constant(np.random.default_rng(0).normal(size=(6, 3)), tf.float32)
    torso, head = one_step(1.0, obs)
    assert max(np.abs(x).max() for x in torso) == pytest.approx(0.01, rel=1e-3)  # Adam's first step
    for scale, changes in ((0.1, False), (3.0, False), (0.1, True), (0.0, False), (0.0, True)):
        slowed, same = one_step(scale, obs, changes)
        for found, expected in zip(slowed, torso, strict=True):
            np.testing.assert_allclose(found, scale * expected, atol=2e-7)
        for found, expected in zip(same, head, strict=True):
            np.testing.assert_allclose(found, expected, atol=2e-7)


@pytest.mark.slow
def test_several_seeds_start_from_one_torso(dense, tmp_path):
    result = rlzoo.train_seeds(
        "dqn", "CartPole-v1", seeds=[0, 1], torso_from=dense.dir, freeze=True, steps=30,
        run_dir=tmp_path / "runs", quiet=True, preset=False, loop="host", overrides=QUICK,
    )  # fmt: skip
    assert [run["seed"] for run in result["runs"]] == [0, 1]
    for seed in (0, 1):
        check_weights(rlzoo.load_torso(tmp_path / "runs" / f"s{seed}"), dense.torso.get_weights())


def test_a_torso_of_keras_own_layers_need_not_be_passed_again(tmp_path):
    torso = keras.Sequential([keras.layers.Dense(6, "tanh"), keras.layers.BatchNormalization()])
    settings = {"loop": "host", "preset": False, "quiet": True, "overrides": QUICK}
    run = rlzoo.train(
        "dqn", "CartPole-v1", steps=40, torso=torso, run_dir=tmp_path / "a", **settings
    )
    policy = rlzoo.load(run.dir, last=True)
    check_weights(policy.network, run.agent.actor.network.get_weights())
    check_weights(rlzoo.load_torso(run.dir), rlzoo.load(run.dir).network.layers[2].get_weights())
    assert not torso.built, "what is given stays as it is"
    assert rlzoo.resume(run.dir, steps=60, quiet=True).summary["steps"] >= 60

    used = dataclasses.replace(run.config, steps=40)
    (tmp_path / "c.yaml").write_text(to_yaml(used))
    again = rlzoo.train(config=tmp_path / "c.yaml", run_dir=tmp_path / "b", quiet=True)
    check_weights(again.agent.actor.network, policy.network.get_weights())

    networks.build_torso(torso, run.agent.spec.obs)  # from now on it has weights of its own
    used = resolve("dqn", "CartPole-v1", torso=torso, steps=40, loop="host")
    (tmp_path / "c.yaml").write_text(to_yaml(used))
    with pytest.raises(ValueError, match=r"began with weights of its own.*pass it again"):
        rlzoo.train(config=tmp_path / "c.yaml", run_dir=tmp_path / "d", quiet=True)
