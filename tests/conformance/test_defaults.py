"""Every agent in `AGENTS` with bare defaults on ten small tasks: it learns, or says why not.

No preset, no setting but the number of steps: what an environment of somebody's own gets.
"""

from collections.abc import Iterator

import keras
import pytest

import rlzoo
from rlzoo.agents import AGENTS
from tests.small_envs import TASKS

# One for each agent; the others are slow ones, four minutes of one core in all.
QUICK = {"dqn-box-bandit", "reinforce-box-one-step", "dyna_q-discrete-corridor"}


def cases() -> Iterator:
    for name, entry in AGENTS.items():
        for task, what in TASKS.items():
            kinds = what.kinds if isinstance(entry, dict) else what.kinds[:1]
            for kind in kinds:
                case = f"{name}-{kind}-{task}"
                marks = () if case in QUICK else pytest.mark.slow
                yield pytest.param(name, kind, what, marks=marks, id=case)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "kind", "task"), list(cases()))
def test_bare_defaults_learn_or_say_why_not(name, kind, task, tmp_path):
    """The best of two seeds: what is pinned is that defaults work, not one seed's luck."""
    steps = task.steps
    if name == "reinforce":  # it learns once in eight episodes
        steps *= 4
    returns = []
    for seed in (0, 1):
        try:
            run = rlzoo.train(
                name,
                task.make(kind),
                steps=steps,
                torso=task.torso,
                seed=seed,
                preset=False,
                run_dir=tmp_path / str(seed),
                overrides={"eval_every": steps // 2, "eval_episodes": 10},
                quiet=True,
            )
        except ValueError as error:
            assert task.torso and f"{name} cannot use a recurrent torso" in str(error)
            pytest.skip(str(error))
        keras.backend.clear_session()
        returns.append(run.summary["mean_return"])
        if returns[-1] >= task.wanted:
            return
    pytest.fail(f"{name} reached {returns}, not {task.wanted}")
