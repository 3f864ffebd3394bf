"""A folder in which a run failed before it had trained is free for the next one."""

import dataclasses

import pytest
import tensorflow as tf

import rlzoo
from rlzoo.exploration import Exploration
from rlzoo.runs.claim import claim
from rlzoo.storage import files
from tests.env_doubles import ChainEnv
from tests.runs.killed_runs import final_arrays

TINY = {"eval_every": 0, "eval_episodes": 1, "log_every": 20}


class Breaks(ChainEnv):
    """Raises at a step of its life."""

    def __init__(self, at=8):
        super().__init__(num_states=3)
        self.steps, self.at = 0, at

    def step(self, action):
        self.steps += 1
        if self.steps == self.at:
            raise RuntimeError("a bug")
        return super().step(action)


def mended():
    return ChainEnv(num_states=3)


def broken_late():
    return Breaks(at=90)


def train(run_dir, env, **settings):
    settings = {"steps": 100, "preset": False, "quiet": True, "overrides": TINY, **settings}
    return rlzoo.train("dyna_q", env, run_dir=run_dir, **settings)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@dataclasses.dataclass(frozen=True)
class Late(Exploration):
    """Fails when it is compiled for training, not before."""

    def log_probs(self, scores, state, step):
        return tf.nn.log_softmax(scores)

    def observe(self, state, chunk):
        raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("env", "settings"), [(Breaks, {"steps": 60}), (mended, {"exploration": Late()})]
)
def test_a_run_that_failed_at_once_gives_way_to_the_next(env, settings, tmp_path):
    with pytest.raises(RuntimeError, match="a bug"):
        train(tmp_path / "run", env, **settings)
    (tmp_path / "run" / "notes.txt").write_text("of the user")
    with pytest.warns(UserWarning, match="had trained nothing; it gives way"):
        run = train(tmp_path / "run", mended)
    other = train(tmp_path / "other", mended)
    found, expected = final_arrays(run.dir), final_arrays(other.dir)
    assert all(found[name].tobytes() == array.tobytes() for name, array in expected.items())
    assert run.config == other.config and run.summary["steps"] == 100
    assert (tmp_path / "run" / "notes.txt").exists()
    assert len(list(run.dir.glob("events.out.tfevents.*"))) == 1


def test_a_run_that_has_trained_is_left_alone(tmp_path):
    with pytest.raises(RuntimeError, match="a bug"):
        train(tmp_path, broken_late)  # its only checkpoint is that of step 0
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="holds a run already"):
        train(tmp_path, mended)
    assert contents(tmp_path) == before


def test_a_configuration_that_was_only_prepared_is_left_alone(tmp_path):
    (tmp_path / "config.yaml").write_text("agent: dqn\n")
    with pytest.raises(ValueError, match="holds a run already"):
        train(tmp_path, mended)
    assert (tmp_path / "config.yaml").read_text() == "agent: dqn\n"


def test_several_seeds_give_way_together_or_not_at_all(tmp_path):
    for seed in (0, 1):
        with pytest.raises(RuntimeError, match="a bug"):
            train(tmp_path / f"s{seed}", Breaks, seed=seed)
    train(tmp_path / "s2", mended, seed=2)
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"holds runs already.* go on with them: rlzoo resume X"):
        claim(tmp_path, "rlzoo resume X", files.seed_dirs(tmp_path).values())
    assert contents(tmp_path) == before
    (tmp_path / "s2").rename(tmp_path / "kept")
    with pytest.warns(UserWarning, match="gives way"):
        claim(tmp_path, "rlzoo resume X", files.seed_dirs(tmp_path).values())
    assert files.seed_dirs(tmp_path) == {}
