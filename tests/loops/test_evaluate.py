"""Evaluation, loading and recording: apart from training, and true to the environment."""

import json
import shutil
from functools import partial

import gymnasium
import imageio.v3 as iio
import numpy as np
import pytest

import rlzoo
from rlzoo.config.resolve import resolve
from rlzoo.envs import make_env, make_envs
from rlzoo.loops.evaluate import Evaluator
from rlzoo.loops.host import HostLoop
from rlzoo.spaces import Box
from rlzoo.storage import checkpoint
from tests.env_doubles import ChainEnv, FaultyEnv
from tests.helpers import make_agent
from tests.runs.killed_runs import final_arrays

TINY = {"eval_every": 20, "eval_episodes": 3, "log_every": 20, "checkpoint_every": 20}


# --- apart from training ---


@pytest.mark.parametrize("mode", ["greedy", "explore"])
def test_it_leaves_training_as_it_was_and_depends_on_its_seed_alone(mode):
    envs = make_envs("CartPole-v1", 2, 1)
    agent = make_agent("dqn", envs.spec)
    loop = HostLoop(agent, envs, 1)
    evaluator = Evaluator(agent, make_envs("CartPole-v1", 5, 0), 5, mode)
    for _ in range(10):
        loop.run()
    arrays, meta = loop.get_state()
    arrays = {name: array.copy() for name, array in arrays.items()}

    first = evaluator.run(7)
    again, meta_again = loop.get_state()
    assert meta_again == meta and again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].tobytes() == array.tobytes(), name

    other = evaluator.run(8)
    assert evaluator.run(7) == first and other.returns != first.returns
    assert Evaluator(agent, make_envs("CartPole-v1", 5, 0), 5, mode).run(7) == first
    for _ in range(40):
        loop.run()
    assert evaluator.run(7) != first  # it sees what was learned
    envs.close()


def test_training_is_the_same_however_often_it_is_evaluated(run, tmp_path):
    seldom = rlzoo.train(
        config=run.dir, overrides={"eval_every": 0, "eval_episodes": 1}, quiet=True,
        run_dir=tmp_path / "seldom",
    )  # fmt: skip
    expected = final_arrays(run.dir)
    for name, array in final_arrays(seldom.dir).items():
        assert array.tobytes() == expected[name].tobytes(), name


class Registrar(ChainEnv):
    """Writes down every seed that it is reset with."""

    def __init__(self, seeds):
        super().__init__(num_states=3)
        self.seeds = seeds

    def reset(self, *, seed=None, options=None):
        self.seeds.append(seed)
        return super().reset(seed=seed)


def test_the_final_seeds_took_no_part_in_training_or_choosing(tmp_path):
    seeds: list[int] = []
    run = rlzoo.train(
        "dyna_q", partial(Registrar, seeds), steps=100, num_envs=2, preset=False,
        overrides=TINY, run_dir=tmp_path, quiet=True,
    )  # fmt: skip
    last, best = seeds[-6:-3], seeds[-3:]
    before = seeds[:-6]
    assert last == best and len(set(best)) == 3  # both judged by the same 3 episodes
    assert not set(best) & set(before)
    choosing = [seed for seed in set(before) if before.count(seed) == 5]  # the same 5 times
    assert len(choosing) == 3
    assert run.summary["episodes"] == 3


# --- how it acts ---


class Corridor(gymnasium.Env):
    """Sutton & Barto, example 13.1: three states that look the same; in the middle, left is right.

    No policy that always does the same comes to the end.
    """

    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place, self.time = 0, 0
        return np.ones(1, np.float32), {}

    def step(self, action):
        self.time += 1
        way = 2 * action - 1
        self.place = max(0, self.place + (-way if self.place == 1 else way))
        return np.ones(1, np.float32), -1.0, self.place == 3, self.time == 60, {}


def test_a_policy_is_judged_by_its_draws_where_states_look_the_same():
    envs = make_envs(Corridor, 20, 0, max_episode_steps=60)
    agent = make_agent("reinforce", envs.spec)
    greedy = Evaluator(agent, envs, 20, "greedy").run(1)
    assert greedy.returns == [-60.0] * 20
    policy = Evaluator(agent, envs, 20, "policy")
    drawn = policy.run(1)
    assert drawn.mean_return > -40 and len(set(drawn.returns)) > 5
    assert policy.run(1) == drawn and policy.run(2) != drawn  # the seed decides on the draws too
    assert Evaluator(agent, envs, 20, "policy").run(1) == drawn
    more = Evaluator(agent, envs, 40, "policy").run(1)
    assert more.returns[:20] == drawn.returns != more.returns[20:]  # other draws each time
    envs.close()


