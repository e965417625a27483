"""The network along time as a drawing for papers: SVG on white, text as text, nothing that needs a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from co3d_compile.report.data import Report
from co3d_compile.report.page.axis import Axis, axis_of
from co3d_compile.report.page.lines import Line, lines_of
from co3d_compile.report.page.outline import Row, outline_of
from co3d_compile.report.page.places import Kind, Link, Mark, links_of
from co3d_compile.report.wording import signed

CHART, ROW, HEAD, FOOT, INDENT, GAP = 560.0, 16.0, 36.0, 30.0, 10.0, 12.0
"""Points: the axis' width, a row's height, room above and below the rows, a level's indent, room between columns."""
LETTER = 5.8
"""Points: no narrower than the mean letter of a sans-serif font of 10 points, so that no label is cut short."""
INK, FAINT = "#1b2430", "#6a7686"
FILLS: dict[Kind, str] = {"span": "#cfe0f6", "reach": "#3f83d6", "wait": "#c2410c", "tick": "#123a70"}
HEIGHTS: dict[Kind, float] = {"span": 8.0, "reach": 2.5, "wait": 1.2, "tick": 11.0}
MEANINGS: tuple[tuple[Kind, str], ...] = (
    ("span", "frames it depends on"),
    ("reach", "newer elements read"),
    ("wait", "wait"),
    ("tick", "first element: the delay"),
)


@dataclass(frozen=True)
class _Sheet:
    """Where things stand: points from the upper left corner."""

    axis: Axis
    left: float
    rows: int

    @property
    def width(self) -> float:
        return self.left + CHART + GAP + 40

    @property
    def bottom(self) -> float:
        """Where the rows end."""
        return HEAD + ROW * self.rows

    def x(self, place: float) -> float:
        return self.left + CHART * place

    def y(self, row: int) -> float:
        """The middle of a row."""
        return HEAD + ROW * (row + 0.5)


def render_drawing(report: Report, title: str) -> str:
    """The rows that the page shows at first, as one SVG."""
    rows, axis = outline_of(report), axis_of(report.layers)
    lines = lines_of(report, rows, axis)
    seen = [line for line in lines if line.seen]
    widest = max(line.depth * INDENT + len(_label(line)) * LETTER for line in seen)
    sheet = _Sheet(axis, widest + 2 * GAP, len(seen))
    root = _root(sheet, title)
    _axis(root, sheet)
    _links(root, sheet, links_of(rows, axis), _stand_ins(lines, seen))
    for place, line in enumerate(seen):
        _row(root, sheet, place, line)
    _legend(root, sheet)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _label(line: Line) -> str:
    return f"{line.row.label} ≈" if line.approximate else line.row.label


def _stand_ins(lines: Sequence[Line], seen: Sequence[Line]) -> dict[Row, int]:
    """Each row's place, or that of the row it is folded into."""
    place = {line.row: number for number, line in enumerate(seen)}
    for line in lines:
        if not line.seen and line.around is not None:
            place[line.row] = place[lines[line.around].row]
    return place


def _root(sheet: _Sheet, title: str) -> Element:
    width, height = f"{sheet.width:g}", f"{sheet.bottom + FOOT:g}"
    root = Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": width,
            "height": height,
            "viewBox": f"0 0 {width} {height}",
            "font-family": "Helvetica, Arial, sans-serif",
            "font-size": "10",
            "role": "img",
        },
    )
    SubElement(root, "title").text = f"{title}: the network along time"
    _box(root, 0, 0, sheet.width, sheet.bottom + FOOT, "#ffffff")
    return root


