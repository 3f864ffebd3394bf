"""Torsos that a run has trained: reading one, and putting it to work in an agent."""

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from rlzoo import networks
from rlzoo.agents.base import ACTOR
from rlzoo.config.choices import make_torso
from rlzoo.config.files import torso_of
from rlzoo.config.record import Transfer
from rlzoo.runs import meta as metas
from rlzoo.runs.entry import entry
from rlzoo.spaces import Discrete, EnvSpec, Space, describe
from rlzoo.storage import checkpoint
from rlzoo.storage.files import run_path


class SavedTorso(NamedTuple):
    """A torso as a run has left it."""

    obs: Space  # its inputs; one step of them if it is recurrent
    choice: dict[str, Any]  # {"name": in TORSOS, **parameters}
    arrays: list[np.ndarray]  # its weights


@entry()
def load_torso(run_dir: str | Path) -> keras.Layer:
    """Returns the torso of a run, with the weights of its best checkpoint.

    Args:
        run_dir: the folder of a pretraining run, or of a training run.

    Returns:
        A Keras model from preprocessed observations (float32: images scaled to 0..1, Discrete
        ones one-hot) to features; an RNN cell if the torso is recurrent. Every agent takes it:
        `rlzoo.train("dqn", env, torso=rlzoo.load_torso(run))`.
    """
    saved = read_torso(run_dir)
    torso = networks.joined(make_torso(saved.choice), saved.obs)
    networks.build_torso(torso, saved.obs)
    torso.set_weights(saved.arrays)
    return torso


def read_torso(run_dir: str | Path) -> SavedTorso:
    """Reads the torso of a run.

    Raises:
        ValueError: the folder holds no run, or one without a torso.
    """
    run_dir = run_path(run_dir)
    choice = torso_of(run_dir)
    folder = run_dir / "checkpoints"
    arrays, meta, _ = checkpoint.load(folder, best=True, only=("torso/", f"{ACTOR}/torso/"))
    if "agent" in meta:
        spec: Any = meta.get("spec")
        obs = metas.obs_space(spec.get("obs") if isinstance(spec, dict) else spec, "spec.obs")
        frames = metas.frame_stack(meta.get("config"))
        obs = EnvSpec(obs, Discrete(1), None, frames=frames).seen
    else:
        obs = metas.obs_space(meta.get("obs"), "obs")
    torso = make_torso(choice)
    torso = networks.joined(torso, obs)
    networks.build_torso(torso, obs)
    named = networks.under("torso", networks.named_variables(torso))
    if "agent" in meta:
        named = networks.under(ACTOR, named)
    paths = {id(variable): path for path, variable in named.items()}
    names = [paths[id(weight)] for weight in torso.weights]
    shapes = [tuple(weight.shape) for weight in torso.weights]
    if any(name not in arrays for name in names) or shapes != [arrays[n].shape for n in names]:
        raise ValueError(f"The weights in {run_dir} do not fit the torso {choice}.")
    return SavedTorso(obs, dict(choice), [arrays[name] for name in names])


def put_to_work(torso: keras.Layer, transfer: Transfer, spec: EnvSpec, load: bool) -> keras.Layer:
    """Returns a copy of a torso with a run's weights, and the learning rate they shall have.

    Args:
        torso: stays as it is.
        transfer: from which run, and how.
        spec: of the environment.
        load: whether to read the weights; a run that goes on has them in its checkpoint.

    Raises:
        ValueError: what the run's torso reads is not what the environment shows.
    """
    saved = read_torso(transfer.run) if load else None
    # Before layers refuse it, each in its way.
    if saved and describe(saved.obs) != describe(spec.seen):
        raise ValueError(
            f"The torso in {transfer.run} does not fit: it reads {describe(saved.obs)}, and this "
            f"environment shows {describe(spec.seen)}. Take an environment that shows the same, or "
            "leave --torso-from out."
        )
    torso = networks.copy_torso(networks.joined(torso, spec.seen), spec.seen)
    part: Any = torso.encoder if transfer.part == "encoder" else torso  # pyright: ignore
    networks.build_torso(torso, spec.seen)
    if saved:
        shapes = [tuple(weight.shape) for weight in part.weights]
        if shapes != [array.shape for array in saved.arrays]:
            found = " ".join(map(str, shapes))
            wanted = " ".join(str(array.shape) for array in saved.arrays)
            raise ValueError(
                f"The torso in {transfer.run} does not fit: it has weights of the shapes {wanted}, "
                f"and here they would be {found}."
            )
        part.set_weights(saved.arrays)
    waits = transfer.unfreeze_after > 0 and transfer.lr_scale > 0
    scale = tf.Variable(0.0, name="torso_lr_scale") if waits else transfer.lr_scale
    networks.scale_learning_rate(part, scale)
    return torso
