"""Traced functions under names that are the same in every process.

TensorFlow numbers the functions of a program by a counter that runs on with every tensor made in
the process. The numbers are part of the text that XLA compiles, so a program would be found among
those kept on disk (`rlzoo.compile_cache`) only where a process had done exactly the same before:
not if the time that something took decides how often it is called.
"""

import hashlib
from collections.abc import Iterator
from typing import Any

from tensorflow.python.eager import context
from tensorflow.python.eager.polymorphic_function.atomic_function import AtomicFunction


def named_by_text(concrete: Any, name: str) -> AtomicFunction:
    """Returns a function of the same text, in which each function is named by the whole text.

    Where two have the same name, they are the same: XLA compiles one for both.

    Args:
        concrete: a `tf.types.experimental.ConcreteFunction`; it must live as long as the result.
        name: that names begin with.
    """
    traced = concrete.inference_fn
    main = traced.name.decode()
    library = {f.signature.name: f for f in concrete.graph.as_graph_def().library.function}
    definitions = [_copy(traced.definition)]
    numbers = {main: 0}  # of each function, in the order of their calls
    for definition in definitions:  # grows on the way
        for called in _calls(definition):
            if called.name not in numbers:
                numbers[called.name] = len(numbers)
                definitions.append(_copy(library[called.name]))
    digest = hashlib.sha256()
    for definition in definitions:
        _rename(definition, {old: str(number) for old, number in numbers.items()})
        digest.update(definition.SerializeToString(deterministic=True))
    new = f"{name}_{digest.hexdigest()[:16]}"
    names = {str(number): f"{new}_{number}" for number in numbers.values()}
    runtime: Any = context.context()
    children = []
    for definition in reversed(definitions):  # what is called first
        _rename(definition, names)
        called = definition.signature.name
        if not runtime.has_function(called):
            runtime.add_function_def(definition)
        if called != names["0"]:
            children.append(AtomicFunction(called, runtime, _NO_TYPE))
    return AtomicFunction(names["0"], runtime, traced.function_type, children, traced.call_options)


def _copy(definition: Any) -> Any:
    """Returns a definition without what is of this process: its arguments are only counted."""
    copy = type(definition)()
    copy.CopyFrom(definition)
    copy.attr.pop("_construction_context", None)
    for about in copy.arg_attr.values():
        about.attr.pop("_user_specified_name", None)
    arguments, results = copy.signature.input_arg, copy.signature.output_arg
    names = {argument.name: f"argument_{i}" for i, argument in enumerate(arguments)}
    for argument in arguments:
        argument.name = names[argument.name]
    for node in copy.node_def:
        node.attr.pop("_gradient_op_type", None)  # gradients have been taken already
        for i, source in enumerate(node.input):
            node.input[i] = names.get(source, source)
    sources = dict(copy.ret)
    copy.ret.clear()
    for i, result in enumerate(results):
        source = sources[result.name]
        result.name = f"result_{i}"
        copy.ret[result.name] = names.get(source, source)
    return copy


def _calls(definition: Any) -> Iterator[Any]:
    """Goes through all places of a definition that name a function."""
    for node in definition.node_def:
        for key in sorted(node.attr):
            value = node.attr[key]
            if value.HasField("func"):
                yield value.func
            yield from value.list.func


def _rename(definition: Any, names: dict[str, str]) -> None:
    definition.signature.name = names[definition.signature.name]
    for called in _calls(definition):
        called.name = names[called.name]


_NO_TYPE: Any = None  # a function that only others call is never asked for its type
