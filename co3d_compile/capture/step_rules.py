"""Step rules: a module with memory, given as what it does at one frame instead of the loop in its forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from co3d_compile.capture.clip import Clip
from co3d_compile.capture.export import Captured, evaluating, from_exported, quiet
from co3d_compile.capture.vocabulary import canonicalise
from co3d_compile.errors import CaptureError
from co3d_compile.ops import looping
from co3d_compile.ops.bodies import body_of
from co3d_compile.ops.table import OperationTable


@dataclass(frozen=True)
class StepRule:
    """How a module that takes a clip works frame by frame.

    Attributes:
        step: from (module, state, frame) to (next state, what the module gives for the frame). A state is a tensor, or
            a tuple of tensors.
        begin: from (module, first frame) to the state before it.
        time_axis: of the module's input and of its output; a frame comes and goes without it.
    """

    step: Callable[[Any, Any, Tensor], tuple[Any, Tensor]]
    begin: Callable[[Any, Tensor], Any]
    time_axis: int = 2


StepRules = Mapping[type[nn.Module], StepRule]


@contextmanager
def stepping(model: nn.Module, rules: StepRules, clip: Clip, operations: OperationTable) -> Iterator[None]:
    """While it lasts, the modules with a rule are recurrences.

    Raises:
        CaptureError: a rule fails on what its module takes, or no module has its class.
    """
    ruled = {module: (name, rule) for name, module in model.named_modules() if (rule := _rule_for(module, rules))}
    _require_used(rules, ruled)
    taken = _taken(model, ruled, clip) if ruled else {}
    for module, inputs in taken.items():
        name, rule = ruled[module]
        loops = {tuple(x.shape): _captured(module, name, rule, x, operations) for x in inputs}
        module.forward = _looping(rule, loops)
    try:
        yield
    finally:
        for module in taken:
            del module.__dict__["forward"]


def _rule_for(module: nn.Module, rules: StepRules) -> StepRule | None:
    return next((rules[kind] for kind in type(module).__mro__ if kind in rules), None)


def _require_used(rules: StepRules, ruled: Mapping[nn.Module, Any]) -> None:
    unused = [kind.__name__ for kind in rules if not any(isinstance(module, kind) for module in ruled)]
    if unused:
        raise CaptureError(
            f"the model has no module of class {', '.join(unused)}, for which recurrences= gives a step rule\n"
            "  try: the class of the module itself"
        )


def _taken(model: nn.Module, ruled: Mapping[nn.Module, Any], clip: Clip) -> dict[nn.Module, list[Tensor]]:
    """What the modules take when the model runs on the clip."""
    taken: dict[nn.Module, list[Tensor]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if len(inputs) != 1 or not isinstance(inputs[0], Tensor):
            raise CaptureError(
                f"{ruled[module][0]}: it has a step rule and takes {len(inputs)} arguments\n"
                "  try: a module that takes one clip"
            )
        taken.setdefault(module, []).append(inputs[0].detach().clone())

    hooks = [module.register_forward_pre_hook(note) for module in ruled]
    try:
        with evaluating(model), quiet():
            model(*clip.with_tensors(clip.tensors).arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return taken


@dataclass(frozen=True)
class _Loop:
    """A captured step: the recurrence's arguments but for its stream."""

    constants: Sequence[Tensor]
    body: str
    first: str
    states: int


def _looping(rule: StepRule, loops: Mapping[tuple[int, ...], _Loop]) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:
        loop = loops[tuple(x.shape)]
        streams, dims = [x], [rule.time_axis % x.dim()]
        made = looping.operator_node()(streams, dims, loop.constants, loop.body, loop.first, loop.states)
        result: Tensor = made[-1]
        return result.movedim(0, rule.time_axis)

    return forward


class _Step(nn.Module):
    """One step of a module as a function of flat tensors, with the state first; without one it is the first step."""

    def __init__(self, module: nn.Module, rule: StepRule, spec: pytree.TreeSpec | None = None) -> None:
        super().__init__()
        self.module = module
        self.rule = rule
        self.spec = spec

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        frame = tensors[-1]
        begins = self.spec is None
        state = self.rule.begin(self.module, frame) if begins else pytree.tree_unflatten(tensors[:-1], self.spec)  # type: ignore[arg-type]
        state, made = self.rule.step(self.module, state, frame)
        leaves, self.next_spec = pytree.tree_flatten(state)
        return [*leaves, made]


def _captured(module: nn.Module, name: str, rule: StepRule, x: Tensor, operations: OperationTable) -> _Loop:
    frame = x.select(rule.time_axis, 0)
    try:
        with evaluating(module), quiet():
            beginning = _Step(module, rule)
            *state, _ = beginning(frame)
            first = _graph(beginning, (frame,), operations)
            later = _graph(_Step(module, rule, beginning.next_spec), (*state, frame), operations)
    except Exception as failure:
        raise CaptureError(
            f"{name}: its step rule fails on a frame of shape {tuple(frame.shape)}: "
            f"{str(failure).splitlines()[0] if str(failure) else type(failure).__name__}\n"
            "  try: begin(module, frame) -> state and step(module, state, frame) -> (state, output), of tensors"
        ) from failure
    names = list(dict.fromkeys([*first.tensors, *later.tensors]))
    known = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    tensors = {**first.tensors, **later.tensors}
    constants = [known.get(one.removeprefix("module."), tensors[one]) for one in names]
    return _Loop(constants, _body(later, names), _body(first, names), len(state))


def _graph(step: _Step, inputs: tuple[Tensor, ...], operations: OperationTable) -> Captured:
    captured = from_exported(torch.export.export(step, inputs, strict=False), operations)
    canonicalise(captured.graph, operations)
    return captured


def _body(captured: Captured, names: Sequence[str]) -> str:
    graph = captured.graph
    places = [node for node in graph.nodes if node.op == "placeholder"]
    found = {str(node.target): node for node in graph.nodes if node.op == "get_attr"}
    for name in names:
        if name not in found:
            with graph.inserting_before(next(iter(graph.nodes))):
                found[name] = graph.create_node("get_attr", name)
    calls: list[fx.Node] = [node for node in graph.nodes if node.op == "call_function"]
    outputs = next(iter(reversed(graph.nodes))).args[0]
    return body_of(calls, [*places, *(found[name] for name in names)], list(outputs)).to_text()
