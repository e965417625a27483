"""Layers and sums that run along time as one operator become recurrences."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import fx

from co3d_compile.ops import looping
from co3d_compile.ops.bodies import Body, BodyCall, Item
from co3d_compile.passes.loops.frames import described, time_dim
from co3d_compile.passes.loops.iterations import streams
from co3d_compile.program.program import (
    bound_arguments,
    is_getitem,
    path_of,
    target_name,
)

aten = torch.ops.aten

LAYERS = {
    "aten.lstm.input": "aten.lstm_cell.default",
    "aten.gru.input": "aten.gru_cell.default",
    "aten.rnn_tanh.input": "aten.rnn_tanh_cell.default",
    "aten.rnn_relu.input": "aten.rnn_relu_cell.default",
}
RUNNING = {
    "aten.cumsum.default": "aten.add.Tensor",
    "aten.cumprod.default": "aten.mul.Tensor",
    "aten.logcumsumexp.default": "aten.logaddexp.default",
    "aten.cummax.default": "aten.maximum.default",
    "aten.cummin.default": "aten.minimum.default",
}


def carry_layers(graph: fx.Graph) -> bool:
    """Replace the first recurrent layer or running sum over time; facts must be known. False: there is none.

    Law: no value changes, on the clip; what is carried starts at the first frame of the video.
    """
    for node in graph.nodes:
        if node.op != "call_function" or is_getitem(node):
            continue
        if target_name(node) in LAYERS and _runs_over_time(node):
            _replace_layer(graph, node)
            return True
        if target_name(node) in RUNNING and _adds_over_time(node):
            _replace_running(graph, node)
            return True
    return False


def _runs_over_time(node: fx.Node) -> bool:
    given = bound_arguments(node)
    if given["bidirectional"] or time_dim(given["input"]) != (1 if given["batch_first"] else 0):
        return False
    states = given["hx"] if isinstance(given["hx"], (list, tuple)) else [given["hx"]]
    return not any(streams(one) for one in states)


def _adds_over_time(node: fx.Node) -> bool:
    given = bound_arguments(node)
    dim = time_dim(given["self"])
    items = [user.args[1] for user in node.users if is_getitem(user)]
    # positions of a running maximum would have to be counted from the video's start
    return dim is not None and given["dim"] % len(given["self"].meta["val"].shape) == dim and 1 not in items


def _replace_running(graph: fx.Graph, node: fx.Node) -> None:
    source, dim = bound_arguments(node)["self"], time_dim(bound_arguments(node)["self"])
    assert dim is not None
    items = [user for user in node.users if is_getitem(user)]
    dtype = (items[0] if items else node).meta["val"].dtype
    with graph.inserting_before(node):
        if source.meta["val"].dtype != dtype:
            source = described(graph.call_function(aten._to_copy.default, (source,), {"dtype": dtype}), path_of(node))
        call = BodyCall(RUNNING[target_name(node)], {"self": Item(0), "other": Item(1)})
        made = _loop(graph, node, [source], [dim], [], Body(2, (call,), (2,)), Body(1, (), (0,)), 1)
        made = _laid(graph, node, _item(graph, made, 0), dim)
    for user in items or [node]:
        user.replace_all_uses_with(made)
    _erase(graph, node)


def _replace_layer(graph: fx.Graph, node: fx.Node) -> None:
    given = bound_arguments(node)
    states = list(given["hx"]) if isinstance(given["hx"], (list, tuple)) else [given["hx"]]
    count = given["num_layers"]
    weights = len(given["params"]) // count
    source, dim = given["input"], 1 if given["batch_first"] else 0
    lasts: list[list[fx.Node]] = [[] for _ in states]
    with graph.inserting_before(node):
        for layer in range(count):
            begin = [_layer_state(graph, node, state, layer) for state in states]
            params = list(given["params"][layer * weights : (layer + 1) * weights])
            made = _layer(graph, node, source, dim, begin, params, has_biases=given["has_biases"])
            for place, kept in enumerate(lasts):
                stacked = _item(graph, made, place)
                kept.append(_called(graph, node, aten.select.int, (stacked, 0, -1)))
            source, dim = _item(graph, made, 0), 0
        results = [_laid(graph, node, source, 1 if given["batch_first"] else 0)]
        results += [_called(graph, node, aten.stack.default, (kept, 0)) for kept in lasts]
    for user in list(node.users):
        user.replace_all_uses_with(results[user.args[1]])  # type: ignore[index]
    _erase(graph, node)


def _erase(graph: fx.Graph, node: fx.Node) -> None:
    """torch takes a layer with dropout for random, so that it does not go as dead code."""
    for item in list(node.users):
        graph.erase_node(item)
    graph.erase_node(node)
    graph.eliminate_dead_code()


def _layer_state(graph: fx.Graph, node: fx.Node, state: fx.Node, layer: int) -> fx.Node:
    """The first state of one layer; zeros stay one number, for any batch."""
    if state.op == "call_function" and target_name(state) in ("aten.zeros.default", "aten.full.default"):
        shape = list(state.meta["val"].shape)[1:]
        value = 0 if target_name(state) == "aten.zeros.default" else state.args[1]
        options = {"dtype": state.meta["val"].dtype}
        return described(graph.call_function(aten.full.default, (shape, value), options), path_of(node))
    return _called(graph, node, aten.select.int, (state, 0, layer))


def _layer(
    graph: fx.Graph,
    node: fx.Node,
    source: fx.Node,
    dim: int,
    begin: Sequence[fx.Node],
    params: Sequence[fx.Node],
    *,
    has_biases: bool,
) -> fx.Node:
    states = len(begin)
    constants = [*begin, *params]
    cell = LAYERS[target_name(node)]
    projects = len(params) == (5 if has_biases else 3)

    def step(hidden: Sequence[int], frame: int, weights: Sequence[int], inputs: int) -> Body:
        given = {name: Item(place) for name, place in zip(("w_ih", "w_hh", "b_ih", "b_hh"), weights, strict=False)}
        if projects:
            biases = weights[2:4] if has_biases else ()
            return _projecting(hidden, frame, [*weights[:2], *biases], weights[-1], inputs)
        if not has_biases:
            given = {name: given[name] for name in ("w_ih", "w_hh")}
        hx: Any = [Item(place) for place in hidden] if states == 2 else Item(hidden[0])
        call = BodyCall(cell, {"input": Item(frame), "hx": hx, **given}, 2 if states == 2 else None)
        return Body(inputs, (call,), tuple(range(inputs, inputs + states)))

    total = states + 1 + len(constants)
    body = step(range(states), states, range(2 * states + 1, total), total)
    first = step(range(1, 1 + states), 0, range(1 + states, total - states), total - states)
    return _loop(graph, node, [source], [dim], constants, body, first, states)


def _projecting(hidden: Sequence[int], frame: int, weights: Sequence[int], project: int, inputs: int) -> Body:
    """An LSTM whose output is projected, written out (torch.nn.LSTM, ``proj_size``)."""
    calls: list[BodyCall] = []

    def call(target: str, results: int | None = None, **arguments: Any) -> Item:
        calls.append(BodyCall(f"aten.{target}", arguments, results))
        return Item(inputs + sum(one.count for one in calls[:-1]))

    def linear(place: int, weight: int, bias: int | None) -> Item:
        given: dict[str, Any] = {} if bias is None else {"bias": Item(bias)}
        return call("linear.default", input=Item(place), weight=Item(weight), **given)

    biases: Sequence[int | None] = weights[2:] or (None, None)
    own, other = linear(frame, weights[0], biases[0]), linear(hidden[0], weights[1], biases[1])
    gates = call("add.Tensor", self=own, other=other)
    parts = call("chunk.default", 4, self=gates, chunks=4, dim=1).place
    entered, kept, shown = (call("sigmoid.default", self=Item(parts + n)) for n in (0, 1, 3))
    fresh = call("tanh.default", self=Item(parts + 2))
    memory = call("mul.Tensor", self=kept, other=Item(hidden[1]))
    cell = call("add.Tensor", self=memory, other=call("mul.Tensor", self=entered, other=fresh))
    wide = call("mul.Tensor", self=shown, other=call("tanh.default", self=cell))
    made = call("linear.default", input=wide, weight=Item(project))
    return Body(inputs, tuple(calls), (made.place, cell.place))


def _loop(
    graph: fx.Graph,
    node: fx.Node,
    streams: Sequence[fx.Node],
    dims: Sequence[int],
    constants: Sequence[fx.Node],
    body: Body,
    first: Body,
    states: int,
) -> fx.Node:
    arguments = (list(streams), list(dims), list(constants), body.to_text(), first.to_text(), states)
    return _called(graph, node, looping.operator_node(), arguments)


def _item(graph: fx.Graph, node: fx.Node, place: int) -> fx.Node:
    return _called(graph, node, operator.getitem, (node, place))


def _laid(graph: fx.Graph, node: fx.Node, stacked: fx.Node, dim: int) -> fx.Node:
    """Time brought from the front to where the original has it."""
    order = list(range(1, len(stacked.meta["val"].shape)))
    order.insert(dim, 0)
    return _called(graph, node, aten.permute.default, (stacked, order)) if dim else stacked


def _called(graph: fx.Graph, node: fx.Node, target: Callable[..., Any], arguments: tuple[Any, ...]) -> fx.Node:
    return described(graph.call_function(target, arguments), path_of(node))
