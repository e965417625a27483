"""The whole capture: trace, canonicalise, compare with the original, describe the inputs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from co3d_compile.capture.clip import Clip
from co3d_compile.capture.export import Captured, capture_graph, from_exported, quiet, run_eagerly
from co3d_compile.capture.masks import settle_masks
from co3d_compile.capture.programs import exported_for
from co3d_compile.capture.step_rules import StepRules, stepping
from co3d_compile.capture.vocabulary import canonicalise
from co3d_compile.errors import CaptureError
from co3d_compile.ops.table import BUILT_IN, OperationTable
from co3d_compile.program.agreement import first_disagreement
from co3d_compile.program.interpret import run_graph
from co3d_compile.program.program import ClipInput, Program


def capture(
    model: nn.Module | ExportedProgram,
    clip: Clip,
    operations: OperationTable = BUILT_IN,
    step_rules: StepRules | None = None,
) -> Program:
    """The program of a model.

    Raises:
        CaptureError: it cannot be traced, or the graph does not compute what the model does, or a step rule fails.
    """
    if step_rules and not isinstance(model, nn.Module):
        raise CaptureError("a step rule is for a module, and an exported program has none\n  try: the model itself")
    with stepping(model, step_rules or {}, clip, operations) if isinstance(model, nn.Module) else nullcontext():
        program = trace(model, clip, operations)
    if isinstance(model, nn.Module):
        _compare(program, model, clip, step_rules or {})
    return program


def trace(
    model: nn.Module | ExportedProgram,
    clip: Clip,
    operations: OperationTable = BUILT_IN,
) -> Program:
    """The program of a model, not yet compared with it.

    Raises:
        CaptureError: it cannot be traced.
    """
    if isinstance(model, (ExportedProgram, torch.jit.ScriptModule)):
        captured = from_exported(exported_for(model, clip), operations)
    else:
        captured = capture_graph(model, clip, operations)
    tensors = dict(captured.tensors)
    settle_masks(captured.graph, tensors, {name for name, _ in model.named_parameters()})
    captured = replace(captured, tensors=tensors)
    canonicalise(captured.graph, operations)
    return replace(_program(captured, model, clip), operations=operations)


def _program(captured: Captured, model: nn.Module | ExportedProgram, clip: Clip) -> Program:
    places = [node for node in captured.graph.nodes if node.op == "placeholder"]
    tensors = clip.tensors
    if len(places) != len(tensors):
        raise CaptureError(
            f"the model takes {len(places)} tensors, the clip has {len(tensors)}\n  try: a clip with one for each"
        )
    program = Program(
        graph=captured.graph,
        tensors=captured.tensors,
        state=model.state_dict() if isinstance(model, nn.Module) else model.state_dict,
        trainable=frozenset(name for name, _ in model.named_parameters()),
        inputs=tuple(
            ClipInput(node.name, tuple(tensor.shape), tensor.dtype)
            for node, tensor in zip(places, tensors, strict=True)
        ),
        in_spec=captured.in_spec,
        structure=captured.structure,
    )
    if not program.output_nodes:
        raise CaptureError(
            "nothing that the model returns follows from the video\n"
            "  try: a model that returns what it makes of its clip"
        )
    return program


def _compare(program: Program, model: nn.Module, clip: Clip, step_rules: StepRules) -> None:
    if any(tensor.is_meta for tensor in clip.tensors):
        return  # shapes without numbers: there is an analysis to make, and nothing to compare
    with quiet():
        for seed in (1, 2):
            sample = clip.random(seed)
            wanted = pytree.tree_leaves(run_eagerly(model, sample))
            wanted = [leaf for leaf in wanted if isinstance(leaf, Tensor)]
            _require_close(run_graph(program, sample.tensors), wanted, step_rules)


def _require_close(made: Sequence[Tensor], wanted: Sequence[Tensor], step_rules: StepRules) -> None:
    found = first_disagreement(made, wanted)
    if found is not None and step_rules:
        named = ", ".join(kind.__name__ for kind in step_rules)
        raise CaptureError(
            f"output {found.place}: with the step rules for {named} the model gives what differs "
            f"by {found.error:.3g}, of up to {found.scale:.3g}, from what it gives without\n"
            "  try: a step that does what forward does at one frame, and a first state as in forward"
        )
    if found is not None:
        raise CaptureError(
            f"output {found.place}: the captured graph differs from the model by {found.error:.3g}, of up to "
            f"{found.scale:.3g}: something in the model changes between calls or depends on values in Python\n"
            "  try: remove random or stateful parts from forward"
        )