def _axis(root: Element, sheet: _Sheet) -> None:
    start = sheet.x(0.0)
    _box(root, start, HEAD, sheet.x(sheet.axis.at(0)) - start, sheet.bottom - HEAD, "#f1f3f6")
    for tick in sheet.axis.labels:
        x = sheet.x(sheet.axis.at(tick))
        _line(root, (x, HEAD), (x, sheet.bottom), "#dfe4ea")
        _text(root, x, HEAD - 6, signed(tick), FAINT, "middle")
    _text(root, GAP, HEAD - 6, "layer", FAINT)
    _text(root, sheet.width - GAP, HEAD - 6, "delay", FAINT, "end")
    _text(root, sheet.x(0.5), HEAD - 20, "tick: one input frame each; the video begins at 0", FAINT, "middle")


def _links(root: Element, sheet: _Sheet, links: Sequence[Link], place: dict[Row, int]) -> None:
    drawn = {(place[link.maker], place[link.reader], link.at): link.waits for link in links}
    for (maker, reader, at), waits in drawn.items():
        if maker != reader:
            x = sheet.x(at)
            _line(root, (x, sheet.y(maker)), (x, sheet.y(reader)), FILLS["wait"] if waits else "#9aa7b8")


def _row(root: Element, sheet: _Sheet, place: int, line: Line) -> None:
    y, row = sheet.y(place), line.row
    if not line.opened:
        for mark in line.marks:
            _mark(root, sheet, y, mark)
    weight = "bold" if row.rows else "normal"
    _text(root, GAP + line.depth * INDENT, y + 3.5, _label(line), INK, weight=weight)
    _text(root, sheet.width - GAP, y + 3.5, str(row.result.delay), FAINT if line.opened else INK, "end")


def _mark(root: Element, sheet: _Sheet, y: float, mark: Mark) -> None:
    if mark.inside:
        y += 6
    start, stop = sheet.x(mark.start), sheet.x(mark.stop)
    if mark.kind == "wait":
        _line(root, (start, y), (stop, y), FILLS["wait"], HEIGHTS["wait"], "3 2")
        _box(root, start - 1.5, y - 1.5, 3, 3, FILLS["wait"])
        return
    height = HEIGHTS[mark.kind]
    if mark.kind == "tick":
        start, stop = start - 2, start + 2
    _box(root, start, y - height / 2, max(stop - start, 2.0), height, FILLS[mark.kind])


def _legend(root: Element, sheet: _Sheet) -> None:
    x, y = sheet.left, sheet.bottom + 18
    for kind, meaning in MEANINGS:
        width = 4 if kind == "tick" else 20
        if kind == "wait":
            _line(root, (x, y - 3), (x + width, y - 3), FILLS[kind], HEIGHTS[kind], "3 2")
        else:
            _box(root, x, y - 3 - HEIGHTS[kind] / 2, width, HEIGHTS[kind], FILLS[kind])
        _text(root, x + width + 5, y, meaning, INK)
        x += width + 5 + len(meaning) * LETTER + 2 * GAP


def _box(root: Element, x: float, y: float, width: float, height: float, fill: str) -> None:
    sizes = {"x": x, "y": y, "width": width, "height": height}
    SubElement(root, "rect", {**{name: f"{size:.2f}" for name, size in sizes.items()}, "fill": fill})


def _line(
    root: Element,
    start: tuple[float, float],
    stop: tuple[float, float],
    colour: str,
    width: float = 0.7,
    dashes: str = "",
) -> None:
    ends = {"x1": start[0], "y1": start[1], "x2": stop[0], "y2": stop[1]}
    drawn = {name: f"{place:.2f}" for name, place in ends.items()}
    dashed = {"stroke-dasharray": dashes} if dashes else {}
    SubElement(root, "line", {**drawn, "stroke": colour, "stroke-width": f"{width:g}", **dashed})


def _text(
    root: Element, x: float, y: float, text: str, colour: str, anchor: str = "start", weight: str = "normal"
) -> None:
    place = {"x": f"{x:.2f}", "y": f"{y:.2f}", "fill": colour, "text-anchor": anchor, "font-weight": weight}
    SubElement(root, "text", place).text = text