class Tally(ChainEnv):
    """Counts the actions it is given."""

    counts = np.zeros(2)

    def step(self, action):
        Tally.counts[action] += 1
        return super().step(action)


def test_one_action_in_20_is_random_if_it_is_to_explore():
    """Of 2 actions a random one is the other one in half the cases: 1 in 40."""
    envs = make_envs(partial(Tally, time_limit=200, end="truncate"), 20, 0, max_episode_steps=200)
    agent = make_agent("dqn", envs.spec)
    Tally.counts[:] = 0
    Evaluator(agent, envs, 20, "explore").run(0)
    assert Tally.counts.sum() == 4_000
    assert min(Tally.counts) / 4_000 == pytest.approx(0.025, rel=0.3)  # 3 deviations
    envs.close()


def test_a_value_agent_is_greedy_where_a_policy_is_asked_for():
    envs = make_envs("CartPole-v1", 3, 0)
    agent = make_agent("dqn", envs.spec)
    assert Evaluator(agent, envs, 3, "policy").run(0) == Evaluator(agent, envs, 3).run(0)
    box = agent.spec._replace(action=Box((1,), "float32", (0.0,), (1.0,)))
    agent.spec = box
    with pytest.raises(ValueError, match=r"'explore' takes random actions.*Discrete"):
        Evaluator(agent, envs, 3, "explore")
    envs.close()


def test_a_run_is_judged_chosen_and_loaded_in_its_mode(tmp_path):
    run = rlzoo.train(
        "reinforce", Corridor, steps=200, num_envs=2, max_episode_steps=60, preset=False,
        overrides={**TINY, "torso.sizes": [4]}, run_dir=tmp_path, quiet=True,
    )  # fmt: skip
    assert run.config.eval_mode == "policy"  # as it learns one
    assert rlzoo.evaluate(tmp_path, env=Corridor, episodes=3).mean_return > -60
    greedy = rlzoo.evaluate(tmp_path, env=Corridor, episodes=3, eval_mode="greedy")
    assert greedy.mean_return == -60
    assert (
        rlzoo.evaluate(tmp_path, env=Corridor, episodes=3).mean_return
        == (run.summary["mean_return"])
    )
    drawn = [rlzoo.load(tmp_path, env=Corridor).predict(np.ones((50, 1))) for _ in range(2)]
    assert 5 < drawn[0].sum() < 45 and (drawn[0] == drawn[1]).all()
    always = rlzoo.load(tmp_path, env=Corridor, eval_mode="greedy").predict(np.ones((50, 1)))
    assert len(set(always.tolist())) == 1
    with pytest.raises(ValueError, match="eval_mode: expected"):
        rlzoo.evaluate(tmp_path, env=Corridor, eval_mode="gready")


def test_value_agents_are_judged_greedily_and_presets_as_they_say():
    assert resolve("dqn", "CartPole-v1").eval_mode == "greedy"
    assert resolve("reinforce", "CartPole-v1", preset=False).eval_mode == "policy"
    assert resolve("reinforce", "CartPole-v1").eval_mode == "greedy"
    assert resolve("reinforce", "CartPole-v1", eval_mode="explore").eval_mode == "explore"


# --- what it counts ---


@pytest.mark.parametrize("episodes", [1, 3, 25])
def test_returns_and_lengths_of_a_known_environment(episodes):
    env = partial(ChainEnv, time_limit=7, end="truncate")
    envs = make_envs(env, min(episodes, 20), 0)
    result = Evaluator(make_agent("dqn", envs.spec), envs, episodes).run(0)
    assert result.returns == [7.0] * episodes and result.lengths == [7] * episodes
    assert result.episodes == episodes
    assert (result.mean_return, result.std_return) == (7.0, 0.0)


def test_an_episode_without_end_is_cut_with_a_warning():
    env = partial(ChainEnv, time_limit=10**9)
    envs = make_envs(env, 2, 0)
    with pytest.warns(UserWarning, match="no time limit.*--max-episode-steps"):
        result = Evaluator(make_agent("dqn", envs.spec), envs, 2).run(0)
    assert result.lengths == [1000, 1000]


def test_a_failure_in_an_evaluation_is_named():
    env = partial(FaultyEnv, kind="nan_obs", at=4)
    envs = make_envs(env, 2, 0, check=False)
    with pytest.raises(ValueError, match=r"obs\[1\] is nan") as caught:
        Evaluator(make_agent("dqn", envs.spec), envs, 2).run(0)
    assert "step 4" in str(caught.value)


