"""Agents from outside the package: docs/own-agent.md has one."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest

import rlzoo
from rlzoo import tables
from rlzoo.cli import main
from rlzoo.config.advice import advice
from rlzoo.storage import checkpoint

PAGE = Path(__file__).parents[2] / "docs" / "own-agent.md"
SMALL = {"eval_episodes": 2, "checkpoint_every": 40}


@pytest.fixture
def sarsa(tmp_path, monkeypatch):
    """Puts the page's module into the current folder, as it would be in a new process."""
    code = re.search(r"```python\n(# my_agents\.py\n.*?)```", PAGE.read_text(), re.S)[1]
    (tmp_path / "my_agents.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def forget():
        tables.AGENTS.data.pop("my_agents:Sarsa", None)
        sys.modules.pop("my_agents", None)

    forget()
    yield forget
    forget()


def arrays(run_dir):
    """Returns all that its newest checkpoint holds, by name."""
    return checkpoint.load(Path(run_dir) / "checkpoints")[0]


@pytest.mark.parametrize("loop", ["host", "graph"])
def test_it_trains_goes_on_and_is_evaluated_from_the_command_line(sarsa, loop, tmp_path):
    common = [
        "--loop",
        loop,
        "--quiet",
        "--set",
        "eval_episodes=2",
        "--set",
        "env.is_slippery=false",
    ]
    whole = ["train", "my_agents:Sarsa", "FrozenLake-v1", *common]
    assert main([*whole, "--steps", "120", "--run-dir", "whole"]) == 0
    assert main([*whole, "--steps", "60", "--run-dir", "half"]) == 0
    sarsa()
    again = ["--agent", "my_agents:Sarsa"]
    assert main(["resume", "half", "--steps", "120", "--quiet", *again]) == 0
    assert main(["evaluate", "half", "--episodes", "2", *again]) == 0
    one, other = arrays("whole"), arrays("half")
    assert one.keys() == other.keys() and np.any(one["actor/embedding/embeddings"])
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name])


def test_no_file_imports_it(sarsa, capsys):
    run = rlzoo.train("my_agents:Sarsa", "FrozenLake-v1", steps=40, run_dir="run", quiet=True)
    sarsa()
    for use in (rlzoo.resume, rlzoo.load, rlzoo.evaluate):
        with pytest.raises(ValueError, match=r"may not import it.*--agent my_agents:Sarsa"):
            use(run.dir)
    assert "my_agents" not in sys.modules
    with pytest.raises(ValueError, match="may not import it"):
        rlzoo.train(config=run.dir, run_dir="other")
    assert not Path("other").exists()
    assert advice("resume", "run", "CartPole-v1", (), run.config.agent).endswith(
        "--agent my_agents:Sarsa"
    )


def test_its_class_will_do_in_python(sarsa):
    from my_agents import Sarsa

    run = rlzoo.train(Sarsa, "FrozenLake-v1", steps=40, run_dir="run", quiet=True, overrides=SMALL)
    assert run.config.agent == "my_agents:Sarsa"
    sarsa()
    from my_agents import Sarsa as Again

    assert rlzoo.evaluate(run.dir, agent=Again, episodes=2).episodes == 2
    with pytest.raises(ValueError, match="agent: this run's is 'my_agents:Sarsa', received 'dqn'"):
        rlzoo.resume(run.dir, agent="dqn")


def test_each_of_several_seeds_finds_it(sarsa):
    flags = ["--steps", "40", "--seeds", "0-1", "--quiet", "--set", "eval_episodes=2"]
    assert main(["train", "my_agents:Sarsa", "FrozenLake-v1", *flags, "--run-dir", "two"]) == 0
    assert {path.name for path in Path("two").glob("s*/summary.json")} == {"summary.json"}
    assert len(list(Path("two").glob("s*/summary.json"))) == 2


@pytest.mark.parametrize(
    ("agent", "message"),
    [
        ("my_agents:Nothing", r"agent: my_agents has no 'Nothing'"),
        ("my_agents:SarsaConfig", r"expected a class with Config, .*, which has no Config"),
        ("nowhere_at_all:Sarsa", r"agent 'nowhere_at_all:Sarsa' names the module"),
        (dict, r"received <class 'dict'>, which has no Config"),
    ],
)
def test_what_is_no_agent_is_told(sarsa, agent, message):
    with pytest.raises(ValueError, match=message):
        rlzoo.train(agent, "FrozenLake-v1", steps=40, run_dir="run", quiet=True)
    assert not Path("run").exists()
