"""How many floating-point operations a program asks for, counted before it is compiled."""

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from jax.extend import core


def count_flops(jaxpr: core.Jaxpr) -> int:
    """Counts the matrix products and convolutions of a program, two operations for each multiply and add.

    XLA's own count (`compiled.cost_analysis()`) takes the body of a loop once, which leaves out most of RAFT where its
    updates are a loop, as on accelerators. This one is the same on every machine. It cannot see into the cuDNN
    attention kernel, and it takes the most expensive of several branches, such as those of
    `jax.lax.platform_dependent`. Of a kernel in Pallas it counts what the kernel does, padding included.

    Args:
      jaxpr: the program: `jax.jit(f).trace(*args).jaxpr.jaxpr`.

    Returns:
      Operations of one call over the whole batch, on all devices together.
    """
    return sum(flops_by_scope(jaxpr).values())


def flops_by_scope(jaxpr: core.Jaxpr, path: str = "") -> Counter[str]:
    """The same, by the way through `jax.named_scope`s and modules to each product; `path` is the way so far."""
    counted: Counter[str] = Counter()
    for equation in jaxpr.eqns:
        counted.update(_equation_flops(equation, f"{path}/{equation.source_info.name_stack}"))
    return counted


def _equation_flops(equation: core.JaxprEqn, path: str) -> Counter[str]:
    name, params = equation.primitive.name, equation.params
    shapes = [_aval(operand).shape for operand in equation.invars[:2]]
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        return Counter({path: 2 * _aval(equation.outvars[0]).size * math.prod(shapes[0][axis] for axis in contracted)})
    if name == "conv_general_dilated":
        features = shapes[1][params["dimension_numbers"].rhs_spec[0]]
        return Counter({path: 2 * _aval(equation.outvars[0]).size * math.prod(shapes[1]) // features})
    inner = [flops_by_scope(jaxpr, path) for jaxpr in core.jaxprs_in_params(params)]
    if name == "cond":
        return max(inner, key=Counter.total)
    once: Counter[str] = sum(inner, Counter())
    times = _TIMES[name](params) if name in _TIMES else 1
    return Counter({scope: times * flops for scope, flops in once.items()})


_TIMES: dict[str, Callable[[Mapping[str, Any]], int]] = {
    "scan": lambda params: params["length"],
    "pallas_call": lambda params: math.prod(params["grid_mapping"].grid),
    "shard_map": lambda params: params["mesh"].size,  # its shapes are those of one device
}
"""How often an equation runs the program inside it."""


def _aval(operand: core.Var | core.Literal) -> Any:
    """Shape and size of a value, which the abstract class that JAX declares does not have, but every array does."""
    return operand.aval
