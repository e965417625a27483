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
from co3d_compile.capture.export import Captured, evaluating, from_exported, quiet, run_eagerly
from co3d_compile.capture.vocabulary import canonicalise
from co3d_compile.errors import CaptureError, InputError
from co3d_compile.ops import looping
from co3d_compile.ops.bodies import body_of
from co3d_compile.ops.table import OperationTable


@dataclass(frozen=True)
class StepRule:
    """How a module that takes a clip, or several of one length, works frame by frame.

    Attributes:
        step: from (module, state, a frame of each clip) to (next state, what the module gives for the frame). A state
            is a tensor, or a tuple or dictionary of tensors; so is what it gives.
        begin: from (module, the first frame of each clip) to the state before it.
        time_axis: of all that the module takes and gives; a frame comes and goes without it.
    """

    step: Callable[..., tuple[Any, Any]]
    begin: Callable[..., Any]
    time_axis: int = 2


StepRules = Mapping[type[nn.Module], StepRule]
Shapes = tuple[tuple[int, ...], ...]


@contextmanager
def stepping(model: nn.Module, rules: StepRules, clip: Clip, operations: OperationTable) -> Iterator[None]:
    """While it lasts, the modules with a rule are recurrences.

    Raises:
        CaptureError: a rule fails on what its module takes, or no module has its class.
        InputError: what is given are no rules.
    """
    _require_rules(rules)
    ruled = {module: (name, rule) for name, module in model.named_modules() if (rule := _rule_for(module, rules))}
    _require_used(rules, ruled)
    taken = _taken(model, ruled, clip) if ruled else {}
    for module, inputs in taken.items():
        name, rule = ruled[module]
        loops = {_shapes(clips): _captured(module, name, rule, clips, operations) for clips in inputs}
        module.forward = _looping(rule, loops)
    try:
        yield
    finally:
        for module in taken:
            del module.__dict__["forward"]


def _shapes(clips: Sequence[Tensor]) -> Shapes:
    return tuple(tuple(clip.shape) for clip in clips)


def _rule_for(module: nn.Module, rules: StepRules) -> StepRule | None:
    return next((rules[kind] for kind in type(module).__mro__ if kind in rules), None)


def _require_rules(given: object) -> None:
    rules = given if isinstance(given, Mapping) else {None: given}
    for kind, rule in rules.items():
        if not (isinstance(kind, type) and issubclass(kind, nn.Module) and isinstance(rule, StepRule)):
            raise InputError(
                f"recurrences is {given!r}\n  try: a dict from classes of modules to StepRule(step, begin)"
            )


def _require_used(rules: StepRules, ruled: Mapping[nn.Module, Any]) -> None:
    unused = [kind.__name__ for kind in rules if not any(isinstance(module, kind) for module in ruled)]
    if unused:
        raise CaptureError(
            f"the model has no module of class {', '.join(unused)}, for which recurrences= gives a step rule\n"
            "  try: the class of the module itself"
        )


def _taken(model: nn.Module, ruled: Mapping[nn.Module, Any], clip: Clip) -> dict[nn.Module, list[list[Tensor]]]:
    """What the modules take, call by call, when the model runs on the clip."""
    taken: dict[nn.Module, list[list[Tensor]]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        name, rule = ruled[module]
        _require_clips(name, inputs, named, rule.time_axis)
        taken.setdefault(module, []).append([clip.detach().clone() for clip in inputs])

    hooks = [module.register_forward_pre_hook(note, with_kwargs=True) for module in ruled]
    try:
        with quiet():
            run_eagerly(model, clip)
    finally:
        for hook in hooks:
            hook.remove()
    return taken


def _require_clips(name: str, inputs: Sequence[Any], named: Mapping[str, Any], time_axis: int) -> None:
    clips = [clip for clip in inputs if isinstance(clip, Tensor) and -clip.dim() <= time_axis < clip.dim()]
    lengths = {clip.shape[time_axis] for clip in clips}
    if named or len(clips) < len(inputs) or len(lengths) != 1:
        told = ", ".join(str(tuple(one.shape)) if isinstance(one, Tensor) else type(one).__name__ for one in inputs)
        raise CaptureError(
            f"{name}: it has a step rule and takes {', '.join([told] * bool(told) + [f'{one}=' for one in named])}\n"
            f"  try: a module that takes clips, by position, with as many frames on axis {time_axis}"
        )


@dataclass(frozen=True)
class _Loop:
    """A captured step: the recurrence's arguments but for its streams.

    Attributes:
        given: the structure of what the module gives.
    """

    constants: Sequence[Tensor]
    body: str
    first: str
    states: int
    given: pytree.TreeSpec


def _looping(rule: StepRule, loops: Mapping[Shapes, _Loop]) -> Callable[..., Any]:
    def forward(*clips: Tensor) -> Any:
        loop = loops[_shapes(clips)]
        dims = [rule.time_axis % clip.dim() for clip in clips]
        made = looping.operator_node()(list(clips), dims, loop.constants, loop.body, loop.first, loop.states)
        results = [one.movedim(0, rule.time_axis) for one in made[loop.states :]]
        return pytree.tree_unflatten(results, loop.given)

    return forward


class _Step(nn.Module):
    """One step of a module as a function of flat tensors, with the state first.

    Args:
        spec: of the state; None for the first step, which is given none.

    Attributes:
        next_spec: of the state after it.
        given: of what the module gives for the frames.
    """

    def __init__(self, module: nn.Module, rule: StepRule, spec: pytree.TreeSpec | None = None) -> None:
        super().__init__()
        self.module = module
        self.rule = rule
        self.spec = spec

    def forward(self, *tensors: Tensor) -> list[Tensor]:
        states = 0 if self.spec is None else self.spec.num_leaves
        frames = tensors[states:]
        if self.spec is None:
            state = self.rule.begin(self.module, *frames)
        else:
            state = pytree.tree_unflatten(tensors[:states], self.spec)
        state, made = self.rule.step(self.module, state, *frames)
        leaves, self.next_spec = pytree.tree_flatten(state)
        results, self.given = pytree.tree_flatten(made)
        return [*leaves, *results]


def _captured(
    module: nn.Module, name: str, rule: StepRule, clips: Sequence[Tensor], operations: OperationTable
) -> _Loop:
    frames = tuple(clip.select(rule.time_axis, 0) for clip in clips)
    try:
        with evaluating(module), quiet():
            beginning = _Step(module, rule)
            made = beginning(*frames)
            state = made[: beginning.next_spec.num_leaves]
            first = _graph(beginning, frames, operations)
            later = _graph(_Step(module, rule, beginning.next_spec), (*state, *frames), operations)
    except Exception as failure:
        raise CaptureError(
            f"{name}: its step rule fails on a frame of shape {', '.join(str(tuple(one.shape)) for one in frames)}: "
            f"{str(failure).splitlines()[0] if str(failure) else type(failure).__name__}\n"
            "  try: begin(module, frame) -> state and step(module, state, frame) -> (state, output), of tensors"
        ) from failure
    names = list(dict.fromkeys([*first.tensors, *later.tensors]))
    known = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    tensors = {**first.tensors, **later.tensors}
    constants = [known.get(one.removeprefix("module."), tensors[one]) for one in names]
    return _Loop(constants, _body(later, names), _body(first, names), len(state), beginning.given)


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
