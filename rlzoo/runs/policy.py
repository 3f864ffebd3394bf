"""A trained agent that acts: loading, evaluating and recording the best agent of a run."""

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlzoo.agents import Agent
from rlzoo.config.resolve import RunConfig, load_run
from rlzoo.config.values import typed
from rlzoo.envs import make_envs
from rlzoo.envs.base import Envs
from rlzoo.envs.slot import env_action
from rlzoo.exploration import Exploration
from rlzoo.loops import evaluate as evaluation
from rlzoo.loops.compiled import Compiled, compile_act, initial_state
from rlzoo.runs import meta as metas
from rlzoo.runs import record as film
from rlzoo.runs.build import (
    FINAL,
    Source,
    assign,
    build_agent,
    environment,
    read_checkpoint,
    stream,
    template_of,
)
from rlzoo.runs.entry import check_process, entry
from rlzoo.storage import checkpoint
from rlzoo.storage.files import run_path
from rlzoo.types import EnvSpec


class Policy:
    """A trained agent that acts: from `rlzoo.load`.

    Attributes:
        network: the Keras model from observations to scores.
        spec: the environment it was trained on.
    """

    def __init__(
        self,
        agent: Agent,
        action_space: Any,
        first_obs: int,
        eval_mode: evaluation.Mode = "greedy",
    ):
        self.agent = agent
        self.network = agent.network
        self.spec: EnvSpec = agent.spec
        self._env_action = env_action(action_space)
        self._first_obs = first_obs
        self._actor, self._draws = evaluation.actor(agent, eval_mode)
        self._act: dict[int, Compiled] = {}
        self._acts = 0  # how often it has acted
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
        """Returns what to do, as the environment counts actions.

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
            self._act[count] = compile_act(self._actor, count, 0, explore=self._draws)
        first = tf.fill([count], count != self._count)
        if count != self._count:
            self._count = count
            state = initial_state(self._actor, count)
            acts = tf.constant(self._acts, tf.int64)  # another draw in each episode
            self._tensors = tf.nest.flatten(state._replace(acts=acts))
        self._acts += 1
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
    eval_mode: str | None = None,
    last: bool = False,
) -> Policy:
    """Returns the best agent of a run (or the last one), ready to `predict`.

    Args:
        run_dir: the folder of the run.
        env: as in `resume`.
        torso: as in `resume`.
        exploration: as in `resume`.
        wrappers: as in `resume`.
        eval_mode: how it acts, as for `rlzoo.train`; by default as the run was evaluated.
        last: take the newest checkpoint, not the best.
    """
    source = Source.of(env, torso, exploration, wrappers)
    agent, config, envs, _ = _load(run_path(run_dir), source, last=last, eval_mode=eval_mode)
    first_obs = int(getattr(envs.obs_space, "start", 0))
    return Policy(agent, envs.action_space, first_obs, config.eval_mode)


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
    max_episode_steps: int | None = None,
    eval_mode: str | None = None,
    last: bool = False,
) -> evaluation.Evaluation:
    """Plays episodes with the best agent of a run (or the last one).

    An environment that changes over its life is as old as training has left it.

    Args:
        run_dir: the folder of the run.
        episodes: how many.
        seed: of the episodes; by default those of the run's own final evaluation.
        env: another environment with the same spaces, or as in `resume`.
        torso: as in `resume`.
        exploration: as in `resume`.
        wrappers: as in `resume`.
        max_episode_steps: where an episode is cut; by default where it was in the run.
        eval_mode: how it acts, as for `rlzoo.train`; by default as the run was evaluated.
        last: take the newest checkpoint, not the best.
    """
    episodes = typed(episodes, int, "episodes")
    agent, config, envs, lifetime_steps = _load(
        run_path(run_dir),
        Source.of(env, torso, exploration, wrappers),
        episodes=episodes,
        last=last,
        max_episode_steps=max_episode_steps,
        eval_mode=eval_mode,
    )
    chosen: int = stream(config.seed, FINAL) if seed is None else typed(seed, int, "seed")
    with contextlib.closing(envs):
        evaluator = evaluation.Evaluator(agent, envs, episodes, config.eval_mode)
        return evaluator.run(chosen, lifetime_steps)


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
    max_episode_steps: int | None = None,
    eval_mode: str | None = None,
) -> evaluation.Evaluation:
    """Writes an episode of the best agent to a .gif or .mp4 file; returns its outcome.

    The other arguments are those of `evaluate`.
    """
    source = Source.of(env, torso, exploration, wrappers)
    agent, config, envs, lifetime_steps = _load(
        run_path(run_dir), source, max_episode_steps=max_episode_steps, eval_mode=eval_mode
    )
    chosen: int = stream(config.seed, FINAL) if seed is None else typed(seed, int, "seed")
    where = environment(config, source)
    settings = config.env_settings
    return film.record(
        agent, where, settings, envs.name, Path(path), chosen, config.eval_mode, lifetime_steps
    )


class _Loaded(NamedTuple):
    """What a run left, ready to act."""

    agent: Agent
    config: RunConfig
    envs: Envs  # none of which is made before its first reset
    lifetime_steps: list[int]  # how old training left those that change over their life


def _load(
    run_dir: Path, source: Source, *, episodes: int = 1, last: bool = False, **settings: Any
) -> _Loaded:
    """Loads the best agent, or the last one; `settings` that are not None replace the run's."""
    config = load_run(run_dir, env=source.env, wrappers=source.wrappers)
    given = {name: value for name, value in settings.items() if value is not None}
    config = dataclasses.replace(config, **given)
    num_envs = evaluation.num_envs(config, episodes)
    envs = make_envs(environment(config, source), num_envs, 0, check=False, **config.env_settings)
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
    return _Loaded(agent, config, envs, _lifetime_steps(run_dir) if envs.probe.changes else [])


def _lifetime_steps(run_dir: Path) -> list[int]:
    """Returns how old training left the environments; [] if nothing says so."""
    _, meta, _ = checkpoint.load(run_dir / "checkpoints", only="state/")
    return list(metas.read(metas.Progress, meta.get("loop"), "loop").lifetime_steps)
