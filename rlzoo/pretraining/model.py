"""The model of a pretraining run: a torso, what comes before it and after it."""

from collections.abc import Mapping
from typing import Any

import keras

from rlzoo import networks
from rlzoo.config.choices import make_torso
from rlzoo.ops.streams import HEAD, LAYERS, PRETRAINED_TORSO, derived
from rlzoo.pretraining.record import PretrainConfig
from rlzoo.spaces import Leaf
from rlzoo.tasks import Problem, Task


def build_model(problem: Problem, torso: keras.Layer, seed: int) -> keras.Model:
    """Returns the Keras model from a problem's inputs to its outputs, around a torso.

    A recurrent torso walks along a sequence; any other one takes it in as a whole.

    Raises:
        ValueError: the torso and the problem do not fit together.
    """
    recurrent = networks.is_recurrent(torso)
    if recurrent and not problem.sequence:
        raise ValueError(
            "A recurrent torso reads sequences, and the inputs of this task are none. "
            "Use --torso dense or conv."
        )
    if problem.per_step and not recurrent:
        raise ValueError(
            "This task asks for an answer at every step of a sequence, which only a recurrent "
            "torso gives. Use --torso lstm, gru or rnn."
        )
    extras = {
        name: keras.Input(array.shape[1:], dtype=str(array.dtype), name=name)
        for name, array in problem.train.inputs.items()
        if name != "obs"
    }
    augment = problem.augment() if problem.augment else None
    return connect(problem.obs, torso, problem.head(seed), extras, augment, problem.per_step)


def connect(
    obs: Leaf,
    torso: keras.Layer,
    head: keras.Layer,
    extras: Mapping[str, Any] | None = None,
    augment: keras.Layer | None = None,
    per_step: bool = False,
) -> keras.Model:
    """Returns the Keras model from inputs to a head's outputs.

    Args:
        obs: the inputs; a recurrent torso takes their first axis as time.
        torso: from preprocessed inputs to features.
        head: from features, or [features, *extras], to outputs.
        extras: Keras inputs for the head, by name.
        augment: changes preprocessed inputs while the model trains.
        per_step: whether a recurrent torso gives the features of every step, or of the last.
    """
    inputs = {"obs": keras.Input(obs.shape, dtype=obs.dtype, name="obs"), **(extras or {})}
    features = networks.Preprocess(obs, name="preprocess")(inputs["obs"])
    if augment is not None:
        features = _InTraining(augment, name="augment")(features)
    if networks.is_recurrent(torso):
        features = keras.layers.RNN(torso, return_sequences=per_step, name="walk")(features)
    else:
        features = torso(features)
        if len(features.shape) > 2:
            features = keras.layers.Flatten(name="features")(features)
    outputs = head([features, *extras.values()] if extras else features)
    return keras.Model(inputs, outputs)


def step_spec(problem: Problem, torso: keras.Layer) -> Leaf:
    """Returns the inputs of the torso itself: one step of a sequence if it is recurrent."""
    if networks.is_recurrent(torso):
        return problem.obs._replace(shape=problem.obs.shape[1:])
    return problem.obs


def named_arrays(model: keras.Model, torso: keras.Layer) -> dict[str, Any]:
    """Returns the variables of a model by their paths, under `torso`, `head` and `rest`."""
    named = networks.all_named({"torso": torso, "head": model.layers[-1]})
    known = {id(variable) for variable in named.values()}
    others = networks.named_variables(model)
    rest = {path: variable for path, variable in others.items() if id(variable) not in known}
    return {**named, **networks.under("rest", rest)}


def compiled_model(config: PretrainConfig, problem: Problem) -> tuple[keras.Model, keras.Layer]:
    """Returns the model that a run trains, ready for `fit`, and the torso in it."""
    task = config.task
    keras.utils.set_random_seed(derived(config.seed, LAYERS))
    torso = make_torso(task.torso, derived(config.seed, PRETRAINED_TORSO) % 2**31)
    model = build_model(problem, torso, derived(config.seed, HEAD) % 2**31)
    steps = task.epochs * batches_in(problem, task)
    schedule = keras.optimizers.schedules.CosineDecay(task.learning_rate, steps)
    optimizer = keras.optimizers.Adam(schedule, clipnorm=1.0)
    optimizer.build(model.trainable_variables)
    # Neither the layers that augment images nor the gradient of pooling do well under XLA.
    jit = problem.augment is None and (networks.is_recurrent(torso) or task.torso["name"] != "conv")
    metrics = list(problem.metrics)
    model.compile(optimizer, problem.loss, metrics=metrics, jit_compile=jit)
    return model, torso


def batches_in(problem: Problem, task: Task) -> int:
    """Returns the gradient steps of an epoch."""
    return -(-len(problem.train.targets) // task.batch_size)


def trained(model: keras.Model, torso: keras.Layer) -> dict[str, Any]:
    """Returns all variables that training changes, by name."""
    return {
        **named_arrays(model, torso),
        **networks.all_named({"optimizer": model.optimizer}),
    }


class _InTraining(keras.layers.Layer):
    """A layer that works while the model trains, and else lets its inputs through.

    Keras's own layers for images also change them where nobody says whether the model trains.
    """

    def __init__(self, layer: keras.Layer, **kwargs: Any):
        super().__init__(**kwargs)
        self.layer = layer

    def build(self, input_shape: Any) -> None:
        """Builds the layer inside."""
        self.layer.build(input_shape)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the inputs, changed or not."""
        return self.layer(inputs, training=True) if training else inputs
