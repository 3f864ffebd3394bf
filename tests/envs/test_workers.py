"""What only processes can do wrong."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
import warnings

import gymnasium
import numpy as np
import psutil
import pytest

from rlzoo.envs import base, make_envs, workers
from tests.env_doubles import ChainEnv, CountingEnv, DyingEnv, false_transitions


class ProcessEnv(ChainEnv):
    """Shows facts about the process it runs in."""

    def __init__(self):
        super().__init__(time_limit=1000)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def _obs(self):
        heavy = any(name in sys.modules for name in ("tensorflow", "keras"))
        return np.array([os.getpid(), heavy, psutil.Process().memory_info().rss / 2**20])


def test_every_environment_has_a_small_process_of_its_own():
    envs = make_envs(ProcessEnv, 3, 0, mode="async", check=False)
    pids, heavy, megabytes = envs.reset().T
    assert len({*pids, os.getpid()}) == 4
    assert not heavy.any()
    assert megabytes.max() < 150
    envs.close()
    assert not any(psutil.pid_exists(int(pid)) for pid in pids)


def shared_memory() -> set[str]:
    return set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()


def children() -> set[int]:
    """Returns the process ids of all that this one has started, and they."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def first_seeds(num_envs: int, seed: int) -> list[int]:
    envs = make_envs(ChainEnv, num_envs, seed)
    envs.reset()
    return [envs.episode_seed(i) for i in range(num_envs)]


def audit(envs, steps: int) -> tuple[list[list[int]], int, np.ndarray]:
    """Steps and looks at every transition.

    Returns:
        Which rows were lost at each step, how many of the others were false, and when each step
        began and ended, [steps, 2], in seconds of the monotonic clock.
    """
    rng = np.random.default_rng(0)
    obs, lost, wrong, times = envs.reset(), [], 0, np.empty((steps, 2))
    for t in range(steps):
        action = rng.integers(3, size=envs.num_envs)
        times[t, 0] = time.monotonic()
        step = envs.step(action)
        times[t, 1] = time.monotonic()
        lost.append(np.flatnonzero(envs.lost).tolist())
        wrong += false_transitions(obs, action, step, lost[-1])
        obs = step.obs
    return lost, wrong, times


@pytest.mark.parametrize("how", ["kill", "segfault", "exit"])
@pytest.mark.parametrize(
    ("method", "steps"),
    [
        ("forkserver", 200),
        # 4 x 5,001 steps, of which 4 are lost: 20,000 transitions.
        *[
            pytest.param(method, 5_001, marks=pytest.mark.slow)
            for method in ("forkserver", "spawn", "fork")
        ],
    ],
)
def test_a_worker_that_dies_is_replaced(method, steps, how, monkeypatch):
    """Each of four once, at different steps: one row of each is lost, nothing is made up."""
    monkeypatch.setattr(workers, "_START_METHOD", method)
    make_envs(ChainEnv, 1, 0, mode="async").close()  # what serves all workers to come stays
    before, segments, seeds = children(), shared_memory(), first_seeds(4, 3)
    deaths = {seed: 40 + 20 * i for i, seed in enumerate(seeds)}
    with pytest.warns(RuntimeWarning, match="Restarting it") as told:
        envs = make_envs(DyingEnv, 4, 3, mode="async", env_kwargs={"at": deaths, "how": how})
        lost, wrong, times = audit(envs, steps)
    assert {t: rows for t, rows in enumerate(lost) if rows} == {39 + 20 * i: [i] for i in range(4)}
    assert wrong == 0 and np.diff(times).max() < 5.0
    how_said = {"kill": "was killed by SIGKILL", "segfault": "by SIGSEGV", "exit": "exit code 7"}
    assert len(told) == 4
    for i, warning in enumerate(told):
        text = str(warning.message)
        assert f"DyingEnv, environment {i}, episode " in text and how_said[how] in text
        assert f"(seed {seeds[i]})" not in text  # by then it is in a later episode
    envs.close()
    assert children() <= before
    assert shared_memory() <= segments


