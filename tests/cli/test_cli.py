"""The command line without training: help, parsing, exit codes, standard output."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
import warnings

import pytest

import rlzoo
from rlzoo.cli import commands, flags, main
from rlzoo.cli.parser import parse
from rlzoo.config.record import RunConfig
from rlzoo.config.values import typed

COMMANDS = ["train", "resume", "evaluate", "record", "list", "check-env"]


def fake(monkeypatch, function, name="list"):
    monkeypatch.setitem(commands.COMMANDS, name, function)


# Help.


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([*command, "--help"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    for name in command or COMMANDS:
        assert name in shown


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom rlzoo.cli import main\n"
        "try: main(['train', '--help'])\nexcept SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'gymnasium', 'yaml', 'rich', 'matplotlib'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        assert done.stdout.endswith("heavy: []\n"), done
    assert min(seconds) < 1.5


def test_version(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("rlzoo 0.")


def test_help_fits_80_columns_and_says_what_every_flag_does(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    for command in ([], *([name] for name in commands.COMMANDS)):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= 80, command
        for flag, text in re.findall(r"^  (-\S+)(.*\n.*)", shown, re.M):
            assert re.search(r"  \w", text), f"{command} {flag}: says nothing"
        for line in re.findall(r"^  (rlzoo .*)$", shown.partition("examples:")[2], re.M):
            assert parse(line.split()[1:]).command


def test_no_command_prints_the_help(capsys):
    with pytest.raises(SystemExit) as left:
        main([])
    out, err = capsys.readouterr()
    assert left.value.code == 0 and out.startswith("usage: rlzoo") and err == ""


def test_static_text_imports_no_tensorflow():
    """Listing, hints and what a shell completes; in one process."""
    lines = ["list", "list dqn", "list rlzoo/Catch-v0 --json", "list run", "--print-completion zsh"]
    lines += ["train ppo", "train dqn X --torso mlp", "train dqn X --set lr=1", "pretrain mnst"]
    code = (
        "import sys\nfrom rlzoo.cli import main\n"
        f"for line in {lines}:\n"
        "    try: main(line.split())\n"
        "    except SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'gymnasium', 'rich', 'matplotlib'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.endswith("heavy: []\n"), done


def test_completion(tmp_path, capsys):
    """What bash completes, asked of bash itself."""
    with pytest.raises(SystemExit) as left:
        main(["--print-completion", "bash"])
    assert left.value.code == 0
    script = tmp_path / "completion.sh"
    script.write_text(capsys.readouterr().out)
    typed = ["rlzoo tra", "rlzoo train dq", "rlzoo train dqn rlzoo/Ca", "rlzoo list epsilon_g"]
    typed += ["rlzoo train dqn X --torso ls", "rlzoo pretrain mn", "rlzoo train --num"]
    expected = "train dqn rlzoo/CartPoleNoVel-v1,rlzoo/Catch-v0 epsilon_greedy lstm mnist"
    for line, names in zip(typed, [*expected.split(), "--num-envs"], strict=True):
        ask = (
            f"source {script}; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); "
            "_shtab_rlzoo; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=True)
        found = [name for name in done.stdout.split() if name.startswith(line.split()[-1])]
        assert sorted(found) == sorted(names.split(",")), line


ZSH = """
autoload -U compinit; compinit -D -u
eval "$(<$SCRIPT)"
compadd () {  # also notes what it adds; with -A, -D or -O it adds nothing
  local -a added
  [[ -n ${(M)@:#-[ADO]} ]] || { builtin compadd -O added "$@"; print -rl -- $added >> $FOUND }
  builtin compadd "$@"
}
complete-typed () { _main_complete }
zle -C complete-typed complete-word complete-typed
zle-line-init () { BUFFER=$TYPED; CURSOR=$#BUFFER; zle complete-typed; exit }
zle -N zle-line-init
"""
TERMINAL = "zmodload zsh/zpty; zpty shell zsh -i; while zpty -r shell; do :; done"


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_completion_in_zsh(tmp_path, capsys):
    """What zsh completes, asked of its line editor in a terminal."""
    with pytest.raises(SystemExit) as left:
        main(["--print-completion", "zsh"])
    assert left.value.code == 0
    script = tmp_path / "completion.zsh"
    script.write_text(capsys.readouterr().out)
    subprocess.run(["zsh", "-n", script], check=True)
    (tmp_path / ".zshrc").write_text(ZSH)
    (tmp_path / "runs").mkdir()
    found = tmp_path / "found"
    env = {**os.environ, "ZDOTDIR": str(tmp_path), "SCRIPT": str(script), "FOUND": str(found)}
    expected = {
        "rlzoo tra": "train",
        "rlzoo train dq": "dqn",
        "rlzoo train dqn rlzoo/Ca": "rlzoo/CartPoleNoVel-v1 rlzoo/Catch-v0",
        "rlzoo train dqn X rein": "",  # all that it takes was given
        "rlzoo train --seed 1 dqn X --torso ls": "lstm",
        "rlzoo train --num": "--num-envs",
        "rlzoo list epsilon_g": "epsilon_greedy",
        "rlzoo list dqn dy": "",
        "rlzoo pretrain mn": "mnist",
        "rlzoo plot ru": "runs",
        "rlzoo plot one two ru": "runs",
        "rlzoo predict run one.png two.png completion.z": "completion.zsh",
    }
    for line, names in expected.items():
        found.write_text("")
        done = subprocess.run(
            ["zsh", "-fc", TERMINAL], env={**env, "TYPED": line}, cwd=tmp_path,
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert sorted({*found.read_text().split()}) == names.split(), (line, done.stdout)


# Parsing.


EVERY_FLAG = """train dqn CartPole-v1 --steps 5e4 --seed 1 --num-envs 8 --vector async
    --exploration softmax --torso lstm --set a=1 --set b.c=[1,2] --config f.yaml --no-preset
    --run-dir d --loop host --json"""


def test_train_takes_every_flag():
    args = parse(EVERY_FLAG.split())
    assert (args.agent, args.env, args.steps, args.seed) == ("dqn", "CartPole-v1", 50_000, 1)
    assert (args.num_envs, args.vector, args.exploration) == (8, "async", "softmax")
    assert (args.torso, args.overrides, args.config) == ("lstm", ["a=1", "b.c=[1,2]"], "f.yaml")
    assert (args.preset, args.run_dir, args.loop, args.json) == (False, "d", "host", True)


def test_a_flag_is_a_field_of_the_record_and_a_line_about_it(monkeypatch, tmp_path, capsys):
    """eval_every has a field; with a line it has a flag, which reaches the run and its folder."""
    monkeypatch.setitem(flags.OF_RUN, "eval_every", "steps between evaluations")
    line = (
        f"train dyna_q rlzoo/DynaMaze-v0 --steps 60 --eval-every 3e1 --quiet --run-dir {tmp_path}"
    )
    assert parse(line.split()).eval_every == 30
    assert main(line.split()) == 0
    capsys.readouterr()
    assert "\neval_every: 30\n" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize("name", [*flags.OF_RUN, *flags.OF_ENVIRONMENTS])
def test_a_flag_takes_what_the_field_of_its_name_takes(name, capsys):
    """The value that a record holds by default, or 7; and no other kind."""
    field = RunConfig.__dataclass_fields__[name]
    value = 7 if field.default in (None, 0) else field.default
    given = ["train", "dqn", "CartPole-v1", f"--{name.replace('_', '-')}"]
    assert getattr(parse([*given, str(value)]), name) == value
    typed(value, field.type, name)
    with pytest.raises(SystemExit):
        parse([*given, "[oops]"])
    assert f"argument {given[-1]}: " in capsys.readouterr().err


def test_flags_may_stand_between_agent_and_env():
    args = parse(["train", "dqn", "--seed", "1", "CartPole-v1", "--steps", "3"])
    assert (args.agent, args.env, args.steps) == ("dqn", "CartPole-v1", 3)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trian", "unknown 'trian'. Did you mean 'train'"),
        ("train", "rlzoo train dqn CartPole-v1"),
        ("train dqn", "rlzoo train dqn CartPole-v1"),
        ("train dqn CartPole-v1 Acrobot-v1", "unknown 'Acrobot-v1'"),
        ("train dqn CartPole-v1 --stepz 3", "--stepz"),
        ("train dqn CartPole-v1 --step 3", "--step"),
        ("train dqn CartPole-v1 --steps many", "expected a whole number, received 'many'"),
        ("train dqn CartPole-v1 --steps 1.5", "expected a whole number, received '1.5'"),
        ("resume", "RUN"),
        ("resume no/such/run", "no/such/run is not the folder of a run"),
        ("evaluate no/such/run --json", "no/such/run is not the folder of a run"),
        ("list foo", "Unknown name 'foo'. Known: "),
        ("list agentz", "Unknown name 'agentz'. Did you mean 'agents'"),
        ("list DQN", "Unknown name 'DQN'. Did you mean 'dqn'?"),
        ("train ppo", "unknown 'ppo'. Did you mean 'tf_agents.ppo'"),
        ("train DQN CartPole-v1", "unknown 'DQN'. Did you mean 'dqn'? "),
        ("train Reinforce CartPole-v1", "Did you mean 'reinforce'? "),
        ("train q-learning CartPole-v1", "unknown 'q-learning'. It is called 'dyna_q' here."),
        ("train dqn X --torso mlp", "unknown 'mlp'. It is called 'dense' here."),
        ("train dqn X --loop fast", "--loop: unknown 'fast'"),
        ("train dqn X --vector threads", "--vector: unknown 'threads'"),
        ("train dqn CartPole-v1 --lr 1", "unknown '--lr'. That is a setting: --set learning_rate="),
        ("train dqn --gamma=0.9 CartPole-v1", "--set discount=VALUE"),
        ("train dqn CartPole-v1 --eps 0.1", "--set exploration.epsilon=VALUE"),
        ("train dqn CartPole-v1 --batch 3", "--set batch_size=VALUE"),
        ("train dqn CartPole-v1 --learning-rate 3", "--set learning_rate=VALUE"),
        ("train dqn CartPole-v1 --eval-every 3", "--set eval_every=VALUE"),
        ("train dqn CartPole-v1 --n_envs 3", "unknown '--n_envs'. It is called --num-envs here."),
        ("train dqn CartPole-v1 --total-timesteps 3", "It is called --steps here."),
        ("train dqn CartPole-v1 --set lr=1", "Unknown setting lr. It is called 'learning_rate'"),
        ("train dqn CartPole-v1 --set hidden=1", "It is called 'torso.sizes' here."),
        ("train dqn CartPole-v1 --set buffer_size=1", "It is called 'replay_capacity' here."),
        ("train dqn CartPole-v1 --set tau=1", "It is called 'target_update_rate' here."),
        ("train reinforce X --set buffer_size=1", "Unknown setting buffer_size. "),
        ("train dqn CartPole-v1 --set learning_rte=1", "Did you mean 'learning_rate'"),
        ("pretrain recall --set delya=1", "Did you mean 'delay'"),
        ("pretrain mnits", "unknown 'mnits'. Did you mean 'mnist'"),
    ],
)
def test_bad_command_lines_are_one_line(line, message, capfd):
    try:
        code = main(line.split())
    except SystemExit as left:
        code = left.code
    out, err = capfd.readouterr()
    assert code == 2 and out == ""
    assert err.startswith("rlzoo: error: ") and err.count("\n") == 1
    assert message in err


def test_a_wrong_folder_names_the_newest_run(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "CartPole-v1" / "dqn" / "x"
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    assert main(["resume", "runs"]) == 2
    assert "The newest in ./runs is runs/CartPole-v1/dqn/x" in capfd.readouterr().err


def test_one_of_several_seeds_is_named(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for seed in (10, 9):
        (tmp_path / f"both/s{seed}").mkdir(parents=True)
        (tmp_path / f"both/s{seed}/config.yaml").touch()
    hint = "It holds 2 seeds: take one of them, such as both/s9"
    for line in ("evaluate both", "record both", "train --config both"):
        assert main(line.split()) == 2
        assert capfd.readouterr().err.endswith(f" {hint}\n")
    for call in (rlzoo.load, rlzoo.resume, rlzoo.load_torso):
        with pytest.raises(ValueError, match=hint):
            call("both")


@pytest.mark.filterwarnings("default:.*wrapped in NormalizeReward")
def test_an_environment_is_checked_as_train_makes_it(capfd):
    check = ["check-env", "FrozenLake-v1"]
    assert main([*check, "--set", "env.is_slippery=false", "--max-episode-steps", "5"]) == 0
    assert main([*check, "--set", "env.slippery=false"]) == 2
    assert "env_kwargs {'slippery': False}" in capfd.readouterr().out
    assert main([*check, "--wrapper", "NormalizeReward"]) == 0
    assert "is wrapped in NormalizeReward" in capfd.readouterr().err
    assert main([*check, "--set", "steps=5"]) == 2
    assert "--set: expected what the environment takes, env.KEY=" in capfd.readouterr().err


def test_record_and_evaluate_check_their_flags(tmp_path, capfd):
    (tmp_path / "config.yaml").touch()
    assert main(["record", str(tmp_path), "-o", "film.avi"]) == 2
    assert "expected FILE.gif or FILE.mp4, received 'film.avi'" in capfd.readouterr().err
    assert main(["evaluate", str(tmp_path), "--episodes", "0"]) == 2
    assert "expected at least 1" in capfd.readouterr().err


def test_a_warning_is_one_line_and_told_once(monkeypatch, capfd):
    def warns(args):
        for _ in range(3):
            warnings.warn("the wind\n  blows", stacklevel=1)
        return {}

    monkeypatch.setitem(commands.COMMANDS, "list", warns)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["list"]) == 0
    assert capfd.readouterr().err == "rlzoo: warning: the wind blows\n"


def test_a_failure_of_many_words_is_cut(monkeypatch, capfd):
    def fails(args):
        raise RuntimeError("x" * 1_000_000)

    monkeypatch.setitem(commands.COMMANDS, "list", fails)
    assert main(["list"]) == 1
    assert len(capfd.readouterr().err.splitlines()[-1]) < 10_100


# Ends.


class Stopped(BaseException):
    exit_code = 143


def test_an_interruption_has_its_own_code(monkeypatch, capfd):
    def stop(args):
        raise Stopped("terminated; saved at step 7.\nResume: rlzoo resume X")

    fake(monkeypatch, stop)
    assert main(["list"]) == 143
    assert capfd.readouterr().err == "rlzoo: terminated; saved at step 7. Resume: rlzoo resume X\n"

    def interrupt(args):
        raise KeyboardInterrupt

    fake(monkeypatch, interrupt)
    assert main(["list"]) == 130


def test_a_failure_shows_its_cause_and_where(monkeypatch, capfd):
    def fail(args):
        try:
            int("seven")  # as an environment of the user would
        except ValueError as error:
            notes = ["env 3, step 17, seed 5"]
            error.__notes__ = notes
            raise

    fake(monkeypatch, fail)
    assert main(["list"]) == 1
    err = capfd.readouterr().err
    assert 'int("seven")' in err and err.count("env 3, step 17, seed 5") == 1
    assert "app.py" not in err
    last = err.splitlines()[-1]
    assert last.startswith("rlzoo: failed: ValueError: invalid literal")
    assert "env 3, step 17, seed 5" in last


def test_an_error_of_a_library_is_no_bad_input(monkeypatch, capfd):
    def fail(args):
        json.loads("{")

    fake(monkeypatch, fail)
    assert main(["list"]) == 1
    assert "Traceback" in capfd.readouterr().err


# Output.


def test_json_is_the_last_line_and_the_only_one(monkeypatch, capfd):
    def chatty(args):
        print("from Python")
        subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
        return {"mean_return": float("nan"), "returns": (1.0, float("inf")), "run_dir": "x"}

    fake(monkeypatch, chatty)
    assert main(["list", "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out) == {"mean_return": None, "returns": [1.0, None], "run_dir": "x"}
    assert out.count("\n") == 1
    assert "from Python" in err and "from a child" in err


def test_json_after_an_error_prints_nothing(monkeypatch, capfd):
    def fail(args):
        raise RuntimeError("no")

    fake(monkeypatch, fail)
    assert main(["list", "--json"]) == 1
    assert capfd.readouterr().out == ""
    print("still there")
    assert capfd.readouterr().out == "still there\n"


def test_training_ends_with_the_results_and_what_to_type(monkeypatch, capfd):
    summary = {
        "run_dir": "runs/CartPole-v1/dqn/20260101-000000-s0",
        "agent": "dqn",
        "env": "CartPole-v1",
        "wrappers": [],
        "mean_return": 500.0,
        "std_return": 0.0,
        "last_mean_return": 481.25,
        "last_std_return": 20.5,
        "episodes": 20,
        "best_step": 47_500,
        "steps": 50_000,
    }
    fake(monkeypatch, lambda args: summary, "train")
    assert main(["train", "dqn", "CartPole-v1"]) == 0
    shown = capfd.readouterr().out
    assert "best: mean return 500.00 ± 0.00 at step 47,500\n" in shown
    assert "last: mean return 481.25 ± 20.50 at step 50,000\n" in shown
    assert "(± is the standard deviation over 20 episodes.)" in shown
    assert max(map(len, shown.splitlines())) <= 92
    assert "tensorboard --logdir runs\n" in shown
    assert "rlzoo evaluate runs/CartPole-v1/dqn/20260101-000000-s0\n" in shown


def test_a_terminal_that_knows_ascii_only_is_no_error(monkeypatch):
    result = {"mean_return": 1.0, "std_return": 0.5, "episodes": 3}
    fake(monkeypatch, lambda args: result, "evaluate")
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["evaluate", "run"]) == 0
    shown = stdout.buffer.getvalue()
    assert shown == b"mean return 1.00 ? 0.50 (standard deviation) over 3 episodes\n"


def test_list_names_every_table(capfd):
    from rlzoo.agents import AGENTS
    from rlzoo.envs import ENVS
    from rlzoo.exploration import EXPLORATIONS
    from rlzoo.networks import TORSOS
    from rlzoo.tables import BRIDGED

    assert main(["list", "--json"]) == 0
    shown = json.loads(capfd.readouterr().out)
    assert list(shown["agents"]) == list(dict.fromkeys([*AGENTS, *BRIDGED]))
    assert set(ENVS) <= set(shown["envs"])
    assert list(shown["torsos"]) == list(TORSOS)
    assert list(shown["explorations"]) == list(EXPLORATIONS)
    assert main(["list", "torsos"]) == 0
    assert "lstm" in capfd.readouterr().out


def test_a_closed_pipe_is_no_error():
    code = "import sys; from rlzoo.cli import main; sys.exit(main(['list', 'envs']))"
    done = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    done.stdout.close()
    assert done.stderr.read() == b"" and done.wait(timeout=120) == 0


def test_tensorflow_starts_silently_unless_asked():
    code = (
        "import os, sys; from rlzoo.cli.streams import import_tensorflow; import_tensorflow()\n"
        "print(os.environ['TF_CPP_MIN_LOG_LEVEL'], 'tensorflow' in sys.modules)"
    )
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    for change, shown in (({}, "2 True\n"), ({"TF_CPP_MIN_LOG_LEVEL": "0"}, "0 False\n")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env={**environment, **change},
        )
        assert (done.stdout, done.stderr) == (shown, "")
