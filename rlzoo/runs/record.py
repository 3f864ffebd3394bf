"""An episode as a film."""

import contextlib
import copy
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from rlzoo.agents import Agent, Mode
from rlzoo.envs import make_env, make_envs
from rlzoo.envs.making import EnvSource
from rlzoo.envs.slot import Probe
from rlzoo.loops.evaluate import Evaluation, Evaluator

_FPS = 30  # where an environment does not say


class _Camera(gymnasium.Wrapper):
    """Keeps a picture of every step."""

    def __init__(self, env: gymnasium.Env, frames: list[Any]):
        super().__init__(env)
        self._frames = frames

    def reset(self, **kwargs):
        """Starts an episode."""
        result = self.env.reset(**kwargs)
        self._frames.append(copy.copy(self.env.render()))  # it may draw into the same array again
        return result

    def step(self, action):
        """Takes a step."""
        result = self.env.step(action)
        self._frames.append(copy.copy(self.env.render()))
        return result


def record(
    agent: Agent,
    env: EnvSource,
    env_settings: dict[str, Any],
    probe: Probe,
    path: Path,
    seed: int,
    mode: Mode = "greedy",
    lifetime_steps: Sequence[int] = (),
) -> Evaluation:
    """Writes one episode as a video; `path` ends in .gif or .mp4.

    Args:
        agent: who acts.
        env: an id or a callable.
        env_settings: keyword arguments of `make_env`.
        probe: what others of these environments told.
        path: of the file.
        seed: of the episode.
        mode: how to act, as for `Evaluator`.
        lifetime_steps: as for `Evaluator.run`.

    Raises:
        ValueError: another ending, or an environment that cannot draw itself.
    """
    import imageio.v3 as iio

    if path.suffix not in (".gif", ".mp4"):
        raise ValueError(f"Expected a file that ends in .gif or .mp4, received {path}.")
    name = probe.name
    cannot_draw = (
        f"{name} cannot be recorded: it does not draw. An environment that does takes render_mode, "
        'has metadata = {"render_modes": ["rgb_array"]} and returns a picture from render().'
    )
    frames: list[Any] = []
    rates: list[Any] = []

    def filmed(**kwargs):
        settings = {**env_settings, "env_kwargs": {**kwargs, "render_mode": "rgb_array"}}
        try:
            with warnings.catch_warnings():  # what Gymnasium warns of is said below
                warnings.filterwarnings("ignore", ".*is not in the possible render_modes")
                made = make_env(env, **settings)
        except ValueError as error:
            if isinstance(error.__cause__, TypeError):  # it was made without before
                raise ValueError(cannot_draw) from error
            raise
        if made.render_mode != "rgb_array":
            raise ValueError(cannot_draw)
        rates.append(made.metadata.get("render_fps"))
        return _Camera(made, frames)

    with _no_screen():
        envs = make_envs(
            filmed, 1, 0, env_kwargs=env_settings["env_kwargs"], check=False, probe=probe
        )
        with contextlib.closing(envs):
            result = Evaluator(agent, envs, 1, mode).run(seed, lifetime_steps)
    frames = [_picture(name, frame) for frame in frames]
    if len({frame.shape for frame in frames}) > 1:
        sizes = sorted({frame.shape[:2] for frame in frames})
        raise ValueError(f"{name} cannot be recorded: its pictures differ in size: {sizes}.")
    fps = _rate(rates[0])
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        iio.imwrite(path, frames, duration=1000 / fps, loop=0)
    else:
        even = [frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2] for frame in frames]
        iio.imwrite(path, even, fps=fps, macro_block_size=2)
    return result


@contextlib.contextmanager
def _no_screen() -> Iterator[None]:
    """Keeps pygame, which many environments draw with, from looking for a screen and speakers."""
    wanted = {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    wanted["PYGAME_HIDE_SUPPORT_PROMPT"] = "1"
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _picture(name: str, drawn: Any) -> np.ndarray:
    """Returns what an environment has drawn, refused unless it is a picture."""
    found = type(drawn).__name__
    if isinstance(drawn, np.ndarray):
        if drawn.ndim == 3 and drawn.shape[-1] in (3, 4) and drawn.dtype == np.uint8:
            return drawn[..., :3]
        found = f"one of shape {drawn.shape} and {drawn.dtype}"
    raise ValueError(
        f"{name} cannot be recorded: expected render() to return an array of shape "
        f"[height, width, 3] and uint8 (0 to 255), received {found}."
    )


def _rate(stated: Any) -> float:
    """Returns the pictures per second that an environment states, where it does."""
    is_number = isinstance(stated, (int, float, np.integer, np.floating))
    return float(stated) if is_number and 0 < stated <= 1_000 and math.isfinite(stated) else _FPS
