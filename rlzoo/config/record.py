"""What a run is told to do, as one frozen record."""

import dataclasses
from typing import Any, Literal

from rlzoo.config.values import short, typed
from rlzoo.config.wrappers import describe as describe_wrappers

_RANGES = {
    "steps": (1, 10**15),
    "seed": (0, 2**62 - 1),
    "num_envs": (1, 2**16),
    "max_episode_steps": (0, 2**31 - 1),
    "eval_every": (0, 10**15),
    "eval_episodes": (1, 10**6),
    "checkpoint_every": (0, 10**15),
    "checkpoint_minutes": (0, 10**6),
    "keep_checkpoints": (1, 10**6),
    "log_every": (1, 10**15),
    "frame_stack": (1, 64),
    "env_step_timeout": (0, 86_400),
}


@dataclasses.dataclass(frozen=True)
class Transfer:
    """How a pretrained torso is put to work: `transfer` in a configuration."""

    run: str  # folder of the run that trained it; read once, when training starts
    part: Literal["torso", "encoder"] = "torso"  # what it becomes: all, or a recurrent's encoder
    lr_scale: float = 1.0  # of the learning rate, for its weights; 0 freezes them; 0..1000
    unfreeze_after: int = 0  # environment steps before its weights begin to change

    def __post_init__(self):
        """Checks ranges."""
        if not 0.0 <= self.lr_scale <= 1e3:
            raise ValueError(f"transfer.lr_scale: expected 0 to 1000, received {self.lr_scale}.")
        if self.unfreeze_after < 0:
            raise ValueError(
                f"transfer.unfreeze_after: expected 0 or more, received {self.unfreeze_after}."
            )
        if self.unfreeze_after and not self.lr_scale:
            raise ValueError(
                "transfer.unfreeze_after: the weights would stay frozen at a learning rate of 0; "
                "expected transfer.lr_scale above 0."
            )


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Everything that decides what a run does, except what lives in the user's own Python code."""

    agent: str  # a name in rlzoo.agents.AGENTS
    env: str  # a Gymnasium id, "module:Env-v0" to import a module first
    steps: int = 100_000  # environment steps in all, summed over the environments; >= 1
    seed: int = 0  # 0..2**62-1; every random stream of the run derives from it
    num_envs: int = 1  # by default the agent's own or 1; environments stepped together; 1..65536
    vector: Literal["sync", "async"] = "sync"  # in this process, or one process each
    loop: Literal["auto", "host", "graph"] = "auto"  # auto: graph where the env has a port
    env_kwargs: dict = dataclasses.field(default_factory=dict)  # to the environment; JSON values
    wrappers: tuple = ()  # around each environment: names or {name: ..., ...}, the inmost first
    max_episode_steps: int = 0  # where episodes are cut; 0: where the environment says
    on_env_error: Literal["raise", "restart", "drop"] = "raise"  # what to do when one fails
    env_step_timeout: float = 60.0  # seconds for a step in an async process; 0: any; 0..86400
    eval_every: int = 5_000  # by default steps / 20, 1,000 to 1,000,000; steps; 0: only at the end
    eval_episodes: int = 20  # episodes in each evaluation; >= 1
    eval_mode: Literal["greedy", "policy", "explore"] = "greedy"  # by default by agent; how to act
    eval_env: Literal["separate", "training", "none"] = "separate"  # made for it, or training's
    checkpoint_every: int = 5_000  # by default eval_every; steps; 0: only at the end
    checkpoint_minutes: float = 10.0  # minutes without a checkpoint at most; 0: any
    keep_checkpoints: int = 2  # latest checkpoints kept, beside the best; >= 1
    log_every: int = 1_000  # by default steps / 1,000, 1,000 to 100,000; steps between rows, >= 1
    until_return: float | None = None  # stop when an evaluation's mean return reaches this
    agent_params: dict = dataclasses.field(default_factory=dict)  # hyperparameters: agent's Config
    torso: dict = dataclasses.field(default_factory=dict)  # a name in TORSOS, and its settings
    exploration: dict = dataclasses.field(default_factory=dict)  # the same, in EXPLORATIONS
    frame_stack: int = 1  # observations that networks see at once, the last of an episode; 1..64
    normalize: dict = dataclasses.field(default_factory=dict)  # see Normalization; {}: nothing
    transfer: dict = dataclasses.field(default_factory=dict)  # see Transfer; {}: a torso of its own

    def __post_init__(self):
        """Checks types and ranges."""
        for field in dataclasses.fields(self):
            value = typed(getattr(self, field.name), field.type, field.name)
            object.__setattr__(self, field.name, value)
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name}: expected {low} to {high}, received {value}.")
        if self.until_return is not None and not self.eval_every:
            raise ValueError(
                f"until_return: {self.until_return:g} can be reached in an evaluation only, and "
                "eval_every is 0. Expected eval_every above 0."
            )
        if self.until_return is not None and self.eval_env == "none":
            raise ValueError(
                f"until_return: {self.until_return:g} can be reached in an evaluation only, and "
                "eval_env is none. Expected separate or training."
            )
        _check_json(self.env_kwargs, "env_kwargs")
        object.__setattr__(self, "wrappers", describe_wrappers(self.wrappers))
        _check_json(self.wrappers, "wrappers")

    @property
    def env_settings(self) -> dict[str, Any]:
        """How the environment is made: keyword arguments of `make_env` and its like."""
        return {"env_kwargs": self.env_kwargs, "max_episode_steps": self.max_episode_steps}


def _check_json(value: Any, name: str) -> None:
    """Refuses what a configuration file cannot hold."""
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        for key, item in value.items():
            _check_json(item, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            _check_json(item, f"{name}[{i}]")
    elif value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError(
            f"{name}: expected plain values (numbers, texts, lists, mappings), received "
            f"{short(value)}. Pass the environment as a callable instead."
        )
