"""Where a run ends: whole chunks, and what is said about it."""

from types import SimpleNamespace

import pytest

from rlzoo.agents import Traits
from rlzoo.cli import main
from rlzoo.config.record import RunConfig
from rlzoo.runs.pace import end_of_run


def end(steps, length, num_envs=1, start=0, whole_episodes=False):
    config = RunConfig(agent="dqn", env="CartPole-v1", steps=steps, num_envs=num_envs)
    agent = SimpleNamespace(chunk_length=length, traits=Traits(whole_episodes=whole_episodes))
    return end_of_run(agent, config, start)


@pytest.mark.parametrize(
    ("steps", "length", "num_envs", "start", "total"),
    [
        (300, 256, 1, 0, 512),
        (512, 256, 1, 0, 512),
        (1, 4, 8, 0, 32),
        (600, 256, 1, 512, 768),
        (512, 256, 1, 512, 512),
        (300, 256, 1, 512, 512),  # beyond it already
    ],
)
def test_a_run_ends_with_a_whole_chunk(steps, length, num_envs, start, total):
    found, note = end(steps, length, num_envs, start)
    assert found == total
    assert bool(note) == (total > max(start, steps))
    if note:
        assert note.startswith(f"{total} steps, not {steps}: dqn learns from {length} steps")
        assert (f"of {num_envs} environments" in note) == (num_envs > 1)


def test_whole_episodes_end_when_they_end():
    total, note = end(3_000, 500, whole_episodes=True)
    assert total == 3_000
    assert note == "dqn plays whole episodes: it may end some steps after 3,000."
    assert end(3_000, 500, start=3_000, whole_episodes=True) == (3_000, "")


def test_the_screen_the_summary_and_the_end_agree(tmp_path, capfd):
    line = "train dqn CartPole-v1 --no-preset --steps 70 --num-envs 2 --json --set train_every=32"
    line += f" --set torso.sizes=[8] --set eval_episodes=1 --loop host --run-dir {tmp_path / 'r'}"
    assert main(line.split()) == 0
    out, err = capfd.readouterr()
    assert '"steps": 128,' in out and out.count("\n") == 1
    assert "128 steps, not 70: dqn learns from 32 steps of 2 environments at a time.\n" in err
    assert "step 128/128 (100 %)" in err and "\x1b" not in err
    assert "eval: return of 1 episode.\n" in err


def test_quiet_shows_no_progress(tmp_path, capfd):
    line = "train dyna_q rlzoo/DynaMaze-v0 --steps 20 --set eval_episodes=1 --loop host --quiet"
    assert main([*line.split(), "--run-dir", str(tmp_path / "run")]) == 0
    out, err = capfd.readouterr()
    assert err == "" and "best: mean return" in out and "at step 20\n" in out
