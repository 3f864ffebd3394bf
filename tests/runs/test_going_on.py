"""Runs that are stopped, damaged or interrupted anywhere, and go on as if nothing had happened."""

import os
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import tensorflow as tf

import rlzoo
from rlzoo.cli import main
from rlzoo.runs import session
from rlzoo.storage import checkpoint, manifest
from tests.helpers import held_steps
from tests.runs.killed_runs import final_arrays
from tests.runs.test_resume import check_same, metrics

TINY = {
    "learning_starts": 16,
    "batch_size": 8,
    "replay_capacity": 100,
    "torso.sizes": [8],
    "eval_every": 56,
    "eval_episodes": 1,
    "checkpoint_every": 40,
    "log_every": 24,
}
LIMITED = partial(gymnasium.make, "CartPole-v1", max_episode_steps=12)
OF_LOOP = {"host": {"env": LIMITED}, "graph": {"env": "CartPole-v1"}}  # a callable has no port


def train(run_dir: Path, env: Any = LIMITED, steps: int = 160, **overrides: Any) -> rlzoo.Run:
    return rlzoo.train(
        "dqn", env, steps=steps, seed=2, preset=False, overrides={**TINY, **overrides},
        run_dir=run_dir, quiet=True,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["host", pytest.param("graph", marks=pytest.mark.slow)])
def loop(request):
    return request.param


