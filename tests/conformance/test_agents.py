"""What every agent in `AGENTS` promises, on every kind of observation, with every strategy.

Being in the table puts an agent under these tests. The quick ones pair each kind of observation
with one strategy, so that every agent meets them all; the slow ones are the rest of the matrix.
"""

import dataclasses
import itertools
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from gymnasium.wrappers import TimeLimit

from rlzoo import exploration
from rlzoo.agents import AGENTS, ScoreActor, Traits, agent_class, variables
from rlzoo.envs import make_envs
from rlzoo.exploration import EXPLORATIONS, check_strategy
from rlzoo.exploration.base import has_distribution
from rlzoo.loops.base import LoopState, initial_state, learn
from rlzoo.loops.host import HostLoop
from rlzoo.networks import TORSOS
from rlzoo.ops import rng
from rlzoo.spaces import Box, mask_of
from tests.env_doubles import ChainEnv
from tests.helpers import (
    BOX,
    DISCRETE,
    IMAGE,
    PARTS,
    STEP,
    agent_chunk,
    arrays,
    assign,
    collect,
    graph,
    make_agent,
    random_obs,
    tensors,
    xla,
)

KINDS = {
    "float32": BOX,
    "float64": BOX._replace(obs=Box((3,), "float64")),
    "image": IMAGE,
    "discrete": DISCRETE,
    "parts": PARTS,
}
PREFIXES = ("exploration/", "rate/", "loss/", "value/", "grad/", "model/")
NUM_ENVS, NUM_UPDATES = 2, 5


def cases():
    """Each agent on each kind of observation, and pairwise with the strategies that fit it.

    So it grows with agents and kinds, not with strategies: those have tests of their own.
    """
    for (i, agent), (j, kind) in itertools.product(enumerate(AGENTS), enumerate(KINDS)):
        fitting = [name for name, cls in EXPLORATIONS.items() if fits(cls(), KINDS[kind])]
        strategy = fitting[(i + j) % len(fitting)]
        yield pytest.param((agent, kind, strategy), id=f"{agent}-{kind}-{strategy}")


def fits(strategy, spec) -> bool:
    try:
        check_strategy(strategy, spec)
    except ValueError:
        return False
    return True


class Learner:
    """An agent with its functions compiled, and what happened in its first updates."""

    def __init__(self, agent, kind, strategy):
        self.spec = KINDS[kind]
        self.make = lambda seed=0: make_agent(agent, self.spec, EXPLORATIONS[strategy](), seed=seed)
        self.agent = self.make()
        self.start = arrays(variables(self.agent))
        self.traces = []
        self.update = xla(self._update)
        self.seconds = []
        self.states, self.metrics = self.learn(self.update)
        self.learned = arrays(variables(self.agent))

    def _update(self, state, chunk, seed):
        self.traces.append("update")
        return self.plain_update(state, chunk, seed)

    def plain_update(self, state: LoopState, chunk, seed):
        acting, learning = state
        actor, shown = self.agent.actor.observe(acting.actor, chunk, learning.step)
        learning, metrics = learn(self.agent, learning, chunk, seed)
        return LoopState(acting._replace(actor=actor), learning), {**shown, **metrics}

    def learn(self, update):
        """Starts anew and returns the states and metrics of some updates."""
        assign(variables(self.agent), self.start)
        states, shown = [initial_state(self.agent, NUM_ENVS)], []
        for number in range(NUM_UPDATES):
            chunk = agent_chunk(self.agent, NUM_ENVS, number)
            begun = time.perf_counter()
            state, metrics = update(states[-1], chunk, rng.from_int(number))
            shown.append({tag: float(value) for tag, value in metrics.items()})
            self.seconds.append(time.perf_counter() - begun)
            states.append(state)
        return states, shown


@pytest.fixture(scope="module", params=list(cases()))
def learner(request):
    yield Learner(*request.param)
    keras.backend.clear_session()


def test_update_compiles_once(learner):
    """Neither traced again nor compiled again for other values, which would take as long."""
    assert learner.traces == ["update"]
    first, *others = learner.seconds[:NUM_UPDATES]
    assert sum(others) < 0.6 * first


