"""Tells Gymnasium of our own environments. A new one is one file and a line in its table."""

from gymnasium.envs import registration

from rlzoo.tables import ENVS

# Steps after which an episode is truncated. The others end by themselves.
_TIME_LIMITS = {
    "rlzoo/DynaMaze-v0": 10_000,
    "rlzoo/BlockingMaze-v0": 10_000,
    "rlzoo/ShortcutMaze-v0": 10_000,
    "rlzoo/CartPoleNoVel-v1": 500,
    "rlzoo/DigitMaze-v0": 30,
}


def register() -> None:
    """Registers our environments with Gymnasium; those already there are left alone."""
    for env_id, entry_point in ENVS.items():
        if env_id not in registration.registry:
            registration.register(
                env_id, entry_point=entry_point, max_episode_steps=_TIME_LIMITS.get(env_id)
            )
