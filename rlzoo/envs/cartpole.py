"""CartPole that has to be balanced without seeing how fast anything moves."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

_VISIBLE = [0, 2]  # of: position, velocity, angle, angular velocity


class CartPoleNoVel(CartPoleEnv):
    """Gymnasium's CartPole with both velocities hidden: one frame does not tell the state.

    Observation: `Box(2,) float32`: cart position, pole angle (rad).
    Actions: `Discrete(2)`: 0 push left, 1 push right.
    Reward: 1 for every step.
    End: terminated when the cart leaves +-2.4 or the pole leaves +-12 degrees; the
    registered time limit is 500 steps.
    Source: Wierstra et al. (2007), Solving deep memory POMDPs with recurrent policy gradients,
    doi:10.1007/978-3-540-74690-4_71, on CartPole-v1 of Gymnasium.

    Args:
        **kwargs: those of Gymnasium's `CartPoleEnv`, such as `render_mode`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        full = self.observation_space
        self.observation_space = gymnasium.spaces.Box(
            full.low[_VISIBLE],  # type: ignore[attr-defined]
            full.high[_VISIBLE],  # type: ignore[attr-defined]
            dtype=np.float32,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode. Returns the visible half of the state and CartPole's info."""
        obs, info = super().reset(seed=seed, options=options)
        return obs[_VISIBLE], info

    def step(self, action: Any) -> Any:
        """Pushes the cart. Returns obs, reward, terminated, truncated, info."""
        obs, reward, terminated, truncated, info = super().step(action)
        return obs[_VISIBLE], float(reward), terminated, truncated, info
