"""From a captured program to a plan, in one screen."""

from __future__ import annotations

from collections.abc import Mapping

from co3d_compile.passes.gates import GatePolicy, resolve_gates
from co3d_compile.passes.idioms import fuse_idioms
from co3d_compile.passes.lowering import lower
from co3d_compile.passes.propagation import propagate_time
from co3d_compile.passes.separation import separate_pools
from co3d_compile.plan.plan import Plan
from co3d_compile.program.program import Program


def compile_program(
    program: Program,
    *,
    window: int | None = None,
    policy: Mapping[str, GatePolicy] | None = None,
    start: str = "zeros",
) -> Plan:
    """All passes in order.

    Args:
        window: width of resizable windows over time; None takes the clip's.
        policy: gate policies by module path pattern.

    Raises:
        UnsupportedError: operations that cannot be streamed.
        RateError: branches of different strides meet.
    """
    program = fuse_idioms(program)
    gates = resolve_gates(program, policy or {})
    program = separate_pools(propagate_time(program, gates, window=window))
    program = propagate_time(program, gates, window=window)
    return lower(program, start=start)
