"""The page: one file of HTML that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from co3d_compile.report import wording
from co3d_compile.report.data import DelayPart, LayerReport, OutputReport, Report
from co3d_compile.report.page.axis import axis_of
from co3d_compile.report.page.lines import lines_of
from co3d_compile.report.page.outline import outline_of
from co3d_compile.report.page.places import links_of

TOOLS = {
    name: getattr(wording, name)
    for name in ("allowed", "clock", "frames", "in_bytes", "scaled", "signed", "sizes", "span", "stride", "ticks")
}


def render_page(report: Report, title: str) -> str:
    """The whole report as HTML.

    Args:
        title: what the network is called, for instance its file's name.
    """
    rows, axis = outline_of(report), axis_of(report.layers)
    layers = {layer.name: layer for layer in report.layers}
    lines = lines_of(report, rows, axis)
    number = {line.row: line.number for line in lines}
    return _template().render(
        title=title,
        report=report,
        axis=axis,
        lines=lines,
        links=[(number[link.maker], number[link.reader], link.at, link.waits) for link in links_of(rows, axis)],
        layers=layers,
        states=list(wording.states_otherwise(report.totals)),
        phases=_phases(report),
        outputs=[(output, _reasons(output)) for output in report.outputs],
        style=Markup(_read("page.css")),
        script=Markup(_read("page.js")),
    )


def _phases(report: Report) -> Mapping[str, str]:
    """Layer to the phases at which it fires."""
    found: dict[str, list[int]] = {}
    for phase, firings in enumerate(report.schedule):
        for layer in dict.fromkeys(firing.layer for firing in firings):
            found.setdefault(layer, []).append(phase)
    return {layer: wording.phases(phases) for layer, phases in found.items()}


def _reasons(output: OutputReport) -> Mapping[str, list[str]]:
    """Each reason once, with the modules that it holds for."""
    found: dict[str, list[str]] = {}
    for entry in output.approximations:
        found.setdefault(entry.reason, []).append(entry.path)
    return found


def layer_title(layer: LayerReport) -> str:
    """What a layer is called where it stands alone."""
    return _title(layer.path, layer.operation, layer.name)


def delay_title(part: DelayPart) -> str:
    """A layer of a critical path, and why it waits."""
    return _title(part.path, wording.cause(part), part.layer)


def _title(path: str, does: str, name: str) -> str:
    return f"{path} ({does})" if path else f"{does} {name}"


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters.update(TOOLS)
    environment.filters["percent"] = lambda share: f"{share:.3%}"
    environment.filters["layer_title"] = layer_title
    environment.filters["delay_title"] = delay_title
    return environment.from_string(_read("page.html"))


def _read(name: str) -> str:
    return (files("co3d_compile.report.page") / name).read_text(encoding="utf-8")