@pytest.fixture(scope="module")
def whole(loop, tmp_path_factory):
    """A run that was never stopped, and saved after every chunk: none is ever removed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "_CALL_SECONDS", 1e-9)
        return train(
            tmp_path_factory.mktemp("whole") / "run", OF_LOOP[loop]["env"],
            checkpoint_minutes=1e-9, keep_checkpoints=1_000,
        )  # fmt: skip


@pytest.fixture(scope="module")
def host_run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("host") / "run")


def copied(run_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_dir, tmp_path / "copy"))


def scalars(run_dir: Path) -> list[tuple[int, str, float]]:
    """Returns what the event files of a run hold, in their order, without times."""
    found = []
    for path in sorted(run_dir.glob("events.*")):
        for record in tf.compat.v1.io.tf_record_iterator(str(path)):
            event = tf.compat.v1.Event.FromString(record)
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
    return [row for row in found if not row[1].startswith(("time/", "_hparams_"))]


def check_same_files(run_dir: Path, other: Path) -> None:
    """Checks that every row is there once, in `metrics.csv` and for TensorBoard."""
    rows = metrics(run_dir)
    assert len({(step, tag) for step, tag, _ in rows}) == len(rows) > 0
    assert rows == metrics(other)
    assert scalars(run_dir) == scalars(other)
    assert [(str(step), tag) for step, tag, _ in scalars(run_dir)] == [row[:2] for row in rows]


def forge(run_dir: Path, change, best: bool = False) -> None:
    """Rewrites the newest checkpoint, as `change(arrays, meta)` alters it, behind a right seal."""
    folder = run_dir / "checkpoints"
    arrays, meta, path = checkpoint.load(folder, best=best)
    change(arrays, meta)
    shutil.rmtree(path)
    meta.pop("versions")
    checkpoint.save(folder, checkpoint.step_of(path), arrays, meta, keep=1_000, best=best)


def damage(run_dir: Path, kind: str, prefix: str) -> None:
    """Flips a bit of an array in the newest checkpoint of a kind."""
    path = max((run_dir / "checkpoints").glob(f"{kind}-*"))
    names = list(checkpoint.load(path.parent, best=kind == "best")[0])
    file = path / f"{next(i for i, n in enumerate(names) if n.startswith(prefix)):04d}.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


# --- exactly once ---


def test_when_it_is_saved_leaves_no_trace(loop, whole, tmp_path):
    """Nor how long the calls of the graph loop are: in `whole` they are of one chunk."""
    seldom = train(tmp_path / "seldom", OF_LOOP[loop]["env"], checkpoint_minutes=0)
    assert len(checkpoint.checkpoints(whole.dir / "checkpoints")) >= 160 / 8
    check_same_files(seldom.dir, whole.dir)
    expected = final_arrays(whole.dir)
    for name, array in final_arrays(seldom.dir).items():
        assert array.tobytes() == expected[name].tobytes(), name


@pytest.mark.parametrize("step", [40, 56])  # amid a row, and where an evaluation was
def test_it_goes_on_from_any_checkpoint(step, loop, whole, tmp_path):
    """The files lie there as a killed run leaves them: longer than at the checkpoint."""
    run_dir = copied(whole.dir, tmp_path)
    for path in checkpoint.checkpoints(run_dir / "checkpoints"):
        if checkpoint.step_of(path) > step:
            shutil.rmtree(path)
    (run_dir / "summary.json").unlink()
    rlzoo.resume(run_dir, quiet=True, env=OF_LOOP[loop]["env"])
    check_same_files(run_dir, whole.dir)
    check_same(run_dir, whole.dir)


def test_a_damaged_array_takes_it_back_in_the_log_too(host_run, tmp_path):
    run_dir = copied(host_run.dir, tmp_path)
    damage(run_dir, "step", "actor/")
    with pytest.warns(UserWarning, match=r"actor/\S+ damaged .*Loaded the older"):
        rlzoo.resume(run_dir, env=LIMITED, quiet=True)
    check_same_files(run_dir, host_run.dir)


def test_a_finished_run_is_finished_again(host_run, tmp_path, capfd):
    run_dir = copied(host_run.dir, tmp_path)
    again = rlzoo.resume(run_dir, env=LIMITED)
    told = "This run is finished: it is at step 160 of 160. Go on with a new total: --steps N."
    assert told in capfd.readouterr().err
    check_same_files(run_dir, host_run.dir)
    for key in ("mean_return", "last_mean_return", "best_step", "steps"):
        assert again.summary[key] == host_run.summary[key]


# --- signals amid evaluations ---


class Signalling(gymnasium.Wrapper):
    """Sends its process a signal at a step of its own, once another one has taken `after` steps."""

    others, after, skipped = 0, 0, 0
    trained_in: "Signalling | None" = None

    def __init__(self, env):
        super().__init__(env)
        self.count = 0

    def step(self, action):
        cls = type(self)
        self.count += 1
        if cls.trained_in is None and self.count > 30:  # no evaluation has so many by then
            cls.trained_in = self
        if self is cls.trained_in:
            cls.others = self.count
        elif cls.others >= cls.after > 0:
            cls.skipped -= 1
            if cls.skipped < 0:
                cls.after = 0
                os.kill(os.getpid(), signal.SIGTERM)
        return self.env.step(action)


@pytest.mark.parametrize(
    ("after", "skipped", "where"),
    [
        (56, 2, "at step 56"),
        pytest.param(160, 2, "at step 160", marks=pytest.mark.slow),
        pytest.param(
            160, 14, "in the last evaluation", marks=pytest.mark.slow
        ),  # an episode has 12 steps at most
    ],
)
def test_an_evaluation_is_broken_off_and_done_later(after, skipped, where, host_run, tmp_path):
    Signalling.others, Signalling.after, Signalling.skipped = 0, after, skipped
    Signalling.trained_in = None
    with pytest.raises(rlzoo.Interrupted, match=f"Interrupted {where}; everything is saved"):
        train(tmp_path / "run", lambda: Signalling(LIMITED()))
    rlzoo.resume(tmp_path / "run", env=LIMITED, quiet=True)
    check_same_files(tmp_path / "run", host_run.dir)
    check_same(tmp_path / "run", host_run.dir)


# --- what is damaged, old, or of another version ---


def test_a_damaged_best_agent_is_chosen_anew(host_run, tmp_path, capfd):
    run_dir = copied(host_run.dir, tmp_path)
    damage(run_dir, "best", "actor/")
    with pytest.warns(UserWarning, match=r"best-\d+: actor/\S+ damaged .*Loaded step-0+160"):
        found = rlzoo.evaluate(run_dir, env=LIMITED, episodes=2)
    assert found == rlzoo.evaluate(run_dir, env=LIMITED, episodes=2, last=True)
    with pytest.warns(UserWarning, match="best-"):
        again = rlzoo.resume(run_dir, env=LIMITED, quiet=True)
    assert again.summary["steps"] == again.summary["best_step"] == 160
    rows = metrics(run_dir)
    assert len({row[:2] for row in rows}) == len(rows)
    rlzoo.load(run_dir, env=LIMITED)  # without a warning: it is whole again


def test_other_versions_are_listed_in_one_line(host_run, tmp_path, monkeypatch):
    run_dir = copied(host_run.dir, tmp_path)
    then = {**manifest.versions(), "keras": "3.1.0", "numpy": "1.26.4", "other": "1"}
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "versions", lambda: then)
        forge(run_dir, lambda arrays, meta: None)
    with pytest.warns(UserWarning) as caught:
        rlzoo.resume(run_dir, env=LIMITED, quiet=True)
    (line,) = [str(w.message) for w in caught if "other versions" in str(w.message)]
    assert "keras 3.1.0 then" in line and "numpy 1.26.4 then" in line and "other 1 then" in line
    assert "tensorflow" not in line and "gymnasium" not in line and "\n" not in line


USES = {
    "resume": rlzoo.resume,
    "load": rlzoo.load,
    "evaluate": partial(rlzoo.evaluate, episodes=1),
    "torso": lambda run_dir, env: rlzoo.load_torso(run_dir),
}


@pytest.mark.parametrize("use", USES)
def test_a_run_of_the_format_of_0_1_0_is_refused_in_one_line(use, host_run, tmp_path):
    run_dir = copied(host_run.dir, tmp_path)
    shutil.rmtree(run_dir / "checkpoints")
    golden = Path(__file__).parents[1] / "storage" / "golden" / "format-1"
    shutil.copytree(golden, run_dir / "checkpoints")
    before = sorted(run_dir.rglob("*"))
    with pytest.raises(ValueError, match=r"format: expected 2, found 1 .*or train anew") as caught:
        USES[use](run_dir, env=LIMITED)
    assert "\n" not in str(caught.value)
    assert sorted(run_dir.rglob("*")) == before


def test_so_is_a_pretraining_run(tmp_path):
    run = rlzoo.pretrain(
        "recall", epochs=1, run_dir=tmp_path / "run", quiet=True, overrides={"examples": 200}
    )
    shutil.rmtree(run.dir / "checkpoints")
    golden = Path(__file__).parents[1] / "storage" / "golden" / "format-1"
    shutil.copytree(golden, run.dir / "checkpoints")
    with pytest.raises(ValueError, match="format: expected 2, found 1 "):
        rlzoo.resume_pretraining(run.dir, epochs=3, quiet=True)


# --- with more or fewer environments ---


def test_it_goes_on_with_another_number_of_environments(whole, loop, tmp_path, capsys):
    run_dir = copied(whole.dir, tmp_path)
    env = OF_LOOP[loop]["env"]
    rlzoo.resume(run_dir, env=env, num_envs=3, steps=220)
    assert "Going on with num_envs 3 after 1: the episodes begin anew" in capsys.readouterr().err
    after, meta, _ = checkpoint.load(run_dir / "checkpoints")
    before = final_arrays(whole.dir)
    assert after["replay/added"] == meta["loop"]["step"] >= 220
    old, new = held_steps(before), held_steps(after)  # of a ring of 100 observations
    assert len(old.keys() & new.keys()) > 20 and max(new) >= 219
    for number in old.keys() & new.keys():
        assert all(map(np.array_equal, old[number], new[number]))
    if loop == "host":  # other episodes than those that were played
        assert min(meta["loop"]["envs"]["episode"]) > 160 // 12
    again = rlzoo.resume(run_dir, env=env, num_envs=1, steps=260, quiet=True)
    assert again.config.num_envs == 1 and again.summary["steps"] >= 260


# --- long episodes ---


class Endless(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(300)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.full(2, action / 300, np.float32), 1.0, False, False, {}


@pytest.mark.filterwarnings("ignore:.*no time limit")
def test_a_long_replay_is_told_of_and_can_be_left(tmp_path, capsys):
    train(tmp_path / "run", Endless, steps=1_200, eval_every=0, checkpoint_every=0, train_every=40)
    path = checkpoint.checkpoints(tmp_path / "run" / "checkpoints")[0]
    arrays = checkpoint.load(path.parent)[0]
    assert arrays["loop/actions"].shape == (1_200,) and arrays["loop/actions"].dtype == np.uint16
    assert (path / "manifest.json").stat().st_size < 20_000
    rlzoo.resume(tmp_path / "run", env=Endless)
    assert "Replaying the actions of the running episodes, 1,200 steps" in capsys.readouterr().err

    class Stopping(Endless):
        sent = False

        def step(self, action):
            if not Stopping.sent:
                Stopping.sent = True
                os.kill(os.getpid(), signal.SIGTERM)
            return super().step(action)

    with pytest.raises(rlzoo.Interrupted, match="amid a replay; nothing is lost"):
        rlzoo.resume(tmp_path / "run", env=Stopping, quiet=True)


# --- forged ---


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("loop.step", -100, "loop.step: expected 0 to"),
        ("loop.step", 170, "holds the step 170, and an agent of step 160"),
        ("loop.seconds", float("nan"), "loop.seconds: expected a float"),
        ("loop.best", "high", "loop.best: expected a float or null, received 'high'"),
        ("loop", [], "loop: expected a mapping"),
        ("loop.envs.lengths", [[]], "loop.envs.lengths: expected a list"),
        ("loop.envs.episode", [float("inf")], "not a state of environments"),
        ("loop.means", {"loss/td": [1]}, "loop.means.loss/td: expected a sum and a weight"),
        ("log.files", {"metrics.csv": -1}, "log.files.metrics.csv: expected 0 to"),
        ("spec", "CartPole", "spec.obs: missing"),
    ],
)
def test_a_forged_checkpoint_is_refused_in_one_line(place, value, words, host_run, tmp_path):
    run_dir = copied(host_run.dir, tmp_path)

    def change(arrays, meta):
        *path, last = place.split(".")
        for key in path:
            meta = meta[key]
        meta[last] = value

    forge(run_dir, change)
    with pytest.raises(ValueError) as caught:
        rlzoo.resume(run_dir, env=LIMITED, quiet=True)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_agent_of_another_step_is_no_endless_loop(whole, loop, tmp_path):
    run_dir = copied(whole.dir, tmp_path)

    def change(arrays, meta):
        arrays["state/2"] = np.int64(-(2**60))  # of steps learned from

    forge(run_dir, change)
    with pytest.raises(ValueError, match=f"and an agent of step {-(2**60)}"):
        rlzoo.resume(run_dir, quiet=True, env=OF_LOOP[loop]["env"])


def test_the_command_says_it_in_one_line(tmp_path, capfd):
    run_dir = tmp_path / "run"
    train(run_dir, "CartPole-v1", steps=40)
    forge(run_dir, lambda arrays, meta: meta["loop"].update(step=True))
    capfd.readouterr()
    assert main(["resume", str(run_dir), "--steps", "50"]) == 2
    err = capfd.readouterr().err
    assert "loop.step: expected a whole number, received True" in err and "Traceback" not in err
