"""Films of episodes: whatever an environment draws is filmed, or refused in one line."""

import os
import subprocess
import sys
import warnings
from functools import partial

import gymnasium
import imageio.v3 as iio
import numpy as np
import pytest

import rlzoo
from rlzoo.runs.record import _rate


class Draws(gymnasium.Env):
    """Two states, five steps; draws what it is told to."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, drawn=None, fps=10, render_mode=None):
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": fps}
        self.drawn, self.render_mode = drawn, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return 0, {}

    def step(self, action):
        self.time += 1
        return self.time % 2, 1.0, False, self.time == 5, {}

    def render(self):
        return self.drawn


@pytest.fixture(scope="module")
def drawn_run(tmp_path_factory):
    return rlzoo.train(
        "dyna_q", Draws, steps=10, preset=False, quiet=True, eval_env="none",
        run_dir=tmp_path_factory.mktemp("draws") / "run",
    )  # fmt: skip


GREY = np.full((32, 31, 3), 128, np.uint8)


@pytest.mark.parametrize(
    ("drawn", "found"),
    [
        (None, "NoneType"),
        (GREY / 255.0, r"shape \(32, 31, 3\) and float64"),
        (GREY[..., 0], r"shape \(32, 31\) and uint8"),
        (GREY.transpose(2, 0, 1), r"shape \(3, 32, 31\)"),
        ([GREY], "list"),
        ("#", "str"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(drawn, found, drawn_run, tmp_path):
    with pytest.raises(ValueError, match=f"cannot be recorded: expected render.*{found}") as caught:
        rlzoo.record(drawn_run.dir, tmp_path / "film.gif", env=partial(Draws, drawn))
    assert "\n" not in str(caught.value) and not getattr(caught.value, "__notes__", [])
    assert not (tmp_path / "film.gif").exists()


class NoMode(Draws):
    """Takes no arguments, as classes without a constructor do."""

    def __new__(cls, *arguments, **kwargs):
        if kwargs:
            raise TypeError("NoMode() takes no arguments")
        return super().__new__(cls)


def test_an_environment_that_takes_no_render_mode(drawn_run, tmp_path):
    refused = r"NoMode cannot be recorded: it does not draw.*render_mode.*metadata"
    with pytest.raises(ValueError, match=refused) as caught:
        rlzoo.record(drawn_run.dir, tmp_path / "film.gif", env=NoMode)
    assert "\n" not in str(caught.value)


class Blind(Draws):
    """As most classes are first written: without a thought of drawing."""

    def __init__(self):
        self.metadata = {}


def test_gymnasium_does_not_warn_as_well_of_what_is_refused(drawn_run, tmp_path, monkeypatch):
    spec = gymnasium.envs.registration.EnvSpec("Blind-v0", entry_point=Blind)
    monkeypatch.setitem(gymnasium.registry, "Blind-v0", spec)
    with warnings.catch_warnings(), pytest.raises(ValueError, match="Blind-v0 cannot be recorded"):
        warnings.simplefilter("error")
        rlzoo.record(drawn_run.dir, tmp_path / "film.gif", env="Blind-v0")


@pytest.mark.parametrize("fps", [None, 0, -1, float("nan"), "10", 20])
@pytest.mark.parametrize("ending", ["gif", "mp4"])
def test_films_of_any_rate_and_size(fps, ending, drawn_run, tmp_path):
    pictures = np.concatenate([GREY, GREY[..., :1]], axis=-1)  # odd, and with transparency
    film = tmp_path / f"film.{ending}"
    rlzoo.record(drawn_run.dir, film, env=partial(Draws, pictures, fps))
    frames = iio.imread(film, index=None) if ending == "gif" else iio.imread(film)
    assert frames.shape[1:3] == ((32, 31) if ending == "gif" else (32, 30))
    assert _rate(fps) == (20 if fps == 20 else 30)


@pytest.mark.slow
def test_pygame_looks_for_no_screen_and_no_speakers_only_meanwhile(run, tmp_path):
    """ALSA and SDL write to the file of standard error, so in a process without their settings."""
    code = (
        "import os, sys, rlzoo\n"
        "seed = rlzoo.record(sys.argv[1], sys.argv[2], seed=3)\n"
        "ours = {'SDL_VIDEODRIVER', 'SDL_AUDIODRIVER'}\n"
        "assert not ours & set(os.environ)\n"  # pygame and Gymnasium set others for good
    )
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("SDL_", "PYGAME_"))}
    done = subprocess.run(
        [sys.executable, "-c", code, run.dir, tmp_path / "film.gif"],
        env=environ, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ALSA" not in done.stderr and "pygame" not in done.stdout.lower()
