"""`python -m tests.loops.endurance FOLDER`: trains each agent for long, and tells what it cost.

Nothing is compiled anew after a while, and memory does not grow.
"""

import os
import sys
import tempfile
from pathlib import Path

dumps = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
# XLA writes a file for each program that it compiles.
os.environ["XLA_FLAGS"] = f"--xla_dump_to={dumps} --xla_dump_hlo_as_text"

import psutil  # noqa: E402

from rlzoo.envs import make_envs  # noqa: E402
from rlzoo.loops.host import HostLoop  # noqa: E402
from rlzoo.networks import lstm  # noqa: E402
from tests.helpers import make_agent  # noqa: E402

CASES = {
    "dqn": ("dqn", "CartPole-v1", {}, 2_000),
    "dqn on states": ("dqn", "rlzoo/DynaMaze-v0", {}, 2_000),
    "dqn lstm": ("dqn", "rlzoo/Memory-v0", {"delay": 5}, 2_000),
    "reinforce": ("reinforce", "CartPole-v1", {"max_episode_steps": 10}, 300),
    "reinforce lstm": ("reinforce", "rlzoo/Memory-v0", {"delay": 5}, 300),
    "dyna_q on states": ("dyna_q", "rlzoo/DynaMaze-v0", {}, 4_000),
    "dyna_q": ("dyna_q", "CartPole-v1", {}, 1_000),
}


def compiled() -> int:
    return len(list(dumps.iterdir()))


def memory() -> float:
    return psutil.Process().memory_info().rss / 2**20


def main() -> None:
    for name, (agent, env, env_kwargs, chunks) in CASES.items():
        envs = make_envs(env, 2, 0, env_kwargs=env_kwargs)
        torso = {"torso": lstm(4)} if "lstm" in name else {}
        loop = HostLoop(make_agent(agent, envs.spec, **torso), envs, 0)
        for _ in range(chunks // 4):
            loop.run()
        files, mib = compiled(), memory()
        assert files > 0
        for _ in range(chunks):
            loop.run()
        new, growth = compiled() - files, memory() - mib
        envs.close()
        print(f"{name}: {'flat' if new == 0 and growth < 3 else 'grows'} {new} {growth:.2f} MiB")


if __name__ == "__main__":
    main()
