"""From a module to a torch.fx graph of torch operators, through ``torch.export``, or ``make_fx`` where that refuses."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._decomp import core_aten_decompositions
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from co3d_compile.capture.branching import branching_error, is_branching
from co3d_compile.capture.clip import Clip
from co3d_compile.capture.vocabulary import is_known
from co3d_compile.capture.writes import hidden_views, without_writes
from co3d_compile.errors import CaptureError, first_line
from co3d_compile.ops.table import OperationTable
from co3d_compile.program.program import nodes_behind, output_node
from co3d_compile.structure import Structure, require_known, structure_of


@dataclass(frozen=True)
class Captured:
    """A graph whose weights are ``get_attr`` nodes under their original names, and its structure.

    The graph's output lists the output tensors flat.
    """

    graph: fx.Graph
    tensors: Mapping[str, Tensor]
    in_spec: pytree.TreeSpec
    structure: Structure


def capture_graph(model: nn.Module, clip: Clip, operations: OperationTable) -> Captured:
    """Trace the model at the clip's shape, in eval mode (its own modes are put back).

    Raises:
        CaptureError: the model fails on the clip, or its control flow depends on the values in it.
    """
    with evaluating(model), quiet():
        _require_running(model, clip)
        try:
            with _untold():
                exported = torch.export.export(model, clip.with_tensors(clip.tensors).arguments, strict=False)
        except Exception as refusal:
            return _traced(model, clip, refusal)
        return from_exported(exported, operations)


def from_exported(exported: ExportedProgram, operations: OperationTable) -> Captured:
    """The graph of a ``torch.export`` program, with operators that have no rule broken down into ones that have."""
    graph = _free_copy(exported.graph)
    if without_writes(graph) and not _unknown(graph, operations):
        return _with_named_weights(exported, graph)
    with quiet():
        exported = exported.run_decompositions(_decompositions(hidden_views(exported.graph)))
        unknown = _unknown(exported.graph, operations)
        while unknown:
            table = _decompositions(unknown)
            exported = _broken_down(exported, table) if table else exported
            left = _unknown(exported.graph, operations)
            unknown = left - unknown if table else set()
    return _with_named_weights(exported, _free_copy(exported.graph))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode for a while, module by module put back, as is what the model writes to its buffers meanwhile."""
    # a frozen TorchScript module has no mode left
    modes = {module: module.training for module in model.modules() if hasattr(module, "training")}
    if modes:
        model.eval()
    buffers = _copied_buffers(model)
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        _put_back(buffers)


@dataclass(frozen=True)
class _Buffer:
    """A buffer as it was: the tensor, how often it had been written to, and its values."""

    module: nn.Module
    name: str
    tensor: Tensor
    writes: int
    values: Tensor


def _copied_buffers(model: nn.Module) -> list[_Buffer]:
    # an inference tensor does not count, and outside of inference mode no model can write to it
    return [
        _Buffer(module, name, tensor, tensor._version, tensor.detach().clone())
        for module in model.modules()
        for name, tensor in module._buffers.items()
        if tensor is not None and not tensor.is_inference()
    ]


def _put_back(buffers: Iterable[_Buffer]) -> None:
    for was in buffers:
        if was.module._buffers[was.name] is not was.tensor:
            was.module._buffers[was.name] = was.tensor
        if was.tensor._version != was.writes:
            with torch.no_grad():
                was.tensor.copy_(was.values)


@contextmanager
def hushed(name: str, level: int = logging.ERROR) -> Iterator[None]:
    """A logger of torch's says nothing below a level."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)


@contextmanager
def _untold() -> Iterator[None]:
    """Where torch gives up it prints all that it has traced, and logs that it finds no place; our error says more."""
    told, printed = StringIO(), ""
    try:
        with hushed("torch.fx.experimental.symbolic_shapes"), redirect_stderr(told):
            yield
    except Exception as refusal:
        printed = f"{refusal.partial_fx_graph}\n" if hasattr(refusal, "partial_fx_graph") else ""
        raise
    finally:
        text = told.getvalue()
        sys.stderr.write(text.replace(printed, "") if printed else text)


@contextmanager
def quiet() -> Iterator[None]:
    """torch's tracers warn about what they do themselves."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def run_eagerly(model: nn.Module, clip: Clip) -> Any:
    """What the model gives in eval mode; torch.compile, where the model is wrapped in it, does not compile it first."""
    with evaluating(model), torch.compiler.set_stance("force_eager"):
        return model(*clip.with_tensors(clip.tensors).arguments)


def _require_running(model: nn.Module, clip: Clip) -> None:
    try:
        result = run_eagerly(model, clip)
    except Exception as failure:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in clip.tensors)
        raise CaptureError(
            f"the model fails on a clip of shape {shapes}: {first_line(failure)}\n"
            "  try: give the clip as the model takes it (a list for a model that takes a list)"
        ) from failure
    require_known(result)


def _unknown(graph: fx.Graph, operations: OperationTable) -> set[str]:
    calls = (node for node in graph.nodes if node.op == "call_function")
    return {str(node.target) for node in calls if not is_known(node, operations)}


