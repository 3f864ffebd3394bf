"""What goes wrong in a run: the learner is kept from it, and the last checkpoint is good."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import tensorflow as tf

import rlzoo
from rlzoo.cli import main
from rlzoo.envs.ports import PORTS
from rlzoo.envs.ports.cartpole import CartPole
from rlzoo.runs.stop import Stop
from rlzoo.storage import checkpoint
from tests.env_doubles import ChainEnv, CountingEnv, FaultyEnv
from tests.helpers import held_steps
from tests.loops.test_host import episode_seed, genuine
from tests.runs.killed_runs import final_arrays
from tests.runs.test_resume import check_same

ROOT = Path(__file__).parents[2]
DQN = {
    "learning_starts": 16,
    "batch_size": 8,
    "replay_capacity": 400,
    "torso.sizes": [8],
    "exploration.epsilon": 0.5,  # by default it falls within a fifth of `steps`
    "eval_every": 24,
    "eval_episodes": 1,
    "checkpoint_every": 8,
    "log_every": 24,
}
SEED = 9


def faulty(env: int, episode: int, **kwargs):
    """Returns a maker of environments of which one fails at step 4 of one episode."""
    where = episode_seed(SEED, env, episode)
    return partial(FaultyEnv, **{"at": 4, "only_seed": where, "length": 6, **kwargs})


def train(env, run_dir, *, agent="dqn", overrides=DQN, steps=120, **kwargs):
    return rlzoo.train(
        agent, env, run_dir=run_dir, seed=SEED, overrides=overrides, steps=steps, preset=False,
        quiet=True, **kwargs,
    )  # fmt: skip


def check_good(run_dir: Path) -> dict[str, np.ndarray]:
    """Checks that a run's checkpoints are whole and finite; returns the newest one's arrays."""
    directory = run_dir / "checkpoints"
    for best in (True, False):
        for path in checkpoint.checkpoints(directory, best=best):
            for file in path.glob("*.npy"):
                array = np.load(file, allow_pickle=False)
                assert array.dtype.kind != "f" or np.isfinite(array).all(), file
    assert not list(directory.glob(".tmp-*"))
    return final_arrays(run_dir)


# --- environments that fail ---


def test_a_bad_number_stops_the_run_and_goes_nowhere(tmp_path):
    with pytest.raises(ValueError) as caught:
        train(faulty(1, 5, kind="nan_obs"), tmp_path, num_envs=2)
    message = str(caught.value)
    assert "environment 1" in message and "step 4" in message
    assert f"seed {episode_seed(SEED, 1, 5)}" in message
    assert "obs[1] is nan" in message

    arrays = check_good(tmp_path)
    meta = checkpoint.load(tmp_path / "checkpoints")[1]
    step = meta["loop"]["step"]
    # Episode 5 of environment 1 starts at step 60 and fails at 67: chunks are of 8 steps.
    steps = held_steps(arrays)
    assert step == 64 and list(steps) == list(range(64))
    for obs, action, reward, _, next_obs in steps.values():
        assert genuine(obs, action, reward, next_obs)

    # With the fault repaired, the run goes on as if there had been none.
    healthy = partial(FaultyEnv, kind="none", length=6)
    resumed = rlzoo.resume(tmp_path, env=healthy, quiet=True)
    whole = train(healthy, tmp_path / "whole", num_envs=2)
    check_same(resumed.dir, whole.dir)


@pytest.mark.slow
def test_restarting_is_repeated_exactly_after_a_resume(tmp_path):
    """The fault lies before the checkpoint: the environments come back to where they were."""
    env = faulty(1, 2, kind="raise")
    with pytest.warns(RuntimeWarning, match="Restarting it"):
        whole = train(
            env, tmp_path / "whole", num_envs=2, overrides={**DQN, "on_env_error": "restart"}
        )
    with pytest.warns(RuntimeWarning, match="Restarting it"):
        train(
            env,
            tmp_path / "parts",
            num_envs=2,
            overrides={**DQN, "on_env_error": "restart"},
            steps=72,
        )
    resumed = rlzoo.resume(tmp_path / "parts", env=env, steps=120, quiet=True)
    found, expected = final_arrays(resumed.dir), final_arrays(whole.dir)
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes(), name
    assert expected["replay/added"] == whole.summary["steps"]


@pytest.mark.parametrize(
    ("agent", "overrides"),
    [
        ("dqn", {**DQN, "on_env_error": "drop"}),
        pytest.param(
            "reinforce",
            {"torso.sizes": [8], "eval_every": 0, "on_env_error": "drop"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_goes_on_without_a_dropped_environment(agent, overrides, tmp_path):
    env = partial(limited, kind="raise", at=4, only_seed=episode_seed(SEED, 0, 2), length=6)
    with pytest.warns(RuntimeWarning, match="Dropping it"):
        run = train(env, tmp_path, agent=agent, overrides=overrides, num_envs=2)
    assert run.summary["steps"] >= 120
    meta = checkpoint.load(tmp_path / "checkpoints")[1]["loop"]
    assert meta["envs"]["retired"] == [True, False]
    resumed = rlzoo.resume(tmp_path, env=env, steps=140, quiet=True)
    assert resumed.summary["steps"] >= 140
    check_good(tmp_path)


def limited(**kwargs):
    return gymnasium.wrappers.TimeLimit(FaultyEnv(**kwargs), 50)


@pytest.mark.parametrize("kind", [pytest.param("sys_exit", marks=pytest.mark.slow), "broken_pipe"])
def test_no_end_of_an_environment_passes_for_success(kind, tmp_path, capfd):
    """Some leave when their window is closed, or lose the program behind their pipe."""
    here = "tests.env_doubles:Faulty-v0"
    line = f"train dqn {here} --loop host --steps 60 --set env.kind={kind} --set learning_starts=16"
    line += " --set batch_size=8 --set torso.sizes=[8] --set eval_every=0 --json --set env.at=9"
    assert main([*line.split(), "--run-dir", str(tmp_path / "run")]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    told = err.splitlines()[-1]
    assert "Faulty-v0, environment 0, episode 0" in told and "To replay" in told
    assert ("called sys.exit(0)" if kind == "sys_exit" else "BrokenPipeError") in told


# --- agents that diverge ---


class Overflowing(CountingEnv):
    """Its rewards are as large as a float32 can be."""

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 3e38, *rest


class Huge(ChainEnv):
    """Its returns have a finite mean square, but no finite gradient of it."""

    def __init__(self):
        super().__init__(time_limit=3)
        self.observation_space = gymnasium.spaces.Box(0, 100, (4,))
        self.spec = gymnasium.envs.registration.EnvSpec("Huge-v0", max_episode_steps=3)

    def _obs(self):
        return np.full(4, 100, np.float32)

    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, 1e18, *rest


LIMITED = partial(gymnasium.make, "CartPole-v1", max_episode_steps=12)
REINFORCE = {"torso.sizes": [8], "eval_every": 0, "eval_episodes": 1, "checkpoint_every": 1}


@pytest.mark.parametrize(
    ("agent", "env", "overrides", "metric"),
    [
        ("dqn", LIMITED, {**DQN, "learning_rate": 1e38}, "loss/td"),
        ("dqn", Overflowing, {**DQN, "loss": "squared"}, "loss/td"),
        ("dqn", "CartPole-v1", {**DQN, "learning_rate": 1e38}, "loss/td"),  # in the graph loop
        ("reinforce", LIMITED, {**REINFORCE, "learning_rate": 1e38}, "loss/policy"),
        ("reinforce", LIMITED, {**REINFORCE, "value_learning_rate": 1e38}, "loss/value"),
    ],
)
def test_divergence_stops_the_run(agent, env, overrides, metric, tmp_path):
    with pytest.raises(FloatingPointError, match=rf"{metric}.*at update \d+.*last checkpoint"):
        train(env, tmp_path, agent=agent, overrides=overrides, steps=400)
    check_good(tmp_path)


class Breaking(CartPole):
    """A port whose rewards are lost where the pole leans far."""

    def step(self, state, action, seed):
        state, reward, terminated = super().step(state, action, seed)
        return state, tf.where(tf.abs(state.theta) > 0.2, np.nan, reward), terminated


def test_a_bad_number_in_the_graph_loop_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(PORTS, "CartPole-v1", Breaking)
    with pytest.raises(FloatingPointError, match=r"Environment \d returned a reward .*good"):
        train("CartPole-v1", tmp_path, num_envs=2, steps=4_000)
    before = check_good(tmp_path)
    assert before["replay/added"] > 0
    monkeypatch.undo()
    resumed = rlzoo.resume(tmp_path, steps=80, quiet=True)  # it is repaired
    assert resumed.summary["steps"] >= 80


def test_weights_that_overflow_in_their_last_update_are_not_saved(tmp_path):
    """No metric of that update shows it: the loss is finite, its gradient is not."""
    overrides = {**REINFORCE, "value_updates": 1}
    with pytest.raises(
        FloatingPointError, match=r"value_network/\S+ holds NaN.*diverged.*last one"
    ):
        train(Huge, tmp_path, agent="reinforce", overrides=overrides, steps=400)
    check_good(tmp_path)


def test_a_failure_to_save_is_no_bad_input(tmp_path, monkeypatch, capfd):
    """Weights can overflow in the very update that is saved: also then the exit code is 1."""
    line = "train dqn CartPole-v1 --steps 200 --set learning_rate=1e38 --set learning_starts=16"
    line += " --set batch_size=8 --set checkpoint_every=4 --set eval_every=0 --no-preset --json"
    assert main([*line.split(), "--run-dir", str(tmp_path / "run")]) == 1
    assert "diverged" in capfd.readouterr().err.splitlines()[-1]
    check_good(tmp_path / "run")


# --- signals ---


def start(line: str, **kwargs) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from rlzoo.cli import main; sys.exit(main())",
         *line.split()],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, **kwargs,
    )  # fmt: skip


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def children(pid: int) -> set[int]:
    import psutil

    return {child.pid for child in psutil.Process(pid).children(recursive=True)}


def all_end(pids: set[int], seconds: float = 5) -> bool:
    """Tells whether processes end, within a while. One that nobody waits for is a zombie."""
    import psutil

    def runs(pid):
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    deadline = time.monotonic() + seconds
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(runs, pids))


SETTINGS = """--num-envs 2 --no-preset --set learning_starts=64 --set batch_size=8
    --set replay_capacity=1000 --set torso.sizes=[8] --set eval_every=400 --set eval_episodes=2
    --set log_every=400 --seed 5"""


@pytest.mark.slow
def test_sigterm_loses_nothing(tmp_path):
    """Stopped anywhere and resumed, the run ends as one that was never stopped, bit for bit.

    The signal goes to the processes of the environments as well, as from `timeout` or systemd.
    """
    run_dir = tmp_path / "run"
    process = start(
        f"train dqn CartPole-v1 {SETTINGS} --vector async --steps 1000000 --run-dir {run_dir}",
        start_new_session=True,
    )
    wait_for(lambda: list((run_dir / "checkpoints").glob("best-*")), process)
    workers = children(process.pid)
    assert len(workers) >= 2
    for worker in workers:
        os.kill(worker, signal.SIGTERM)
    os.killpg(process.pid, signal.SIGTERM)
    asked = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143 and time.monotonic() - asked < 10
    step = int(re.search(r"Interrupted at step ([\d,]+);", err)[1].replace(",", ""))
    assert f"rlzoo resume {run_dir}" in err.splitlines()[-1]
    assert checkpoint.load(run_dir / "checkpoints")[1]["loop"]["step"] == step
    assert all_end(workers)

    steps = step + 500
    rlzoo.resume(run_dir, steps=steps, quiet=True)
    whole = rlzoo.train(
        config=run_dir / "config.yaml", steps=steps, vector="sync", run_dir=tmp_path / "whole",
        quiet=True,
    )  # fmt: skip
    found, expected = final_arrays(run_dir), final_arrays(whole.dir)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].tobytes() == array.tobytes(), name


STUCK = """
import gymnasium, hashlib, pathlib, time

