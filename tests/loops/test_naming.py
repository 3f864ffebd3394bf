"""The same text has the same name, whatever the process did before; other text has another."""

import gc

import tensorflow as tf

from rlzoo.loops.compiled import Compiled
from rlzoo.loops.naming import named_by_text

NUMBER = tf.TensorSpec([], tf.float32)


def made(step, variable):
    """A loop, which names functions in functions, over a variable."""

    def program(x):
        def body(i, x):
            return i + 1, x + tf.cond(x > 100.0, lambda: variable * 0.0, lambda: variable + step)

        return tf.while_loop(lambda i, x: i < 3, body, (0, x))[1]

    return program


def name_of(step, variable):
    concrete = tf.function(made(step, variable), autograph=False).get_concrete_function(NUMBER)
    return named_by_text(concrete, "program").name


def test_a_name_does_not_depend_on_what_was_made_before():
    first, second = tf.Variable(1.0), tf.Variable(1.0)
    name = name_of(2.0, first)
    _ = [tf.zeros(3) for _ in range(100)]
    assert name_of(2.0, second) == name


def test_a_number_in_an_inner_function_gives_another_name():
    variable = tf.Variable(1.0)
    assert name_of(2.0, variable) != name_of(3.0, variable)


def test_programs_of_the_same_text_use_variables_of_their_own():
    programs = [Compiled(made(2.0, tf.Variable(value)), NUMBER) for value in (1.0, 10.0)]
    # x + 3 * (variable + 2): 0 + 3 * 3, and 0 + 3 * 12.
    assert [float(program(tf.constant(0.0))[0]) for program in programs] == [9.0, 36.0]


def test_a_program_outlives_another_of_the_same_text():
    first, second = (Compiled(made(2.0, tf.Variable(value)), NUMBER) for value in (1.0, 10.0))
    assert float(first(tf.constant(0.0))[0]) == 9.0
    assert float(second(tf.constant(0.0))[0]) == 36.0
    del first
    gc.collect()
    assert float(second(tf.constant(1.0))[0]) == 37.0


def test_programs_made_one_after_the_other_differ_where_their_text_does():
    found = []
    for step in (2.0, 3.0, 2.0):
        found.append(float(Compiled(made(step, tf.Variable(1.0)), NUMBER)(tf.constant(0.0))[0]))
        gc.collect()
    assert found == [9.0, 12.0, 9.0]  # 3 * (1 + 2), 3 * (1 + 3)
