"""The table of our own Gymnasium environments. A new one is one file and one line here."""

from gymnasium.envs import registration

ENVS = {
    "rlzoo/DynaMaze-v0": "rlzoo.envs.maze:DynaMaze",
    "rlzoo/BlockingMaze-v0": "rlzoo.envs.maze:BlockingMaze",
    "rlzoo/ShortcutMaze-v0": "rlzoo.envs.maze:ShortcutMaze",
    "rlzoo/Catch-v0": "rlzoo.envs.catch:Catch",
    "rlzoo/DeepSea-v0": "rlzoo.envs.deep_sea:DeepSea",
    "rlzoo/Memory-v0": "rlzoo.envs.memory:Memory",
    "rlzoo/CartPoleNoVel-v1": "rlzoo.envs.cartpole:CartPoleNoVel",
    "rlzoo/DigitBandit-v0": "rlzoo.envs.digits:DigitBandit",
    "rlzoo/DigitSequence-v0": "rlzoo.envs.digits:DigitSequence",
    "rlzoo/DigitMaze-v0": "rlzoo.envs.digits:DigitMaze",
}

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