def test_act_compiles_once_and_chooses_what_there_is(learner):
    agent, traces = learner.agent, []

    def act(state, obs, first, seed, mode="explore"):
        return agent.actor.act(state, obs, first, STEP, seed, mode)

    def traced(*args):
        traces.append("act")
        return act(*args)

    compiled, state = xla(traced), agent.actor.init(50)
    before = arrays(variables(agent))
    random = np.random.default_rng(0)
    for number in range(5):
        obs = tensors(random_obs(learner.spec, (50,), random))
        first = tf.constant(random.random(50) < 0.5)
        seed = rng.from_int(number)
        action, extras, new_state = compiled(state, obs, first, seed)
        told = {key: (tuple(x.shape[1:]), x.dtype.name) for key, x in extras.items()}
        assert told == agent.actor.extras
        log_prob = extras["log_prob"]
        tf.nest.assert_same_structure(state, new_state)
        assert (action.dtype, log_prob.dtype) == (tf.int32, tf.float32)
        assert action.shape == log_prob.shape == (50,)
        assert set(action.numpy()) <= set(range(learner.spec.num_actions))
        assert np.isfinite(log_prob).all()
        assert np.max(log_prob) <= 1e-6
        others = [act(state, obs, first, seed, mode)[0] for mode in ("greedy", "policy")]
        for chosen in others:
            assert set(chosen.numpy()) <= set(range(learner.spec.num_actions))
        if not agent.traits.policy:
            np.testing.assert_array_equal(*others, err_msg="a policy is drawn from, or greedy")
        if (mask := mask_of(obs)) is not None:
            for chosen in (action, *others):
                assert tf.gather(mask, chosen, batch_dims=1).numpy().all(), "all are valid"
        state = new_state
    assert traces == ["act"]
    for name, value in arrays(variables(agent)).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_a_score_actor_acts_by_the_scores_of_its_network(learner):
    """So that a loop may choose by itself: it must be the same choice."""
    agent, state = learner.agent, learner.agent.actor.init(50)
    assert type(agent.actor) is ScoreActor
    obs = tensors(random_obs(learner.spec, (50,), np.random.default_rng(0)))
    seed = rng.from_int(5)
    found = agent.actor.act(state, obs, tf.fill([50], False), STEP, seed, "explore")[:2]
    scores, strategy = agent.actor.network(obs), agent.actor.exploration
    first = tf.fill([50], False)
    want = exploration.choose(strategy, scores, obs, state.exploration, first, STEP, seed)[:2]
    tf.nest.map_structure(np.testing.assert_array_equal, found, want)


def test_states_keep_their_structure_and_count_the_valid_steps(learner):
    steps = 0
    for number, (old, new) in enumerate(itertools.pairwise(learner.states)):
        tf.nest.assert_same_structure(old, new)
        for one, other in zip(tf.nest.flatten(old), tf.nest.flatten(new), strict=True):
            assert (one.shape, one.dtype) == (other.shape, other.dtype)
        steps += int(np.sum(agent_chunk(learner.agent, NUM_ENVS, number).valid))
        assert (int(new.learning.step), int(new.learning.chunks)) == (steps, number + 1)


def test_metrics_are_finite_numbers_under_known_tags(learner):
    for metrics in learner.metrics:
        assert np.isfinite(list(metrics.values())).all(), metrics
        assert "updates" in metrics
        for tag in metrics:
            assert tag == "updates" or tag.startswith(PREFIXES), tag
        assert 0 <= metrics["exploration/greedy_fraction"] <= 1
        told = has_distribution(learner.agent.actor.exploration)
        assert ("exploration/entropy" in metrics) == told
        most = np.log(learner.spec.num_actions) + 1e-5
        assert 0 <= metrics.get("exploration/entropy", 0.0) <= most
    assert learner.metrics[-1]["updates"] > 0, "the test is of an agent that learns"
    assert {tuple(sorted(metrics)) for metrics in learner.metrics} == {
        tuple(sorted(learner.metrics[0]))
    }


def test_everything_that_learning_changes_is_among_the_variables(learner):
    named = variables(learner.agent)
    owned = [
        variable if isinstance(variable, tf.Variable) else variable.value
        for variable in named.values()
    ]
    assert len({id(variable) for variable in owned}) == len(owned), "two names for one"
    assert any(not np.array_equal(learner.learned[name], learner.start[name]) for name in named)
    chunk, seed = agent_chunk(learner.agent, NUM_ENVS, 9), rng.from_int(9)
    state = learner.states[-1]
    concrete = learner.update.get_concrete_function(state, chunk, seed)
    others = [v for v in concrete.graph.variables if id(v) not in {id(own) for own in owned}]
    before = [v.numpy() for v in others]
    learner.update(state, chunk, seed)
    for variable, value in zip(others, before, strict=True):
        np.testing.assert_array_equal(variable, value, err_msg=variable.name)


def test_learning_is_decided_by_variables_state_chunks_and_seeds(learner):
    """Bit for bit, after everything in `variables()` was put back."""
    states, metrics = learner.learn(learner.update)
    assert metrics == learner.metrics
    for one, other in zip(tf.nest.flatten(states), tf.nest.flatten(learner.states), strict=True):
        np.testing.assert_array_equal(one, other)
    for name, value in arrays(variables(learner.agent)).items():
        np.testing.assert_array_equal(value, learner.learned[name], err_msg=name)


