"""Recurrent cells, one step of them; and recurrent layers that run along another axis than time."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from torch import nn

from co3d_compile.layout import Dim, Layout, Mark
from co3d_compile.ops.broadcast import joined
from co3d_compile.ops.flow import Flow, alone
from co3d_compile.ops.operation import Block, Call, Facts, Operation, Refused, Sample


class Cell(Operation):
    """Rows of features in, rows of features out."""

    targets = (
        "aten.lstm_cell.default",
        "aten.gru_cell.default",
        "aten.rnn_tanh_cell.default",
        "aten.rnn_relu_cell.default",
    )
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        states = _listed(call["hx"])
        rows = joined([_rows(facts) for facts in (call["input"], *states)], call.sizes)
        return alone(*(rows.with_dims([*rows.dims, (shape[-1],)]) for shape in call.shapes))

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        rows = block.layouts[0].running_shape(block.elements, block.batch)[0]
        states = [one.expand(rows, arguments["w_hh"].shape[1]) for one in _listed(arguments["hx"])]
        given = arguments["input"].expand(rows, arguments["w_ih"].shape[1])
        hx = states if isinstance(arguments["hx"], list) else states[0]
        return super().run({**arguments, "input": given, "hx": hx}, block)

    def macs(self, call: Call, flow: Flow) -> int:
        weights = sum(prod(call[name].layout.shape) for name in ("w_ih", "w_hh"))
        return int(weights * call.shapes[0][0])

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("lstm, every frame alone", _OnRows(nn.LSTMCell(2, 3)), (1, 2, 8)),
            Sample("gru, every frame alone", _OnRows(nn.GRUCell(2, 3)), (1, 2, 8)),
            Sample("tanh", _OnRows(nn.RNNCell(2, 3)), (1, 2, 8)),
            Sample("relu", _OnRows(nn.RNNCell(2, 3, nonlinearity="relu")), (1, 2, 8)),
        )


class RecurrentLayer(Operation):
    """A whole layer along space or channels. Over time it becomes a recurrence before rules are asked."""

    targets = ("aten.lstm.input", "aten.gru.input", "aten.rnn_tanh.input", "aten.rnn_relu.input")
    broadcasts = True

    def flow(self, call: Call) -> Flow:
        layout: Layout = call["input"].layout.solid()
        rows = layout.dims[0 if call["batch_first"] else 1]
        along = layout.dims[1 if call["batch_first"] else 0]
        if Mark.TIME in along:
            raise Refused(*_reason(call))
        if any(isinstance(factor, Mark) for dim in (along, layout.dims[2]) for factor in dim):
            raise Refused("time or the batch is folded into what the layer runs along", "one sequence for each frame")
        shapes = call.shapes
        made = layout.with_dims([*layout.dims[:2], (shapes[0][2],)])
        return alone(made, *(layout.with_dims([(shape[0],), rows, (shape[2],)]) for shape in shapes[1:]))

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        shapes = [one.running_shape(block.elements, block.batch) for one in block.layouts[1:]]
        states = [one.expand(shape) for one, shape in zip(_listed(arguments["hx"]), shapes, strict=True)]
        given = arguments["input"].expand(block.operands[0].solid().running_shape(block.elements, block.batch))
        hx = states if isinstance(arguments["hx"], list) else states[0]
        return super().run({**arguments, "input": given, "hx": hx}, block)

    def macs(self, call: Call, flow: Flow) -> int:
        weights: list[tuple[int, ...]] = [facts.layout.shape for facts in call["params"] if facts.layout.rank == 2]
        rows = prod(call["input"].layout.shape[:2]) // _elements(flow)
        return int(sum(prod(shape) for shape in weights) * rows)

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("along rows, both ways", _OverRows(nn.LSTM(2, 3, bidirectional=True, batch_first=True))),
            Sample("along rows", _OverRows(nn.GRU(2, 3, num_layers=2, batch_first=True))),
            Sample(
                "both ways over time",
                _OverTime(nn.LSTM(2, 3, bidirectional=True, batch_first=True)),
                (1, 2, 8),
                refusal="the backward direction needs the clip's end",
            ),
        )


def _reason(call: Call) -> tuple[str, str]:
    if call["bidirectional"]:
        return "the backward direction needs the clip's end, which a stream has not seen", "a layer of one direction"
    return "it begins with a state that is made from the whole clip", "a first state of zeros, or a learned one"


def _elements(flow: Flow) -> int:
    layout = flow.layouts[0]
    return layout.time if layout.time_dim is not None else 1


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _rows(facts: Facts) -> Facts:
    layout = facts.layout
    if layout.rank != 2 or any(isinstance(factor, Mark) for factor in layout.dims[1]):
        raise Refused("a cell takes rows of features", "features in a dimension of their own")
    rows: list[Dim] = [layout.dims[0]]
    return Facts(layout.with_dims(rows), facts.dtype, facts.timing)


class _OnRows(nn.Module):
    """A cell applied to each frame from zeros."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Any) -> Any:
        made = self.cell(x.transpose(1, 2).flatten(0, 1))
        made = made[0] if isinstance(made, tuple) else made
        return made.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


class _OverRows(nn.Module):
    """A layer along the rows of each frame."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        n, _, t = x.shape[:3]
        made, _ = self.layer(x.mean(4).permute(0, 2, 3, 1).flatten(0, 1))
        return made.mean(1).unflatten(0, (n, t)).transpose(1, 2)


class _OverTime(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Any) -> Any:
        return self.layer(x.transpose(1, 2))[0].transpose(1, 2)