@pytest.mark.parametrize("how", ["hang", pytest.param("hang in c", marks=pytest.mark.slow)])
def test_a_worker_that_hangs_is_replaced(how, tmp_path):
    """With the programs it has started."""
    notes = tmp_path / "tool"
    deaths = {first_seeds(3, 3)[1]: 30}
    env_kwargs = {"at": deaths, "how": how, "notes": str(notes)}
    envs = make_envs(DyingEnv, 3, 3, mode="async", env_kwargs=env_kwargs, step_timeout=1.0)
    with pytest.warns(RuntimeWarning, match=r"environment 1, .*no answer within 1 s.*Restarting"):
        lost, wrong, times = audit(envs, 60)
    assert [rows for rows in lost if rows] == [[1]] and wrong == 0
    assert 1.0 <= np.diff(times).max() < 6.0
    assert not psutil.pid_exists(int(notes.read_text())) or (
        psutil.Process(int(notes.read_text())).status() == psutil.STATUS_ZOMBIE
    )
    envs.close()
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_ten_hangs_of_ten_are_found_and_mended_in_time():
    """Ten environments hang once each, at different steps, with a limit of 2 s."""
    deaths = {seed: 20 + 5 * i for i, seed in enumerate(first_seeds(10, 3))}
    env_kwargs, found = {"at": deaths, "how": "hang"}, []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: found.append((time.monotonic(), str(message)))
        envs = make_envs(DyingEnv, 10, 3, mode="async", env_kwargs=env_kwargs, step_timeout=2.0)
        lost, wrong, times = audit(envs, 80)
    envs.close()
    hung = [19 + 5 * i for i in range(10)]
    assert {t: rows for t, rows in enumerate(lost) if rows} == {t: [i] for i, t in enumerate(hung)}
    assert wrong == 0 and len(found) == 10
    for i, (t, (when, message)) in enumerate(zip(hung, found, strict=True)):
        assert f"environment {i}, " in message and "no answer within 2 s" in message
        assert 2.0 <= when - times[t, 0] < 3.0
        assert np.diff(times[t]) < 7.0


def test_a_step_may_take_any_time_without_a_limit():
    envs = make_envs(CountingEnv, 1, 3, mode="async", step_timeout=0)
    envs.reset()
    assert envs.step([0]).reward[0] == 1
    envs.close()


class NeverStarts(CountingEnv):
    def reset(self, *, seed=None, options=None):
        if multiprocessing.parent_process() is not None:
            os._exit(9)
        return super().reset(seed=seed)


@pytest.mark.filterwarnings("ignore:NeverStarts:RuntimeWarning")
def test_a_crash_loop_ends_with_one_error(monkeypatch):
    """With ever longer pauses, which all workers rest together."""
    monkeypatch.setattr(base, "_BACK_OFF", 0.2)
    envs = make_envs(NeverStarts, 2, 0, mode="async")
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="ended with exit code 9") as caught:
        envs.reset()
    assert 0.2 + 0.4 < time.monotonic() - started < 30
    assert "restarted 3 times within an hour already" in caught.value.__notes__[0]
    envs.close()
    assert not multiprocessing.active_children()


def test_a_dead_worker_is_dropped_where_all_faults_are():
    deaths = {first_seeds(2, 3)[0]: 5}
    envs = make_envs(DyingEnv, 2, 3, mode="async", env_kwargs={"at": deaths}, on_env_error="drop")
    with pytest.warns(RuntimeWarning, match="environment 0, .*Dropping it"):
        lost, wrong, _ = audit(envs, 20)
    assert lost == [[]] * 4 + [[0]] * 16 and wrong == 0
    envs.close()


def test_box_actions_reach_the_workers():
    both = [make_envs("Pendulum-v1", 2, 3, mode=mode) for mode in ("sync", "async")]
    np.testing.assert_array_equal(*[envs.reset() for envs in both])
    for _ in range(5):
        steps = [envs.step(np.full((2, 1), 1.25, np.float32)) for envs in both]
        for a, b in zip(*steps, strict=True):
            np.testing.assert_array_equal(a, b)
    both[1].close()


@pytest.mark.parametrize("dtype", ["float16", "bool", "uint64"])
def test_any_dtype_is_shared(dtype):
    class Typed(ChainEnv):
        def __init__(self):
            super().__init__()
            self.observation_space = gymnasium.spaces.Box(0, 1, (2, 1), np.dtype(dtype))

        def _obs(self):
            return np.array([[0], [1]], dtype)

    envs = make_envs(Typed, 2, 0, mode="async", check=False)
    assert envs.reset().dtype == dtype
    assert envs.step([0, 1]).obs.tolist() == [[[0], [1]]] * 2
    envs.close()


