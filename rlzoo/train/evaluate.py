"""Evaluation on environments of its own, with seeds of their own, and recording it."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent
from rlzoo.envs import make_env, make_envs
from rlzoo.envs.base import Envs
from rlzoo.train.compiled import compile_act, initial_state

_MAX_ENVS = 20  # episodes played side by side
_MAX_STEPS = 1_000  # of an episode in an environment without a time limit


class Evaluation(NamedTuple):
    """The outcome of some episodes of a greedy policy."""

    returns: list[float]  # one per episode
    lengths: list[int]  # steps of each

    def __repr__(self) -> str:
        """Returns mean and standard deviation of the return, and what they are of."""
        spread = f"{self.mean_return:.4g} ± {self.std_return:.4g}"
        return f"<Evaluation: return {spread} (mean ± standard deviation of {self.episodes})>"

    @property
    def mean_return(self) -> float:
        """The mean return."""
        return float(np.mean(self.returns))

    @property
    def std_return(self) -> float:
        """The standard deviation of the returns."""
        return float(np.std(self.returns))

    @property
    def episodes(self) -> int:
        """How many episodes were played."""
        return len(self.returns)


class Evaluator:
    """Plays greedy episodes of an agent that may go on learning in between.

    Every call with the same seed plays the same episodes, whatever happened before.

    Args:
        agent: whose network acts; its training state is not touched.
        env: an id or a callable, as for `make_envs`.
        env_kwargs: for the environment.
        episodes: to play in each evaluation.
    """

    def __init__(self, agent: Agent, env: Any, env_kwargs: dict[str, Any], episodes: int):
        if episodes < 1:
            raise ValueError(f"episodes: expected at least 1, received {episodes}.")
        self._agent = agent
        self._source = (env, env_kwargs)
        self._episodes = episodes
        self._num_envs = min(episodes, _MAX_ENVS)
        self._act = compile_act(agent, self._num_envs, 0, explore=False)

    def run(self, seed: int, on_step: Callable[[], None] = lambda: None) -> Evaluation:
        """Plays the episodes that belong to a seed; `on_step` may raise, which ends it."""
        env, env_kwargs = self._source
        envs = make_envs(env, self._num_envs, seed, env_kwargs=env_kwargs, check=False)
        returns: list[float] = []
        lengths: list[int] = []
        try:
            while len(returns) < self._episodes:
                totals, steps = self._play(envs, on_step)
                returns += totals
                lengths += steps
        finally:
            envs.close()
        return Evaluation(returns[: self._episodes], lengths[: self._episodes])

    def _play(self, envs: Envs, on_step: Callable[[], None]) -> tuple[list[float], list[int]]:
        """Plays one whole episode in each environment."""
        tensors = tf.nest.flatten(initial_state(self._agent, self._num_envs))
        obs = envs.reset()
        active, first = np.ones(self._num_envs, bool), np.ones(self._num_envs, bool)
        totals, lengths = np.zeros(self._num_envs), np.zeros(self._num_envs, np.int64)
        for _ in range(envs.spec.max_episode_steps or _MAX_STEPS):
            on_step()
            action, _, *tensors = self._act(*tensors, tf.constant(obs), tf.constant(first))
            step = envs.step(action.numpy(), active)
            totals += step.reward
            lengths += active
            active &= ~(step.terminated | step.truncated)
            obs, first = step.obs, np.zeros(self._num_envs, bool)
            if not active.any():
                break
        else:
            if envs.spec.max_episode_steps is None:
                warnings.warn(
                    f"{envs.name} has no time limit: an evaluation episode was cut after "
                    f"{_MAX_STEPS} steps. Give it one: --set env.max_episode_steps=5000.",
                    stacklevel=2,
                )
        return totals.tolist(), lengths.tolist()


class _Camera(gymnasium.Wrapper):
    """Keeps a picture of every step."""

    def __init__(self, env: gymnasium.Env, frames: list[Any]):
        super().__init__(env)
        self._frames = frames

    def reset(self, **kwargs):
        """Starts an episode."""
        result = self.env.reset(**kwargs)
        self._frames.append(self.env.render())
        return result

    def step(self, action):
        """Takes a step."""
        result = self.env.step(action)
        self._frames.append(self.env.render())
        return result


def record(agent: Agent, env: Any, env_kwargs: dict, path: Path, seed: int) -> Evaluation:
    """Writes one greedy episode as a video; `path` ends in .gif or .mp4.

    Raises:
        ValueError: another ending, or an environment that cannot draw itself.
    """
    import imageio.v3 as iio

    if path.suffix not in (".gif", ".mp4"):
        raise ValueError(f"Expected a file that ends in .gif or .mp4, received {path}.")
    frames: list[Any] = []

    def filmed(**kwargs):
        made = make_env(env, {**kwargs, "render_mode": "rgb_array"})
        if made.render_mode != "rgb_array":
            raise ValueError(f"{env} cannot be recorded: it has no render mode 'rgb_array'.")
        return _Camera(made, frames)

    result = Evaluator(agent, filmed, env_kwargs, 1).run(seed)
    fps = make_env(env, env_kwargs).metadata.get("render_fps", 30)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        iio.imwrite(path, frames, duration=1000 / fps, loop=0)
    else:
        even = [frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
        iio.imwrite(path, even, fps=fps, macro_block_size=2)
    return result