def by_hand(policy, env: gymnasium.Env, seed: int) -> tuple[float, int]:
    """Plays an episode with nothing but Gymnasium and `predict`."""
    policy.reset()
    obs, _ = env.reset(seed=seed)
    total, length, over = 0.0, 0, False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(policy.predict(obs))
        total, length, over = total + reward, length + 1, terminated or truncated
    return total, length


def played(result, seed: int, policy, env: gymnasium.Env) -> None:
    """Checks that an evaluation is what one gets by hand from the same seeds."""
    for i in range(result.episodes):
        episode_seed = int(np.random.SeedSequence((seed, i, 0)).generate_state(1)[0])
        assert by_hand(policy, env, episode_seed) == (result.returns[i], result.lengths[i])


# --- after a run ---


def test_the_final_evaluation_is_repeated_exactly(run):
    best = rlzoo.evaluate(run.dir, episodes=4)
    assert best.mean_return == run.summary["mean_return"]
    assert best.std_return == run.summary["std_return"]
    last = rlzoo.evaluate(run.dir, episodes=4, last=True)
    assert last.mean_return == run.summary["last_mean_return"]
    assert run.evaluate(episodes=4) == best


def test_the_best_is_the_one_that_evaluated_best(run):
    """The checkpoint kept is of the step with the highest evaluation; the later of equals."""
    lines = (run.dir / "metrics.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines if ",eval/return," in line]
    returns = {int(step): float(value) for step, _, _, value in rows}
    best = max(returns.values())
    assert run.summary["best_step"] == max(step for step in returns if returns[step] == best)
    _, meta, path = checkpoint.load(run.dir / "checkpoints", best=True)
    assert meta["loop"]["best"] == best
    assert path.name == f"best-{run.summary['best_step']:09d}"


def test_evaluation_is_what_one_gets_by_hand(run):
    result = rlzoo.evaluate(run.dir, episodes=3, seed=11)
    env = gymnasium.make("CartPole-v1")
    played(result, 11, rlzoo.load(run.dir), env)
    assert rlzoo.evaluate(run.dir, episodes=3, seed=11) == result
    assert rlzoo.evaluate(run.dir, episodes=3, seed=12) != result


def test_in_another_environment_with_the_same_spaces(run):
    shorter = partial(gymnasium.make, "CartPole-v1", max_episode_steps=9)
    assert max(rlzoo.evaluate(run.dir, env=shorter, episodes=3).lengths) <= 9
    with pytest.raises(ValueError, match=r"spec.obs.Box.shape: expected \[2\].*found \[4\]"):
        rlzoo.evaluate(run.dir, env="rlzoo/CartPoleNoVel-v1")


@pytest.mark.parametrize("episodes", [0, -1])
def test_no_episodes_are_no_evaluation(episodes, run):
    with pytest.raises(ValueError, match=f"episodes: expected at least 1, received {episodes}"):
        rlzoo.evaluate(run.dir, episodes=episodes)


# --- predict ---


def test_predict_one_and_many(run):
    policy = rlzoo.load(run.dir)
    obs = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    many = policy.predict(obs)
    assert many.shape == (40,) and many.dtype == np.int64 and set(many.tolist()) == {0, 1}
    one_by_one = [policy.predict(row) for row in obs]
    assert all(type(action) is int for action in one_by_one) and one_by_one == many.tolist()
    assert policy.predict(obs.tolist()).tolist() == many.tolist()
    scores = policy.network(obs).numpy()
    assert many.tolist() == scores.argmax(axis=1).tolist()
    assert policy.spec.num_actions == 2
    for shape in [(3,), (5,), (2, 3), (2, 2, 4), ()]:
        with pytest.raises(ValueError, match=r"shape \(4,\) or a batch"):
            policy.predict(np.zeros(shape))


class Ring(gymnasium.Env):
    """Walk up a ring of states; both spaces count from `start`. Up is the second action."""

    def __init__(self, start):
        self.observation_space = gymnasium.spaces.Discrete(5, start=start)
        self.action_space = gymnasium.spaces.Discrete(2, start=start)
        self.start = start

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.time = 0, 0
        return self.start, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.state = (self.state + (1 if action == self.start + 1 else 4)) % 5
        self.time += 1
        goal = self.state == 3
        return self.start + self.state, float(goal) - 0.1, goal, self.time == 20, {}


def test_spaces_that_do_not_start_at_0(tmp_path):
    policies = {}
    for start in (0, -3, 10):
        env, run_dir = partial(Ring, start), tmp_path / str(start)
        rlzoo.train(
            "dyna_q", env, steps=300, preset=False, overrides={**TINY, "exploration.epsilon": 0.5},
            run_dir=run_dir, quiet=True,
        )  # fmt: skip
        policies[start] = rlzoo.load(run_dir, env=env)
        assert by_hand(policies[start], Ring(start), 0) == (pytest.approx(0.8), 2)
        states = np.array([0, 1, 2, 4]) + start  # at 3 it is over: nothing is known, all is equal
        actions = policies[start].predict(states)
        assert [policies[start].predict(state) for state in states] == actions.tolist()
        assert (actions - start).tolist() == policies[0].predict(states - start).tolist()


@pytest.fixture(scope="module")
def memory_run(tmp_path_factory):
    """REINFORCE with an LSTM on the memory task, not trained enough to solve it."""
    return rlzoo.train(
        "reinforce", "rlzoo/Memory-v0", torso="lstm", steps=300, num_envs=4, preset=False,
        overrides={"eval_every": 0, "eval_episodes": 2, "torso.units": 8, "env.delay": 2,
                   "eval_mode": "greedy"},
        run_dir=tmp_path_factory.mktemp("memory") / "run", quiet=True,
    )  # fmt: skip


def test_a_recurrent_policy_remembers_until_reset(memory_run):
    policy = rlzoo.load(memory_run.dir)

    def scores_after(cues):
        """The memory after some observations, seen through what `predict` carries."""
        for cue in cues:
            policy.predict(np.eye(3, dtype=np.float32)[cue])
        return [tensor.numpy().copy() for tensor in policy._tensors]

    policy.reset()
    fresh = scores_after([0])
    longer = scores_after([1])
    policy.reset()
    again = scores_after([0])
    other = scores_after([1])

    def same(one, two):
        # Counters of steps and calls are there too: only what is float is memory.
        return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True) if a.ndim)

    assert same(fresh, again) and same(longer, other) and not same(fresh, longer)
    policy.reset()
    assert not same(scores_after([1]), other)  # what came before counts

    result = rlzoo.evaluate(memory_run.dir, episodes=4, seed=2)
    played(result, 2, policy, make_env("rlzoo/Memory-v0", {"delay": 2}))


