"""How many floating-point operations a program asks for, counted before it is compiled."""

import math
from typing import Any

from jax.extend import core


def count_flops(jaxpr: core.Jaxpr) -> int:
    """Counts the matrix products and convolutions of a program, two operations for each multiply and add.

    XLA's own count (`compiled.cost_analysis()`) takes the body of a loop once, which leaves out most of RAFT where its
    updates are a loop, as on accelerators. This one is the same on every machine. It cannot see into the cuDNN
    attention kernel, and it takes the most expensive of several branches, such as those of
    `jax.lax.platform_dependent`.

    Args:
      jaxpr: the program: `jax.jit(f).trace(*args).jaxpr.jaxpr`.

    Returns:
      Operations of one call over the whole batch, on all devices together.
    """
    return sum(map(_equation_flops, jaxpr.eqns))


def _equation_flops(equation: core.JaxprEqn) -> int:
    name, params = equation.primitive.name, equation.params
    shapes = [_aval(operand).shape for operand in equation.invars[:2]]
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return 2 * _aval(equation.outvars[0]).size * math.prod(shapes[0][axis] for axis in contracted)
    if name == "conv_general_dilated":
        features = shapes[1][params["dimension_numbers"].rhs_spec[0]]
        return 2 * _aval(equation.outvars[0]).size * math.prod(shapes[1]) // features
    inner = [count_flops(jaxpr) for jaxpr in core.jaxprs_in_params(params)]
    if name == "cond":
        return max(inner)
    return params["length"] * sum(inner) if name == "scan" else sum(inner)


def _aval(operand: core.Var | core.Literal) -> Any:
    """Shape and size of a value, which the abstract class that JAX declares does not have, but every array does."""
    return operand.aval