def test_a_plain_graph_learns_the_same(learner):
    _, metrics = learner.learn(graph(learner.plain_update))
    for name, value in arrays(variables(learner.agent)).items():
        np.testing.assert_allclose(value, learner.learned[name], rtol=1e-5, atol=1e-5, err_msg=name)
    for one, other in zip(metrics, learner.metrics, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)


def test_the_seed_decides_the_first_weights(learner):
    same = arrays(variables(learner.make()))
    assert list(same) == list(learner.start), "names are stable"
    for name, value in same.items():
        np.testing.assert_array_equal(value, learner.start[name], err_msg=name)
    other = arrays(variables(learner.make(seed=1)))
    kernels = [name for name, value in same.items() if value.ndim > 1 and value.std() > 0]
    assert not any(np.array_equal(other[name], same[name]) for name in kernels)


def test_it_has_what_the_protocol_asks_for(learner):
    agent, cls = learner.agent, type(learner.agent)
    assert dataclasses.is_dataclass(cls.Config)
    assert cls.Config.__dataclass_params__.frozen
    defaults = cls.Config()
    assert defaults.exploration in EXPLORATIONS
    assert getattr(defaults, "torso", None) in {*TORSOS, None}
    assert isinstance(agent.actor.network, keras.Model)
    assert agent.actor.network.output_shape == (None, learner.spec.num_actions)
    assert agent.spec == learner.spec
    assert agent.chunk_length >= 1
    assert isinstance(agent.traits, Traits)
    acting, learning = agent.actor.variables(), agent.variables()
    assert acting, "acting takes what was learned"
    assert not {id(x) for x in acting.values()} & {id(x) for x in learning.values()}
    assert not any(name.startswith("actor/") for name in learning)
    assert cls.__doc__


def configs():
    for name, entry in AGENTS.items():
        for cls in entry.values() if isinstance(entry, dict) else [entry]:
            for field in dataclasses.fields(cls.Config):
                number = isinstance(field.default, (int, float, type(None)))
                if number and not isinstance(field.default, bool):
                    yield pytest.param(cls.Config, field, id=f"{name}-{cls.__name__}-{field.name}")


@pytest.mark.parametrize(("config", "field"), list(configs()))
def test_a_hyperparameter_out_of_range_is_refused_by_name(config, field):
    for value in (-1, float("nan")):
        with pytest.raises(ValueError, match=rf"{field.name}: expected .* received {value}"):
            config(**{field.name: value})
    assert config(**{field.name: field.default}) == config()


# Action spaces that do not start at 0


@pytest.mark.parametrize("kind", ["box", "discrete"])
@pytest.mark.parametrize("name", AGENTS)
def test_no_action_is_illegal_wherever_the_space_starts(name, kind):
    """`ChainEnv` raises on an action that its space does not hold."""

    def envs(start):
        def make():
            env = ChainEnv(7, num_states=5 if kind == "discrete" else None, start=start)
            return TimeLimit(env, 7)

        return make_envs(make, 10, 0, check=False)

    loop = None
    for start in (0, -3, 1, 10):
        if loop is None:
            loop = HostLoop(make_agent(name, envs(start).spec), envs(start), 0)
        else:
            loop.collector.envs = envs(start)
            loop.collector.obs = loop.envs.reset()
        taken = np.zeros(2, int)
        while taken.sum() < 2_500:
            chunk = collect(loop)
            taken += np.bincount(chunk.action[chunk.valid], minlength=2)
        assert taken.min() > 250, "both actions are taken"
        loop.envs.close()


@pytest.mark.parametrize("name", AGENTS)
def test_the_table_gives_a_class_for_each_kind_of_observation(name):
    for spec in KINDS.values():
        assert isinstance(agent_class(name, spec), type)
    with pytest.raises(ValueError, match=f"Unknown agent '{name}x'. Did you mean .*'{name}'"):
        agent_class(name + "x", BOX)


@pytest.mark.parametrize("name", AGENTS)
def test_a_torso_that_does_not_fit_is_refused_in_one_clear_line(name):
    for torso, spec in ((TORSOS["conv"](), BOX), (TORSOS["conv"](), IMAGE)):
        with pytest.raises(ValueError, match=r"conv torso expects images.*received") as caught:
            make_agent(name, spec, torso=torso)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("torso", ["lstm", "gru"])
@pytest.mark.parametrize("name", AGENTS)
def test_a_recurrent_torso_works_or_is_refused_with_what_to_use(name, torso):
    torso = TORSOS[torso](4, seed=0)
    if not agent_class(name, BOX).traits.recurrent:
        with pytest.raises(ValueError, match=f"{name} cannot use a recurrent torso.* reinforce"):
            make_agent(name, BOX, torso=torso)
        return
    agent = make_agent(name, BOX, torso=torso)
    _, metrics = agent.update(agent.init(2), agent_chunk(agent, 2, 0), STEP, rng.from_int(0))
    assert np.isfinite(list(map(float, metrics.values()))).all()
