"""Passes of a user's own: what they may change is checked, after each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from co3d_compile.capture.vocabulary import canonicalise
from co3d_compile.errors import ExtensionError
from co3d_compile.options import require_list
from co3d_compile.program.agreement import first_disagreement
from co3d_compile.program.interpret import node_values
from co3d_compile.program.program import ClipInput, Program, is_getitem, path_of

ProgramPass = Callable[[Program], Program]
"""Rewrites a captured program, in place or not, and returns it; values change by rounding alone."""

SEEDS = (1, 2)


def run_own_passes(program: Program, passes: Sequence[ProgramPass]) -> Program:
    """The program after these passes, in order.

    Law: on random clips, each program computes what the one before the first pass did.

    Raises:
        ExtensionError: a pass fails, returns something else than a program that runs, or changes what is computed.
        InputError: they are no list.
    """
    require_list("passes", passes, "[my_pass]")
    if not passes:
        return program
    with torch.no_grad():
        clips = [_random_clip(program, seed) for seed in SEEDS]
        wanted = [_outputs(program, node_values(program, clip)) for clip in clips]
        for own in passes:
            program = _checked(own, program, clips, wanted)
    return program


def pass_name(own: object) -> str:
    """Of a function or of an object that can be called, with its module."""
    named = own if hasattr(own, "__qualname__") else type(own)
    return f"{named.__module__}.{named.__qualname__}"


def _checked(
    own: ProgramPass, before: Program, clips: Sequence[list[Tensor]], wanted: Sequence[list[Tensor]]
) -> Program:
    weights = {name: (tensor, tensor._version) for name, tensor in before.tensors.items()}
    made = _result(own, before)
    _require_form(own, before, made, len(wanted[0]))
    _require_weights(own, made, weights)
    for clip, expected in zip(clips, wanted, strict=True):
        values = _values(own, made, clip)
        _describe(made, values)
        _require_same(own, _outputs(made, values), expected)
    canonicalise(made.graph, made.operations)
    return replace(made, passes=(*before.passes, pass_name(own)))


def _result(own: ProgramPass, program: Program) -> Program:
    if not callable(own):
        raise _misfit(own, "cannot be called", "a function that takes a program and returns one")
    try:
        made: object = own(program)
    except Exception as failure:  # a user's code may raise anything
        raise _misfit(own, f"fails: {type(failure).__name__}: {failure}", "mend it, or leave it out") from failure
    if not isinstance(made, Program):
        raise _misfit(own, f"returns an object of type {type(made).__name__}, not a program", "return the program")
    return made


def _require_form(own: ProgramPass, before: Program, made: Program, outputs: int) -> None:
    """The graph is whole, takes and returns as many tensors as before, and calls torch operators alone."""
    try:
        made.graph.lint()
    except RuntimeError as failure:
        raise _misfit(own, f"leaves a broken graph: {failure}", "call graph.lint() in it to find where") from failure
    places = [node.name for node in made.graph.nodes if node.op == "placeholder"]
    if places != [given.name for given in before.inputs] or made.inputs != before.inputs:
        raise _misfit(own, "changes the inputs", "leave the placeholders as they are")
    if made.structure != before.structure or len(made.returned) != outputs:
        raise _misfit(own, f"returns {len(made.returned)} output(s) of {outputs}", "leave the output node in place")
    for node in made.graph.nodes:
        _require_pure(own, node, made)


def _require_pure(own: ProgramPass, node: fx.Node, program: Program) -> None:
    match node.op:
        case "placeholder" | "output":
            return
        case "get_attr" if node.target in program.tensors:
            return
        case "get_attr":
            raise _misfit(own, f"reads {node.target}, which the program does not hold", "add it to program.tensors")
        case "call_function" if is_getitem(node):
            return
        case "call_function" if isinstance(node.target, torch._ops.OpOverload) and not node.target._schema.is_mutable:
            return
        case _:
            raise _misfit(
                own,
                f"calls {node.target} in {node.name}, which is no operator that only returns",
                "torch.ops.aten.relu.default and its like",
            )


def _require_weights(own: ProgramPass, made: Program, weights: Mapping[str, tuple[Tensor, int]]) -> None:
    """What the program held is there and untouched: it is the model's own."""
    for name, (tensor, version) in weights.items():
        if made.tensors.get(name) is not tensor or tensor._version != version:
            raise _misfit(own, f"changes the weight {name}", "compute in the graph what is made of weights")


def _values(own: ProgramPass, program: Program, clip: list[Tensor]) -> dict[fx.Node, Any]:
    try:
        return node_values(program, clip)
    except Exception as failure:  # operators raise what they like
        raise _misfit(own, f"leaves a graph that fails: {failure}", "check what it hands to operators") from failure


def _require_same(own: ProgramPass, made: Sequence[Tensor], wanted: Sequence[Tensor]) -> None:
    if any(tensor.is_meta for tensor in wanted):
        return
    found = first_disagreement(made, wanted)
    if found is not None:
        raise _misfit(
            own,
            f"changes output {found.place} by {found.error:.3g}, of up to {found.scale:.3g}",
            "a pass may change how something is computed, not what",
        )


def _describe(program: Program, values: Mapping[fx.Node, Any]) -> None:
    """Shapes and paths for the nodes that the pass added or changed."""
    for node in program.graph.nodes:
        if node.op == "output":
            continue
        value = values[node]
        if _form(node.meta.get("val")) != _form(value):
            node.meta["val"] = pytree.tree_map(lambda tensor: torch.empty_like(tensor, device="meta"), value)
        if "path" not in node.meta:
            node.meta["path"] = next((path_of(one) for one in node.all_input_nodes if path_of(one)), "")


def _form(value: Any) -> list[tuple[Any, ...]]:
    return [
        (tuple(leaf.shape), leaf.dtype) if isinstance(leaf, Tensor) else (leaf,) for leaf in pytree.tree_leaves(value)
    ]


def _random_clip(program: Program, seed: int) -> list[Tensor]:
    """Brighter and higher in contrast with each seed."""
    generator = torch.Generator().manual_seed(seed)
    device = next((tensor.device for tensor in program.tensors.values()), torch.device("cpu"))
    return [_random_input(given, generator, seed).to(device) for given in program.inputs]


def _random_input(given: ClipInput, generator: torch.Generator, seed: int) -> Tensor:
    if not given.dtype.is_floating_point:
        return torch.randint(0, 256, given.shape, generator=generator).to(given.dtype)
    return (torch.randn(given.shape, generator=generator) * (1 + seed / 2) + seed / 4).to(given.dtype)


def _outputs(program: Program, values: Mapping[fx.Node, Any]) -> list[Tensor]:
    return [values[node] for node in program.returned]


def _misfit(own: object, reason: str, hint: str) -> ExtensionError:
    return ExtensionError(f"the pass {pass_name(own)} {reason}\n  try: {hint}")
