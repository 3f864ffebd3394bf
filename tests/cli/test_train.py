"""The command line with training: what a user types, from `train` to `record`."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from rlzoo.cli import main
from rlzoo.envs.ports import PORTS
from rlzoo.exploration import EXPLORATIONS
from tests.loops.test_graph import InPython

QUICK = """--steps 400 --seed 3 --set learning_starts=100 --set batch_size=16
    --set train_every=4 --set updates_per_chunk=1
    --set eval_every=200 --set eval_episodes=2 --set log_every=100 --set torso.sizes=[8]
    """


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with one short run, made in a process of its own, and what that printed."""
    folder = tmp_path_factory.mktemp("trained")
    code = "import sys; from rlzoo.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "dqn", "CartPole-v1", *QUICK.split(), "--json"],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=240,
        env={key: value for key, value in os.environ.items() if key != "TF_CPP_MIN_LOG_LEVEL"},
    )
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.fixture
def run(trained, monkeypatch):
    """The run's folder, from the folder that holds it."""
    folder, done = trained
    monkeypatch.chdir(folder)
    return json.loads(done.stdout)["run_dir"]


def test_json_is_all_of_standard_output(trained):
    _, done = trained
    assert done.stdout.count("\n") == 1
    summary = json.loads(done.stdout)
    assert {"run_dir", "steps", "seconds", "steps_per_second"} <= set(summary)
    assert {"mean_return", "std_return", "last_mean_return", "episodes"} <= set(summary)
    assert summary["steps"] == 400
    assert "oneDNN" not in done.stderr and "cuInit" not in done.stderr


def test_the_run_leaves_its_files(run):
    assert run.startswith(os.path.join("runs", "CartPole-v1", "dqn", ""))
    files = set(os.listdir(run))
    assert {"config.yaml", "metrics.csv", "checkpoints", "curve.png", "summary.json"} <= files
    assert any(name.startswith("events.") for _, _, names in os.walk(run) for name in names)
    with open(f"{run}/config.yaml") as file:
        saved = yaml.safe_load(file)
    assert saved["seed"] == 3 and saved["torso"]["sizes"] == [8]
    assert saved["agent_params"]["batch_size"] == 16
    with open(f"{run}/metrics.csv") as file:
        assert len(list(csv.DictReader(file))) > 2


def test_evaluate(run, capfd):
    assert main(["evaluate", run, "--episodes", "3", "--seed", "1", "--json"]) == 0
    first = json.loads(capfd.readouterr().out)
    assert first["episodes"] == 3 and len(first["returns"]) == 3
    assert main(["evaluate", run, "--episodes", "3", "--seed", "1"]) == 0
    assert f"mean return {first['mean_return']:.2f}" in capfd.readouterr().out
    summary = json.loads(Path(run, "summary.json").read_text())
    for flag, name in (([], "mean_return"), (["--last"], "last_mean_return")):
        assert main(["evaluate", run, "--episodes", "2", "--json", *flag]) == 0
        assert json.loads(capfd.readouterr().out)["mean_return"] == summary[name]
    assert summary["mean_return"] != summary["last_mean_return"]


def test_evaluate_in_another_environment(run, capfd):
    assert main(["evaluate", run, "--env", "CartPole-v0", "--episodes", "2", "--json"]) == 0
    capfd.readouterr()
    assert main(["evaluate", run, "--env", "Acrobot-v1"]) == 2
    assert "spec.action.Discrete.n" in capfd.readouterr().err
    assert main(["evaluate", run, "--env", "CartPol-v1"]) == 2
    assert "'CartPole-v1'" in capfd.readouterr().err


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_record(run, kind, tmp_path, capfd):
    film = tmp_path / f"film.{kind}"
    assert main(["record", run, "-o", str(film)]) == 0
    assert str(film) in capfd.readouterr().out
    assert film.stat().st_size > 1_000


def test_resume_to_a_new_total(run, capfd):
    assert main(["resume", run, "--steps", "600"]) == 0
    out, _ = capfd.readouterr()
    assert "best: mean return" in out and f"rlzoo evaluate {run}" in out
    assert main(["train", "dqn", "CartPole-v1", *QUICK.split(), "--run-dir", run]) == 2
    assert f"rlzoo resume {run}" in capfd.readouterr().err


def test_a_configuration_file_repeats_the_run(trained, run, tmp_path, capfd):
    first = json.loads(trained[1].stdout)
    again = tmp_path / "again"
    arguments = ["--config", run, "--steps", "400", "--run-dir", str(again), "--json"]
    assert main(["train", *arguments]) == 0
    second = json.loads(capfd.readouterr().out)
    for name in ("mean_return", "last_mean_return", "best_step"):
        assert second[name] == first[name]


