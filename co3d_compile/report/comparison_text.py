"""A comparison as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from co3d_compile.report.comparison import Compared, Comparison, Difference, Scalar
from co3d_compile.report.tables import headed, named, numbers
from co3d_compile.report.wording import scaled

COLUMNS = ("delay", "macs_per_frame", "state_bytes")
"""Of layers, these have columns of their own."""
CLOCK = ("stride", "elements", "delay", "shift", "padded_share")
"""Of layers that differ in nothing else, only the number is told: they come after others that do."""
ONLY = {"first": "only in the first", "second": "only in the second"}


def render_comparison(comparison: Comparison) -> RenderableType:
    """What a terminal shows: totals, outputs, and the layers that differ."""
    told = (*comparison.options, *comparison.totals)
    return Group(
        Text(f"first:  {comparison.first}\nsecond: {comparison.second}\n", overflow="fold"),
        headed("Totals, for one stream", _side_by_side(told)),
        *(_output(output) for output in comparison.outputs),
        headed("Layers that differ", _layers(comparison.layers) if comparison.layers else Text("none")),
    )


def _output(output: Compared) -> RenderableType:
    title = f"Output {output.name}" if output.name != "output" else "Output"
    if output.only_in is not None:
        return headed(title, Text(ONLY[output.only_in]))
    return headed(title, _side_by_side(output.differences))


def _side_by_side(differences: Sequence[Difference]) -> RenderableType:
    table = numbers("", "first", "second", "difference", "ratio")
    for one in differences:
        table.add_row(_words(one.attribute), Text(_value(one.first)), Text(_value(one.second)), *_change(one))
    return table


def _layers(layers: Sequence[Compared]) -> RenderableType:
    table = numbers("second less first, and ratio", "delay", "MACs", "", "state", "")
    told = [layer for layer in layers if not _differs_in_clock_alone(layer)]
    for layer in told:
        delay, macs, state = (_named(layer, attribute) for attribute in COLUMNS)
        table.add_row(_layer(layer), _signed(delay), _signed(macs), _ratio(macs), _signed(state), _ratio(state))
    rest = len(layers) - len(told)
    return Group(table, Text(f"{rest} more differ in their clocks alone")) if rest else table


def _differs_in_clock_alone(layer: Compared) -> bool:
    return layer.only_in is None and all(one.attribute in CLOCK for one in layer.differences)


def _named(layer: Compared, attribute: str) -> Difference | None:
    return next((one for one in layer.differences if one.attribute == attribute), None)


def _layer(layer: Compared) -> Text:
    text = named(layer.path or layer.name, layer.operation)
    others = [one for one in layer.differences if one.attribute not in COLUMNS]
    told = [f"{_words(one.attribute)} {_value(one.first)} -> {_value(one.second)}" for one in others]
    for line in told if layer.only_in is None else [ONLY[layer.only_in]]:
        text.append(f"\n  {line}", style="dim")
    return text


def _change(one: Difference) -> tuple[str, str]:
    if not one.difference:
        return "", ""
    return ("+" if one.difference > 0 else "") + _value(one.difference), _ratio(one)


def _signed(one: Difference | None) -> str:
    if one is None or one.difference is None:
        return ""
    return ("+" if one.difference > 0 else "") + scaled(one.difference)


def _ratio(one: Difference | None) -> str:
    return "" if one is None or one.ratio is None else f"{one.ratio:.3g}x"


def _value(value: Scalar) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
        case _:
            return str(value)


def _words(attribute: str) -> str:
    return attribute.replace("macs", "MACs").replace("_", " ")
