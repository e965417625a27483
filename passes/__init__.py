"""From a captured program to a plan, in one screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from co3d_compile.passes.assembly.rewriting import assemble_time
from co3d_compile.passes.even_constants import spread_even_constants
from co3d_compile.passes.idioms import fuse_idioms
from co3d_compile.passes.loops.counting import count_positions
from co3d_compile.passes.loops.recognition import roll_loops
from co3d_compile.passes.lowering import lower
from co3d_compile.passes.own import ProgramPass, run_own_passes
from co3d_compile.passes.propagation import Choices, propagate_time, smallest_window
from co3d_compile.passes.separation import separate_pools
from co3d_compile.passes.state.aims import Aims
from co3d_compile.passes.thinning import thinned_windows
from co3d_compile.passes.whole_clips.last_resort import settle_time, without_assertions
from co3d_compile.passes.whole_clips.policies import GatePolicy
from co3d_compile.passes.whole_clips.repeated_calls import name_repeated_calls
from co3d_compile.plan.plan import Plan
from co3d_compile.program.program import Program


def rewrite(program: Program, passes: Sequence[ProgramPass] = ()) -> Program:
    """The program with its idioms fused, after the user's own passes.

    Raises:
        ExtensionError: one of these passes fails, or changes what is computed.
    """
    return run_own_passes(fuse_idioms(without_assertions(program)), passes)


def compile_program(
    program: Program,
    *,
    window: int | None = None,
    policy: Mapping[str, GatePolicy] | None = None,
    start: str = "zeros",
    dense: bool = False,
    aims: Aims | None = None,
) -> Plan:
    """The plan of a rewritten program: all other passes, in order.

    Args:
        window: width of resizable windows over time; None takes the clip's.
        policy: gate policies by module path pattern.
        dense: an answer at every frame, also where the network is strided.
        aims: what firing ticks and forms are chosen for; None: the least state.

    Raises:
        UnsupportedError: operations that cannot be streamed.
        RateError: branches of different strides meet.
    """
    program = assemble_time(spread_even_constants(count_positions(roll_loops(program))))
    gates = settle_time(program, policy or {})
    choices = Choices(gates, window, smallest_window(program), dense)
    program = separate_pools(propagate_time(program, choices))
    program = propagate_time(program, choices)
    program = propagate_time(program, replace(choices, every=thinned_windows(program)))
    program = name_repeated_calls(program)
    return lower(program, start=start, dense=dense, aims=aims or Aims())