def test_workers_end_with_the_object_that_nobody_closed():
    envs = make_envs(ChainEnv, 2, 0, mode="async")
    envs.reset()
    processes = multiprocessing.active_children()
    assert len(processes) == 2
    del envs
    gc.collect()
    assert not any(process.is_alive() for process in processes)


def script(tmp_path, body: str) -> str:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(body), encoding="utf-8")
    return str(path)


# Its classes are known nowhere else, it has no main guard, and it says when it is imported.
SCRIPT = """
    import ctypes, os, sys, time
    import gymnasium, numpy as np
    from rlzoo.envs import make_envs
    print("imported", flush=True)

    class OwnError(Exception):
        def __init__(self, one, two):
            super().__init__(one + two)

    class Own(gymnasium.Env):
        observation_space = gymnasium.spaces.Discrete(5)
        action_space = gymnasium.spaces.Discrete(2)
        def reset(self, *, seed=None, options=None):
            return 0, {}
        def step(self, action):
            if action:
                raise OwnError("a", "b")
            return 1, 0.0, False, False, {}

    gymnasium.register("Own-v0", entry_point=Own, max_episode_steps=5)
    envs = make_envs("Own-v0", 2, 0, mode="async", check=False)
    envs.reset()
    envs.step([0, 0])
"""


def test_a_script_without_a_main_guard_is_not_imported_again(tmp_path):
    body = (
        SCRIPT
        + """
    try:
        envs.step([0, 1])
    except OwnError as error:
        print(error, "environment 1" in error.__notes__[0])
    envs.close()
    """
    )
    run = subprocess.run(
        [sys.executable, script(tmp_path, body)], capture_output=True, text=True, timeout=60
    )
    assert run.stderr == ""
    assert run.stdout == "imported\nab True\n"


# Not by the environment that is asked for its spaces, in the script itself.
STARTED = "multiprocessing.parent_process() and subprocess.Popen(['sleep', '60'])"
IN_C = "ctypes.PyDLL(None).sleep(60)"  # lets no other Python code run


@pytest.mark.parametrize(
    ("times", "busy"),
    [
        (2, IN_C),
        pytest.param(20, IN_C, marks=pytest.mark.slow),
        pytest.param(20, "time.sleep(60)", marks=pytest.mark.slow),
        pytest.param(20, "pass", marks=pytest.mark.slow),
    ],
)
def test_nothing_outlives_a_killed_parent(times, busy, tmp_path):
    """No worker, not even one that hangs, and no program that one has started."""
    for _ in range(times // 2):  # two at once
        parents, families = zip(*[start(tmp_path, busy) for _ in range(2)], strict=True)
        for process in parents:
            process.kill()
        _, alive = psutil.wait_procs([*families[0], *families[1]], timeout=5)
        assert not alive
        for process in parents:
            process.wait()
            process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_the_parents_to_handle(number, tmp_path):
    """Sent to all processes, as by a system that shuts down, or to the group, as by a terminal."""
    process, family = start(tmp_path, "pass")
    assert process.stdout.readline() == "waits\n"
    for child in family:
        child.send_signal(number)
    os.killpg(process.pid, number)
    assert "finished True" in process.stdout.read()
    process.wait(10)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    process.stdout.close()


def start(tmp_path, busy):
    """Starts a script with two workers, each of which starts a program; then one is busy.

    Returns the script's process and all that have come of it.
    """
    body = (
        SCRIPT.replace("return 0, {}", f"{STARTED}; return 0, {{}}")
        .replace('raise OwnError("a", "b")', f"print('busy', flush=True); {busy}")
        .replace("import ctypes", "import subprocess, multiprocessing, ctypes")
        + """
    import signal
    for number in (signal.SIGINT, signal.SIGTERM):  # a background job ignores the first
        signal.signal(number, signal.default_int_handler)
    try:
        envs.step([0, 1])
        print("waits", flush=True)
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        print("finished", envs.step([0, 0]).obs.tolist() == [1, 1])
        envs.close()
    """
    )
    process = subprocess.Popen(
        [sys.executable, script(tmp_path, body)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "imported\n"
    assert process.stdout.readline() == "busy\n"
    family = psutil.Process(process.pid).children(recursive=True)
    assert [child.name() for child in family].count("sleep") == 2
    return process, family
