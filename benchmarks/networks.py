"""The table of docs/networks.md, at published sizes: ``make networks``.

Networks are compiled without numbers (on torch's meta device), so that a row takes seconds and little memory.
"""

from __future__ import annotations

import argparse
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

import co3d_compile
from benchmarks.subjects import SUBJECTS, Subject
from co3d_compile.errors import CaptureError, Co3dError
from co3d_compile.network import Network
from co3d_compile.report.data import Report

PAGE = Path(__file__).parents[1] / "docs" / "networks.md"
HEADS = (
    "network",
    "clip",
    "exact, or why not",
    "delay",
    "receptive field",
    "MACs per clip",
    "MACs per frame",
    "ratio",
    "state",
    "share streamed",
)


def row_of(name: str, subject: Subject) -> str:
    """One line of the table; what is refused has its reason there and no numbers."""
    try:
        cells = _numbers(compiled(subject).report)
    except Co3dError as refusal:
        cells = [f"refused: {_first_line(refusal)}", *[""] * (len(HEADS) - 3)]
    except Exception as failure:
        # one network must not keep the others from the page; that it is no refusal stays visible
        cells = [f"fails: {type(failure).__name__}", *[""] * (len(HEADS) - 3)]
    return _line([name, _clip_text(subject), *cells])


def compiled(subject: Subject) -> Network:
    """Without numbers, or with random ones where the model's path depends on them."""
    try:
        with torch.device("meta"):
            return _compiled(subject)
    except CaptureError:
        return _compiled(subject)


def _compiled(subject: Subject) -> Network:
    clip = subject.clip
    example = [torch.zeros(shape) for shape in clip] if isinstance(clip, list) else torch.zeros(clip)
    return co3d_compile.compile(subject.make(), example, **subject.options)


def table(names: Sequence[str]) -> str:
    rows = []
    for name in names:
        print(name, file=sys.stderr)
        rows.append(row_of(name, SUBJECTS[name]))
    return "\n".join([_line(HEADS), _line(["---", "---", "---", *["---:"] * (len(HEADS) - 3)]), *rows])


def rows_on_page() -> dict[str, str]:
    """The lines of the committed table by network."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return {line.split("|")[1].strip(): line for line in lines[2:]}


def _numbers(report: Report) -> list[str]:
    output, totals = report.outputs[0], report.totals
    return [
        _exactness(report),
        str(output.delay),
        str(output.receptive_field),
        _with_prefix(totals.clip_macs),
        _with_prefix(totals.macs_per_frame),
        f"{totals.saving:.1f}",
        _with_prefix(totals.state_bytes) + "B",
        f"{totals.share_streamed:.0%}",
    ]


def _exactness(report: Report) -> str:
    reasons = Counter(one.reason for output in report.outputs for one in output.approximations)
    listed = ", ".join(f"{count} x {reason}" for reason, count in sorted(reasons.items()))
    return f"approximate: {listed}" if listed else "exact"


def _with_prefix(number: float) -> str:
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.3g} "


def _clip_text(subject: Subject) -> str:
    shapes = subject.clip if isinstance(subject.clip, list) else [subject.clip]
    return " and ".join("x".join(str(size) for size in shape[1:]) for shape in shapes)


def _first_line(refusal: Exception) -> str:
    return str(refusal).splitlines()[0].replace("|", "/")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, help="print the rows of these, and leave the page alone")
    options = parser.parse_args(arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = table(options.only or list(SUBJECTS))
    if options.only:
        print(made)
        return 0
    text = PAGE.read_text()
    PAGE.write_text(
        re.sub(r"(?<=<!-- table -->\n\n).*?(?=\n\n<!-- end of table -->)", lambda _: made, text, flags=re.S)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