def test_a_batch_of_recurrent_predictions(memory_run):
    policy = rlzoo.load(memory_run.dir)
    episodes = np.random.default_rng(1).normal(size=(6, 3, 3)).astype(np.float32)  # [T, B, D]
    together = np.array([policy.predict(obs) for obs in episodes])
    for i in range(3):
        policy.reset()
        assert [policy.predict(obs) for obs in episodes[:, i]] == together[:, i].tolist()
    assert policy.predict(episodes[0]).tolist() == together[0].tolist()  # another size: anew


# --- recording ---


@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_a_film_shows_the_episode(ending, run, tmp_path):
    film = tmp_path / "sub" / f"film.{ending}"
    result = rlzoo.record(run.dir, film, seed=3)
    frames = iio.imread(film, index=None) if ending == "gif" else iio.imread(film)
    pictures = result.lengths[0] + 1
    if ending == "gif":  # which shows equal frames as one, for longer
        shown = [iio.immeta(film, index=i)["duration"] for i in range(len(frames))]
        assert sum(shown) == pictures * 20  # ms, as CartPole says
    else:
        assert len(frames) == pictures
    assert result.episodes == 1
    assert frames.shape[1:3] == (400, 600) and frames.dtype == np.uint8
    assert len({frame.tobytes() for frame in frames}) > result.lengths[0] / 2
    if ending == "gif":
        env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
        seed = int(np.random.SeedSequence((3, 0, 0)).generate_state(1)[0])
        env.reset(seed=seed)
        apart = np.abs(env.render().astype(int) - frames[0][..., :3].astype(int))
        assert apart.mean() < 3  # a palette of 256 colours
    assert rlzoo.evaluate(run.dir, episodes=1, seed=3) == result


def test_an_environment_that_cannot_draw_itself(tmp_path):
    env = partial(ChainEnv, num_states=3)
    rlzoo.train(
        "dyna_q", env, steps=10, preset=False, overrides=TINY, run_dir=tmp_path / "run", quiet=True
    )
    with pytest.raises(ValueError, match="render"):
        rlzoo.record(tmp_path / "run", tmp_path / "film.gif", env=env)
    assert not (tmp_path / "film.gif").exists()


def test_a_film_of_another_kind(run, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.gif or \.mp4, received .*film\.avi"):
        rlzoo.record(run.dir, tmp_path / "film.avi")


def test_a_run_without_a_best_yet_is_loaded_from_its_newest(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run.dir, copy)
    for path in checkpoint.checkpoints(copy / "checkpoints", best=True):
        shutil.rmtree(path)
    result = rlzoo.evaluate(copy, episodes=4)
    with open(run.dir / "summary.json") as file:
        assert result.mean_return == json.load(file)["last_mean_return"]