@pytest.mark.parametrize("exploration", ["greedy", "softmax", "epsilon_softmax"])
def test_another_strategy_is_one_flag(exploration, tmp_path, capfd):
    short = f"{QUICK} --set eval_every=0 --steps 150 --run-dir {tmp_path / 'run'} --json".split()
    assert main(["train", "dqn", "CartPole-v1", *short, "--exploration", exploration]) == 0
    assert json.loads(capfd.readouterr().out)["steps"] >= 150


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("dqnn CartPole-v1", "Did you mean 'dqn'"),
        ("dqn CartPol-v1", "'CartPole-v1'"),
        ("dqn CartPole-v1 --exploration sofmax", "Did you mean 'softmax'"),
        ("dqn CartPole-v1 --torso lsmt", "Did you mean 'lstm'"),
        ("dyna_q CartPole-v1 --torso lstm", "recurrent torso"),
        ("dqn CartPole-v1 --set learning_rte=1", "'learning_rate'"),
        ("dqn CartPole-v1 --set learning_rate=abc", "learning_rate: expected a float"),
        ("dqn CartPole-v1 --loop graph --vector async", "--loop host"),
        ("dqn Pendulum-v1", "Box"),
        ("dqn no.such.module:Env-v0", "no.such.module"),
        ("--config no.yaml", "There is no file no.yaml"),
        ("--config /dev/zero", "expected a file, found a pipe or device"),
        (f"--config {'x' * 5_000}", "There is no file xxx"),
        (f"dqn CartPole-v1 --torso-from {'ab/' * 2_000}", "no folder of a run"),
    ],
)
def test_bad_input_is_one_line(line, message, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["train", *line.split()])
    except SystemExit as left:
        code = left.code
    out, err = capfd.readouterr()
    assert code == 2 and out == ""
    last = err.splitlines()[-1]
    assert last.startswith("rlzoo: error: ") and message in last
    assert "Traceback" not in err


def test_an_environment_without_a_port_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(PORTS, "CartPole-v1")
    assert main("train dqn CartPole-v1 --loop graph".split()) == 2
    assert "CartPole-v1 has no port" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("loop", ["host", "graph"])
def test_what_xla_cannot_compile_is_one_line(loop, tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(EXPLORATIONS, "in_python", InPython)
    line = "train reinforce CartPole-v1 --exploration in_python --steps 400"
    line += f" --set torso.sizes=[8] --no-preset --loop {loop} --run-dir {tmp_path / 'run'}"
    assert main(line.split()) == 2
    err = capfd.readouterr().err
    last = err.splitlines()[-1]
    assert "rlzoo: error: XLA cannot compile EagerPyFunc" in last and "in in_python" in last
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)],
)
def test_a_stopped_run_is_saved_and_can_go_on(number, code, tmp_path, monkeypatch, capfd):
    program = "import sys; from rlzoo.cli import main; sys.exit(main())"
    run = tmp_path / "run"
    line = f"train dqn CartPole-v1 {QUICK} --steps 1000000 --run-dir {run} --json"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *line.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    evaluated = run / "checkpoints"
    deadline = time.monotonic() + 120
    while not list(evaluated.glob("best-*")) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    asked = time.monotonic()
    out, err = process.communicate(timeout=60)
    assert process.returncode == code and time.monotonic() - asked < 10
    assert out == "" and "Traceback" not in err
    assert err.splitlines()[-1].startswith("rlzoo: Interrupted at step")
    assert f"rlzoo resume {run}" in err
    step = int(err.rsplit("at step ")[-1].split(";")[0])
    assert main(["resume", str(run), "--steps", str(step + 50), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["steps"] >= step + 50


FAULTY = """
import gymnasium

class Faulty(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low, {}

    def step(self, action):
        Faulty.count += 1
        if Faulty.count == 300:
            raise KeyError("the simulator lost its way")
        return self.observation_space.low, 0.0, False, Faulty.count % 50 == 0, {}

gymnasium.register("FaultyForCli-v0", Faulty, max_episode_steps=60)
"""


@pytest.mark.parametrize("vector", ["sync", pytest.param("async", marks=pytest.mark.slow)])
def test_a_failing_environment_is_named_with_step_and_seed(vector, tmp_path, monkeypatch, capfd):
    """Once, under the lines of the environment that failed, without any of rlzoo's."""
    (tmp_path / "faulty_for_cli.py").write_text(FAULTY)
    monkeypatch.syspath_prepend(tmp_path)
    arguments = f"{QUICK} --steps 1000 --run-dir {tmp_path / 'run'} --json".split()
    env = ["faulty_for_cli:FaultyForCli-v0", "--vector", vector]
    assert main(["train", "dqn", *env, *arguments]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("the simulator lost its way") == 2  # in the line that raised it, and said
    heading, *trace, last = err[err.index("Traceback") :].splitlines()
    assert heading == "Traceback (RLZOO_TRACEBACK=1 shows all of it):"
    files = [line for line in trace if line.lstrip().startswith("File ")]
    assert len(files) == 1 and "faulty_for_cli.py" in files[0]
    assert 'raise KeyError("the simulator lost its way")' in "".join(trace)
    assert last.startswith("rlzoo: failed: KeyError")
    assert last.count("actions") == 1 and "seed" in last and "step" in last and "env" in last