def _decompositions(wanted: Collection[str]) -> dict[Any, Callable[..., Any]]:
    """Of these operators, as far as torch has any."""
    known = {**core_aten_decompositions(), **torch.export.default_decompositions()} if wanted else {}
    return {operator: rule for operator, rule in known.items() if str(operator) in wanted}


def _broken_down(exported: ExportedProgram, table: dict[Any, Callable[..., Any]]) -> ExportedProgram:
    """With these operators in parts, but for those that have a part which only checks values."""
    made: ExportedProgram = exported.run_decompositions(table)
    if not _checks_values(made):
        return made
    pure = {one: rule for one, rule in table.items() if not _checks_values(exported.run_decompositions({one: rule}))}
    made = exported.run_decompositions(pure)
    return made


def _checks_values(exported: ExportedProgram) -> bool:
    """A tensor that the model does not have goes through it, for the order of what has effects."""
    return any(spec.kind is InputKind.TOKEN for spec in exported.graph_signature.input_specs)


def _with_named_weights(exported: ExportedProgram, graph: fx.Graph) -> Captured:
    signature = exported.graph_signature
    constants = {**exported.state_dict, **exported.constants}
    tensors: dict[str, Tensor] = {}
    places = [node for node in graph.nodes if node.op == "placeholder"]
    for node, spec in zip(places, signature.input_specs, strict=True):
        if spec.kind is InputKind.USER_INPUT:
            continue
        assert spec.target is not None
        tensors[spec.target] = constants[spec.target].detach()
        _replace_by_attribute(graph, node, spec.target)
    _keep_outputs(graph, [spec.kind is OutputKind.USER_OUTPUT for spec in signature.output_specs])
    _require_no_memory(graph, signature.buffers_to_mutate.values())
    call_spec = exported.call_spec
    assert call_spec.in_spec is not None
    assert call_spec.out_spec is not None
    _set_paths(graph)
    return Captured(graph, tensors, call_spec.in_spec, _with_constants_apart(graph, call_spec.out_spec))


def _require_no_memory(graph: fx.Graph, written: Collection[str]) -> None:
    """What is written to and no output is made of, such as a count of calls, tells nothing of the answer."""
    read = {str(node.target) for node in nodes_behind(output_node(graph)) if node.op == "get_attr"}
    names = sorted(read.intersection(written))
    if names:
        raise CaptureError(
            f"{', '.join(names)}: the model writes to its own buffers in forward, so its answer depends on what it saw "
            "before\n  try: a model whose forward leaves its buffers alone"
        )


def _free_copy(graph: fx.Graph) -> fx.Graph:
    """A copy that belongs to no module, so that its attributes are only names."""
    copy = fx.Graph()
    outputs = copy.graph_copy(graph, {})
    copy.output(outputs)
    return copy


def _replace_by_attribute(graph: fx.Graph, node: fx.Node, name: str) -> None:
    with graph.inserting_before(node):
        attribute = graph.create_node("get_attr", name, name=node.name)
    attribute.meta = dict(node.meta)
    node.replace_all_uses_with(attribute)
    graph.erase_node(node)


def _keep_outputs(graph: fx.Graph, wanted: list[bool]) -> None:
    """Drop what is not the model's own output, such as an input that it wrote to."""
    output = next(iter(reversed(graph.nodes)))
    output.args = (tuple(entry for entry, keep in zip(output.args[0], wanted, strict=True) if keep),)


def _with_constants_apart(graph: fx.Graph, spec: pytree.TreeSpec) -> Structure:
    """The outputs' structure, with the constants in it; the graph's output keeps the tensors."""
    output = next(iter(reversed(graph.nodes)))
    leaves = output.args[0]
    output.args = (tuple(leaf for leaf in leaves if isinstance(leaf, fx.Node)),)
    return structure_of(spec, leaves)


def _set_paths(graph: fx.Graph) -> None:
    for node in graph.nodes:
        stack = node.meta.get("nn_module_stack")
        node.meta["path"] = list(stack.values())[-1][0].split("@")[0] if stack else ""


def _traced(model: nn.Module, clip: Clip, refusal: Exception) -> Captured:
    """``make_fx`` on real values, for models that ``torch.export`` refuses."""
    if is_branching(refusal):
        raise branching_error(model, refusal) from refusal
    names = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    inputs, in_spec = pytree.tree_flatten((clip.with_tensors(clip.tensors).arguments, {}))
    out_spec: list[pytree.TreeSpec] = []

    def run(weights: dict[str, Tensor], *flat: Tensor) -> list[Tensor]:
        arguments, _ = pytree.tree_unflatten(list(flat), in_spec)
        outputs, spec = pytree.tree_flatten(torch.func.functional_call(model, weights, arguments))
        out_spec[:] = [spec]
        return outputs

    try:
        graph = _free_copy(make_fx(torch.func.functionalize(run))(names, *inputs).graph)
    except Exception as failure:
        raise CaptureError(f"the model cannot be captured: {first_line(refusal)}") from failure
    places = [node for node in graph.nodes if node.op == "placeholder"]
    for node, name in zip(places, names, strict=False):
        _replace_by_attribute(graph, node, name)
    _set_paths(graph)
    tensors = {name: tensor.detach() for name, tensor in names.items()}
    return Captured(graph, tensors, in_spec, _with_constants_apart(graph, out_spec[0]))
