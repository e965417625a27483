"""The network as rows: chains of layers under the modules of the user's model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from co3d_compile.report.data import LayerReport, Report
from co3d_compile.report.page.chains import Chain, chains_of

SHOWN = 48
"""Rows that one can take in at once."""


@dataclass(frozen=True, eq=False)
class Row:
    """A module with rows in it, or a chain of layers.

    Attributes:
        label: the module's path below that of the row around it; the operation where no module is left to name.
        layers: all of them, in the order in which they run.
        result: the layer that stands for it: the last one that is read outside.
    """

    path: str
    label: str
    layers: Chain
    result: LayerReport
    rows: tuple[Row, ...] = ()

    @property
    def macs_per_frame(self) -> float:
        return sum(layer.macs_per_frame for layer in self.layers)

    @property
    def macs_share(self) -> float:
        return sum(layer.macs_share for layer in self.layers)

    @property
    def state_bytes(self) -> int:
        return sum(layer.state_bytes for layer in self.layers)

    @property
    def state_share(self) -> float:
        return sum(layer.state_share for layer in self.layers)

    @property
    def operations(self) -> str:
        """What the layers of a chain do."""
        return " + ".join(layer.operation for layer in self.layers)

    @property
    def remark(self) -> str:
        """What the label of a chain does not say of it."""
        head, *rest = (layer.operation for layer in self.layers)
        told = self.label.split(" ")[0] == head
        return " ".join(f"+ {operation}" for operation in rest) if told else self.operations

    def walk(self) -> Iterator[Row]:
        """This row and all in it, from top to bottom."""
        yield self
        for row in self.rows:
            yield from row.walk()


def outline_of(report: Report) -> tuple[Row, ...]:
    """The outermost rows: inputs first, then modules in the order in which they begin to run."""
    rows = _rows([(_parts(chain), chain) for chain in chains_of(report.layers)], ())
    modules = [row for row in rows if row.rows]
    if len(modules) == 1 and all(row.rows or row.layers[0].operation == "input" for row in rows):
        # one module around everything says nothing
        rows = [inner for row in rows for inner in (_lifted(row) if row.rows else (row,))]
    return _with_results(rows)


def first_opened(rows: Sequence[Row]) -> frozenset[Row]:
    """The rows to open at first, level by level, while not more are to be seen than one can take in."""
    opened: set[Row] = set()
    seen, level = len(rows), list(rows)
    while level:
        inner = [row for outer in level for row in outer.rows]
        seen += len(inner)
        if seen > SHOWN:
            break
        opened.update(row for row in level if row.rows)
        level = inner
    return frozenset(opened)


Placed = tuple[tuple[str, ...], Chain]


def _parts(chain: Chain) -> tuple[str, ...]:
    return tuple(chain[0].path.split(".")) if chain[0].path else ()


def _rows(placed: Sequence[Placed], outer: tuple[str, ...]) -> list[Row]:
    """The rows in a module of such a path."""
    groups: dict[object, list[Placed]] = {}
    for number, (parts, chain) in enumerate(placed):
        inner = parts[len(outer) :]
        groups.setdefault(inner[0] if inner else number, []).append((parts, chain))
    return [_row(key, group, outer) for key, group in groups.items()]


def _row(key: object, group: list[Placed], outer: tuple[str, ...]) -> Row:
    if len(group) == 1:
        ((parts, chain),) = group
        label = ".".join(parts[len(outer) :]) or _own_label(chain)
        return Row(".".join(parts), label, chain, chain[-1])
    path = (*outer, str(key))
    rows = _rows(group, path)
    if len(rows) == 1:
        (row,) = rows
        return Row(row.path, f"{key}.{row.label}", row.layers, row.result, row.rows)
    layers = tuple(layer for _, chain in group for layer in chain)
    return Row(".".join(path), str(key), layers, layers[-1], tuple(rows))


def _own_label(chain: Chain) -> str:
    head = chain[0]
    return f"{head.operation} {head.name}" if head.operation == "input" else head.operation


def _lifted(row: Row) -> tuple[Row, ...]:
    return tuple(
        inner if inner.path == row.path else replace(inner, label=f"{row.label}.{inner.label}") for inner in row.rows
    )


def _with_results(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Each module is represented by the latest of its layers that others read."""
    readers: dict[str, set[str]] = {}
    for row in rows:
        for layer in row.layers:
            for read in layer.reads:
                readers.setdefault(read.layer, set()).add(layer.name)
    return tuple(_with_result(row, readers) for row in rows)


def _with_result(row: Row, readers: Mapping[str, set[str]]) -> Row:
    inside = {layer.name for layer in row.layers}
    read_outside = [layer for layer in row.layers if readers.get(layer.name, set()) - inside]
    # of equals the last
    result = max(reversed(read_outside or row.layers[-1:]), key=lambda layer: layer.delay)
    return replace(row, result=result, rows=tuple(_with_result(inner, readers) for inner in row.rows))
