"""What a terminal shows, to the letter, on networks small enough to count by hand."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
import torch
from rich.console import Console, RenderableType
from torch import Tensor, nn

import co3d_compile
from co3d_compile.report.comparison import compare
from co3d_compile.report.comparison_text import render_comparison
from co3d_compile.report.data import DelayPart, Report
from co3d_compile.report.text import render_report
from tests.small_models import CLIP, residual
from tests.test_report import Classifier, StridedBlock
from tests.zoo_models import ZOO

ENV = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}


def shown(body: RenderableType, width: int = 80) -> str:
    """Without the blanks at the ends of lines."""
    console = Console(file=io.StringIO(), width=width)
    console.print(body)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def section(text: str, title: str) -> list[str]:
    """One section's lines, without the margin."""
    body = next(part for part in text.split("\n\n") if part.startswith(title))
    return [line.removeprefix("  ") for line in body.splitlines()[1:]]


def lines(text: str) -> list[str]:
    return dedent(text).strip("\n").splitlines()


class Chain(nn.Module):
    """What a terminal shows of it fits a test."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(1, 4, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0)), nn.ReLU())
        self.conv = nn.Conv3d(4, 8, (3, 1, 1), padding=(1, 0, 0))

    def forward(self, clip: Tensor) -> Tensor:
        return self.conv(self.stem(clip))


def chain(**options: str) -> Report:
    return co3d_compile.compile(Chain(), (1, 1, 8, 2, 2), **options).report


def test_what_makes_the_delay() -> None:
    wanted = lines("""
        layer         adds  delay
        ─────────────────────────
        conv1 conv3d    +1      1
        conv2 conv3d    +2      3
    """)
    report = co3d_compile.compile(StridedBlock(), (1, 1, 8, 2, 2)).report

    assert section(shown(render_report(report)), "Delay") == wanted


def test_why_a_layer_delays_without_looking_ahead() -> None:
    """An output that is cut at its end, and of which one layer is held, with a name that is no markup."""
    report = chain()
    (output,) = report.outputs
    path = (
        DelayPart("conv", "stem.0", "conv3d", "held", 2, 2),
        DelayPart("slice", "[bold]", "slice", "cut", 3, 5),
    )
    text = shown(render_report(replace(report, outputs=(replace(output, critical_path=path),))))

    assert section(text, "Delay")[2:] == [
        "stem.0 conv3d, fires later than it could             +2      2",
        "[bold] slice, until its elements are sure to stay    +3      5",
    ]


def test_what_there_is_none_of_has_no_section() -> None:
    text = shown(render_report(co3d_compile.compile(nn.Conv3d(1, 1, (1, 3, 3)), (1, 1, 8, 4, 4)).report))

    assert [title for title in ("Delay", "Largest states", "Padding", "Layers") if f"\n{title}" in text] == ["Layers"]


def test_what_is_kept_and_for_whom() -> None:
    """Two elements of 4 x 2 x 2 and of 1 x 2 x 2 floats."""
    wanted = lines("""
        kept of, needed by   elements  bytes  share
        ───────────────────────────────────────────
        stem.1 relu                 2    128  80.0%
          for conv conv3d
        clip input                  2     32  20.0%
          for stem.0 conv3d
    """)

    assert section(shown(render_report(chain())), "Largest states") == wanted


def test_where_padding_is_stripped() -> None:
    """Of four elements the first has seen the frame before the clip; then the first two and the last."""
    wanted = lines("""
        frames of its own, with all before it; share of the clip's elements with any
        layer          own  in all  clip
        ────────────────────────────────
        stem.0 conv3d    1       1   25%
        conv conv3d      2       3   75%
    """)

    assert section(shown(render_report(chain())), "Padding") == wanted


def test_layers() -> None:
    wanted = lines("""
        stride and delay in ticks, pad in frames, MACs per frame, state in bytes
        layer          stride  delay  pad  MACs         state
        ────────────────────────────────────────────────────────────
        clip input          1      0                       32  20.0%
        stem.0 conv3d       2      1    1    24  11.1%
        stem.1 relu         2      1                      128  80.0%
        conv conv3d         2      3    2   192  88.9%
    """)

    assert section(shown(render_report(chain())), "Layers") == wanted


def test_a_layer_that_is_held_so_that_less_is_kept() -> None:
    """The shortcut waits for the other branch with three frames of one channel, not two elements of two channels."""
    report = co3d_compile.compile(StridedBlock(), (1, 1, 8, 2, 2)).report
    text = shown(render_report(report))

    assert "held 1: fires 1 tick later than it could, so that less is kept" in section(text, "Layers")
    assert "shortcut conv3d held 3       2      3          4  10.0%" in section(text, "Layers")
    assert section(text, "Largest states")[2:] == [
        "relu relu                     2     64  57.1%",
        "  for conv2 conv3d",
        "clip input                    3     48  42.9%",
        "  for shortcut conv3d",
    ]


def test_a_transposed_form_keeps_partial_sums() -> None:
    """Of one channel, in place of inputs of eight."""
    report = co3d_compile.compile(nn.Conv3d(8, 1, (3, 1, 1)), (1, 8, 6, 2, 2)).report
    text = shown(render_report(report))

    assert "T: transposed form, which keeps partial sums" in section(text, "Layers")
    assert section(text, "Largest states")[2:] == [
        "conv3d conv3d               2     32  100.0%",
        "  2 as partial sums",
    ]


def test_modules_in_place_of_layers() -> None:
    wanted = lines("""
        with all that is in them; shift: padding with that of all before
        module  layers  pad  shift  MACs          state
        ───────────────────────────────────────────────────────
        (all)        4    3      3   216  100.0%    160  100.0%
          stem       2    1      1    24   11.1%    128   80.0%
          conv       1    2      3   192   88.9%
    """)
    text = shown(render_report(chain(), depth=1))

    assert section(text, "Modules") == wanted
    assert "\nLayers\n" not in text
    assert section(text, "Delay")[2:] == ["stem      +1      1", "conv      +2      3"]
    assert section(shown(render_report(chain(), depth=0)), "Modules") == wanted[:4]


def test_what_is_approximate_is_marked() -> None:
    report = co3d_compile.compile(residual(), CLIP).report
    of_layers, of_modules = shown(render_report(report)), shown(render_report(report, depth=1))

    assert [line for line in section(of_layers, "Layers") if "~" in line] == [
        "~: approximate",
        "mean mean ~           2      3",
    ]
    assert any(line.startswith("(all) 1~ ") for line in section(of_modules, "Modules"))


def test_comparison() -> None:
    """The dense network takes every frame: twice the work, twice as deep a history between the convolutions."""
    text = shown(render_comparison(compare(chain(), chain(rate="dense"), ("a.pt", "b.pt"))))

    assert text.startswith("first:  a.pt\nsecond: b.pt\n")
    totals = [line.split() for line in section(text, "Totals")]
    assert ["rate", "native", "dense"] in totals
    assert ["clip", "MACs", "1,728", "1,728"] in totals
    assert ["MACs", "per", "frame", "216", "432", "+216", "2x"] in totals
    assert ["saving", "8", "4", "-4", "0.5x"] in totals
    assert "steady tick                      7                  6          -1  0.857x" in section(text, "Output")
    assert section(text, "Layers that differ") == lines("""
        second less first, and ratio  delay  MACs      state
        ────────────────────────────────────────────────────────
        stem.0 conv3d                         +24  2x
          stride 2 -> 1
        stem.1 relu                                     +128  2x
          stride 2 -> 1
          history 2 -> 4
        conv conv3d                          +192  2x
          stride 2 -> 1
    """)


def test_comparison_of_one_with_itself() -> None:
    text = shown(render_comparison(compare(chain(), chain())))

    assert section(text, "Layers that differ") == ["none"]


def test_comparison_of_other_networks() -> None:
    classifier = co3d_compile.compile(Classifier(), (1, 2, 6, 4, 4)).report
    text = shown(render_comparison(compare(chain(), classifier)))

    assert "head linear\n    only in the second" in text
    assert "stem.0 conv3d\n    only in the first" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x3d_s", "r2plus1d_18"])
def test_deep_networks_fit_eighty_columns(name: str) -> None:
    model = ZOO[name]
    with torch.device("meta"):
        report = co3d_compile.compile(model.build(), torch.empty(model.clip())).report
        dense = co3d_compile.compile(model.build(), torch.empty(model.clip()), rate="dense", window=99).report

    for body in (render_report(report), render_report(report, 3), render_comparison(compare(report, dense))):
        text = shown(body)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.slow
def test_a_pipe_gets_plain_text_of_eighty_columns(tmp_path: Path) -> None:
    path = tmp_path / "cont.pt"
    co3d_compile.compile(residual(), CLIP).save(path)
    code = "import sys; from co3d_compile.cli.inspect import main; sys.exit(main())"

    told = subprocess.run([sys.executable, "-c", code, str(path)], check=True, capture_output=True, text=True, env=ENV)

    assert "\x1b" not in told.stdout
    assert max(map(len, told.stdout.splitlines())) <= 80
    assert "Largest states" in told.stdout