class Stuck(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low, {}

    def step(self, action):
        Stuck.count += 1
        if Stuck.count == 250:
            pathlib.Path(r"NOTE").touch()
            HANG
        return self.observation_space.low, 0.0, False, False, {}

gymnasium.register("Stuck-v0", Stuck, max_episode_steps=40)
"""


def start_stuck(tmp_path, vector, hang):
    (tmp_path / "stuck_env.py").write_text(
        STUCK.replace("NOTE", str(tmp_path / "stuck")).replace("HANG", hang)
    )
    return start(
        f"train dqn stuck_env:Stuck-v0 {SETTINGS} --vector {vector} --set checkpoint_every=40 "
        f"--steps 1000 --run-dir {tmp_path / 'run'} --set eval_every=0",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "hang", ["time.sleep(100)", "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"], ids=["py", "c"]
)
def test_one_signal_ends_a_hung_run(hang, tmp_path):
    """Also where it hangs in a library of C, in which Python cannot raise anything."""
    process = start_stuck(tmp_path, "sync", hang)
    wait_for((tmp_path / "stuck").exists, process)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143 and time.monotonic() - asked < 10
    assert "what came after the last checkpoint is lost" in err and "Traceback" not in err
    assert checkpoint.load(tmp_path / "run" / "checkpoints")[1]["loop"]["step"] >= 40


def test_the_signals_of_a_process_that_an_environment_forks_are_its_own():
    """They end that process, and do not stop the run."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    with Stop() as stop:
        child.start()
        child.terminate()
        child.join(10)
        assert child.exitcode == -signal.SIGTERM
        time.sleep(0.1)
        assert stop.signal == 0
        signal.raise_signal(signal.SIGTERM)
        assert stop.signal == signal.SIGTERM


@pytest.mark.parametrize("vector", ["sync", pytest.param("async", marks=pytest.mark.slow)])
def test_a_second_ctrl_c_ends_at_once(vector, tmp_path):
    """Also while an environment does not answer, so that the loop cannot come to its end."""
    note, run_dir = tmp_path / "stuck", tmp_path / "run"
    process = start_stuck(tmp_path, vector, "time.sleep(100)")
    wait_for(note.exists, process)
    workers = children(process.pid)
    process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None  # it waits for the update to end, and says so
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - asked < 25  # the step takes 100 s
    assert "once more to stop at once" in err and "Traceback" not in err
    assert checkpoint.load(run_dir / "checkpoints")[1]["loop"]["step"] >= 40
    assert all_end(workers)


# --- several runs, one after the other, leave nothing behind ---


def test_handlers_and_threads_are_given_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    train(
        partial(ChainEnv, num_states=3), tmp_path / "one", agent="dyna_q",
        overrides={"eval_episodes": 1}, steps=10,
    )  # fmt: skip
    with pytest.raises(ValueError, match="nan"):
        train(partial(FaultyEnv, kind="nan_obs", at=1), tmp_path / "two")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert not (tmp_path / "one" / "run.lock").exists()
    assert not (tmp_path / "two" / "run.lock").exists()
