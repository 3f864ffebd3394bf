"""What only processes can do wrong."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import gymnasium
import numpy as np
import psutil
import pytest

from rlzoo.envs import make_envs
from tests.env_doubles import ChainEnv


class ProcessEnv(ChainEnv):
    """Shows facts about the process it runs in."""

    def __init__(self):
        super().__init__(time_limit=1000)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def _obs(self):
        heavy = any(name in sys.modules for name in ("tensorflow", "keras"))
        return np.array([os.getpid(), heavy, psutil.Process().memory_info().rss / 2**20])


class DyingEnv(ChainEnv):
    def step(self, action):
        if multiprocessing.parent_process() is not None and self.time == 2:
            os._exit(7)
        return super().step(action)


def test_every_environment_has_a_small_process_of_its_own():
    envs = make_envs(ProcessEnv, 3, 0, mode="async", check=False)
    pids, heavy, megabytes = envs.reset().T
    assert len({*pids, os.getpid()}) == 4
    assert not heavy.any()
    assert megabytes.max() < 150
    envs.close()
    assert not any(psutil.pid_exists(int(pid)) for pid in pids)


def test_a_worker_that_dies_is_named():
    envs = make_envs(DyingEnv, 2, 0, mode="async", check=False)
    envs.reset()
    with pytest.raises(RuntimeError, match=r"DyingEnv: .*environment 0 \(exit code 7\), 1 \(exit"):
        for _ in range(4):
            envs.step([0, 0])
    envs.close()
    assert not multiprocessing.active_children()


def script(tmp_path, body: str) -> str:
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(body), encoding="utf-8")
    return str(path)


# Its classes are known nowhere else, it has no main guard, and it says when it is imported.
SCRIPT = """
    import os, sys, time
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


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_no_worker_outlives_a_killed_parent(tmp_path):
    process, workers = start_and_list_workers(tmp_path)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    process.stdout.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_is_the_parents_to_handle(tmp_path):
    process, workers = start_and_list_workers(tmp_path)
    for worker in workers:
        worker.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert all(worker.is_running() for worker in workers)
    process.send_signal(signal.SIGINT)
    assert "finished True" in process.stdout.read()
    process.wait(10)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    process.stdout.close()


def start_and_list_workers(tmp_path):
    body = (
        SCRIPT
        + """
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    print("ready", flush=True)
    try:
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        print("finished", envs.step([0, 0]).obs.tolist() == [1, 1])
        envs.close()
    """
    )
    process = subprocess.Popen(
        [sys.executable, script(tmp_path, body)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "imported\n"
    assert process.stdout.readline() == "ready\n"
    family = psutil.Process(process.pid).children(recursive=True)
    server = [child for child in family if child.children()]
    workers = [worker for child in server for worker in child.children()] or family
    assert len(workers) == 2
    return process, workers
