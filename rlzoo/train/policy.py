"""A trained agent that acts: loading, evaluating and recording the best agent of a run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent
from rlzoo.envs import make_envs
from rlzoo.envs.base import env_action
from rlzoo.exploration import Exploration
from rlzoo.train import evaluate as evaluation
from rlzoo.train.build import (
    FINAL,
    Source,
    assign,
    build_agent,
    environment,
    read_checkpoint,
    stream,
    template_of,
)
from rlzoo.train.compiled import Compiled, compile_act, initial_state
from rlzoo.train.config import RunConfig, load_run
from rlzoo.train.entry import check_process, entry
from rlzoo.train.files import run_path
from rlzoo.train.plain import typed
from rlzoo.types import EnvSpec


class Policy:
    """A trained agent that acts: from `rlzoo.load`.

    Attributes:
        network: the Keras model from observations to scores.
        spec: the environment it was trained on.
    """

    def __init__(self, agent: Agent, action_space: Any, first_obs: int):
        self.agent = agent
        self.network = agent.network
        self.spec: EnvSpec = agent.spec
        self._env_action = env_action(action_space)
        self._first_obs = first_obs
        self._act: dict[int, Compiled] = {}
        self.reset()

    def __repr__(self) -> str:
        """Returns who acts, on what observations, with which actions."""
        spec = self.spec
        seen = f"{spec.obs_dtype} {list(spec.obs_shape)}"
        if spec.num_states is not None:
            seen = f"one of {spec.num_states:,}"
        actions = f"{spec.num_actions} actions"
        if spec.action_box:
            actions = f"actions {spec.action_dtype} {list(spec.action_shape)}"
        return f"<Policy of {type(self.agent).__name__}: observations {seen}, {actions}>"

    def reset(self) -> None:
        """Forgets what a recurrent network remembers: call it where an episode starts."""
        self._count = 0  # size of the batch that is remembered
        self._tensors: list[tf.Tensor] = []

    def predict(self, obs: Any) -> Any:
        """Returns the greedy action, as the environment counts actions.

        Args:
            obs: one observation as the environment gives it, or a batch [B, ...]. A recurrent
                network remembers from call to call; another batch size starts anew.

        Returns:
            An int for one observation, else [B] int64; an array if the actions are a Box.

        Raises:
            ValueError: an observation of another shape.
        """
        check_process()
        obs = np.asarray(obs)
        shape = self.spec.obs_shape
        if obs.shape[obs.ndim - len(shape) :] != shape or obs.ndim - len(shape) > 1:
            raise ValueError(
                f"Expected one observation of shape {shape} or a batch of them, received shape "
                f"{obs.shape}."
            )
        batch = (obs[None] if obs.ndim == len(shape) else obs) - self._first_obs
        count = len(batch)
        if count not in self._act:
            self._act[count] = compile_act(self.agent, count, 0, explore=False)
        first = tf.fill([count], count != self._count)
        if count != self._count:
            self._count = count
            self._tensors = tf.nest.flatten(initial_state(self.agent, count))
        batch = tf.constant(batch.astype(self.spec.obs_dtype))
        action, _, *self._tensors = self._act[count](*self._tensors, batch, first)
        action = action.numpy()
        action = self._env_action(action if self.spec.action_box else action.astype(np.int64))
        if obs.ndim > len(shape):
            return action
        return action[0] if self.spec.action_box else int(action[0])


@entry()
def load(
    run_dir: str | Path,
    *,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: Exploration | None = None,
    wrappers: Sequence[Any] | None = None,
    last: bool = False,
) -> Policy:
    """Returns the best agent of a run (or the last one), ready to `predict`.

    The other arguments are those of `resume`.
    """
    agent, config, source = _load_agent(
        run_path(run_dir), Source(env, torso, exploration, wrappers), last
    )
    probe = make_envs(environment(config, source), 1, 0, env_kwargs=config.env_kwargs, check=False)
    probe.close()
    return Policy(agent, probe.action_space, int(getattr(probe.obs_space, "start", 0)))


@entry()
def evaluate(
    run_dir: str | Path,
    *,
    episodes: int = 20,
    seed: int | None = None,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: Exploration | None = None,
    wrappers: Sequence[Any] | None = None,
    last: bool = False,
) -> evaluation.Evaluation:
    """Plays greedy episodes with the best agent of a run (or the last one).

    Args:
        run_dir: the folder of the run.
        episodes: how many.
        seed: of the episodes; by default those of the run's own final evaluation.
        env: another environment with the same spaces, or as in `resume`.
        torso: as in `resume`.
        exploration: as in `resume`.
        wrappers: as in `resume`.
        last: take the newest checkpoint, not the best.
    """
    agent, config, source = _load_agent(
        run_path(run_dir), Source(env, torso, exploration, wrappers), last
    )
    chosen: int = stream(config.seed, FINAL) if seed is None else typed(seed, int, "seed")
    episodes = typed(episodes, int, "episodes")
    evaluator = evaluation.Evaluator(
        agent, environment(config, source), config.env_kwargs, episodes
    )
    return evaluator.run(chosen)


@entry()
def record(
    run_dir: str | Path,
    path: str | Path,
    *,
    seed: int | None = None,
    env: str | Callable | None = None,
    torso: keras.Layer | None = None,
    exploration: Exploration | None = None,
    wrappers: Sequence[Any] | None = None,
) -> evaluation.Evaluation:
    """Writes a greedy episode of the best agent to a .gif or .mp4 file; returns its outcome."""
    agent, config, source = _load_agent(
        run_path(run_dir), Source(env, torso, exploration, wrappers), False
    )
    chosen: int = stream(config.seed, FINAL) if seed is None else typed(seed, int, "seed")
    where = environment(config, source)
    return evaluation.record(agent, where, config.env_kwargs, Path(path), chosen)


def _load_agent(run_dir: Path, source: Source, last: bool) -> tuple[Agent, RunConfig, Source]:
    config = load_run(run_dir, env=source.env, wrappers=source.wrappers)
    env = environment(config, source)
    envs = make_envs(env, 1, 0, env_kwargs=config.env_kwargs, check=False)
    envs.close()
    agent = build_agent(config, envs.spec, source)
    variables = {k: v for k, v in agent.variables().items() if k.startswith("network/")}
    template = template_of(variables)
    arrays, *_ = read_checkpoint(
        run_dir,
        config,
        envs.spec,
        lambda meta: template,
        best=not last,
        only="network/",
        any_limit=True,
    )
    assign(variables, arrays)
    return agent, config, source
