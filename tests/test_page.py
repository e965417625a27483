"""The page and the drawing of a report: what stands where, without a browser."""

from __future__ import annotations

import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.cli import compile as compile_command
from co3d_compile.cli import inspect as inspect_command
from co3d_compile.report.data import Report
from co3d_compile.report.page.axis import Axis, axis_of
from co3d_compile.report.page.chains import chains_of
from co3d_compile.report.page.drawing import render_drawing
from co3d_compile.report.page.html import render_page
from co3d_compile.report.page.lines import lines_of
from co3d_compile.report.page.outline import SHOWN, Row, outline_of
from co3d_compile.report.page.places import Mark, links_of, marks_of
from co3d_compile.report.wording import phases
from tests.test_state_choice import Expanding
from tests.zoo_models import ZOO

CLIP = (1, 2, 8, 4, 4)
VOID = {"meta", "link", "input", "img", "br"}
EVIL = '<img src=x onerror="alert(1)">&\'</script>'


class Block(nn.Module):
    """A residual block: its input waits 2 ticks for the branch, whatever is fired when."""

    def __init__(self) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0)),
            nn.BatchNorm3d(2),
            nn.ReLU(),
            nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0)),
        )

    def forward(self, clip: Tensor) -> Tensor:
        return (self.branch(clip) + clip).relu()


class Tower(nn.Module):
    """Blocks in a row under one module, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(Block(), nn.Conv3d(2, 2, 1, stride=(2, 1, 1)), Block())
        self.head = nn.Linear(2, 4)

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.stages(clip).mean((2, 3, 4)))


class Trunk(nn.Module):
    """The same without the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = Tower().stages

    def forward(self, clip: Tensor) -> Tensor:
        return self.stages(clip)


class Gated(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Conv3d(4, 4, 1), nn.Sigmoid())

    def forward(self, clip: Tensor) -> Tensor:
        features = self.conv(clip)
        return features * self.gate(features)


class Tags(HTMLParser):
    """Refuses tags that are not closed in order, and collects addresses and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def report_of(model: nn.Module) -> Report:
    return co3d_compile.compile(model.eval(), CLIP).report


def by_label(rows: tuple[Row, ...]) -> dict[str, Row]:
    return {row.label: row for outer in rows for row in outer.walk()}


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    return tags


def text_of(page: str) -> str:
    """What a reader sees of it, as one line."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", "", page)))


def evil(report: Report) -> Report:
    """A report whose names try to become part of the page."""
    layers = tuple(replace(layer, path=EVIL) if layer.operation == "conv3d" else layer for layer in report.layers)
    return replace(report, layers=layers)


def test_a_norm_and_an_activation_stand_with_their_convolution() -> None:
    chains = chains_of(report_of(Block()).layers)

    assert [[layer.operation for layer in chain] for chain in chains] == [
        ["input"],
        ["conv3d", "batch_norm", "relu"],
        ["conv3d"],
        ["add", "relu"],
    ]


def test_every_layer_stands_in_one_row() -> None:
    report = report_of(Tower())
    rows = outline_of(report)
    chains = [row for outer in rows for row in outer.walk() if not row.rows]

    assert sorted(layer.name for row in chains for layer in row.layers) == sorted(layer.name for layer in report.layers)
    assert sum(row.macs_share for row in rows) == pytest.approx(1)
    assert sum(row.state_bytes for row in rows) == report.totals.state_bytes


def test_rows_follow_the_tree_of_modules() -> None:
    rows = outline_of(report_of(Tower()))
    (stages,) = (row for row in rows if row.rows)

    assert [row.label for row in rows] == ["input clip", "stages", "mean", "mean", "head"]
    assert [row.label for row in stages.rows] == ["0", "1", "2"]
    assert [row.label for row in stages.rows[2].rows] == ["branch", "add"]
    assert [row.path for row in stages.rows[2].rows] == ["stages.2.branch", "stages.2"]


def test_one_module_around_everything_is_no_row() -> None:
    rows = outline_of(report_of(Trunk()))

    assert [row.label for row in rows] == ["input clip", "stages.0", "stages.1", "stages.2"]


def test_a_module_shows_the_latest_of_what_others_read() -> None:
    report = report_of(Block())
    branch = by_label(outline_of(report))["branch"]

    assert (branch.result.operation, branch.result.delay) == ("conv3d", 2)


def test_axis_holds_all_spans_with_a_tick_of_room() -> None:
    axis = axis_of(report_of(Block()).layers)

    assert (axis.start, axis.stop, axis.step) == (-3, 4, 1)
    assert list(axis.labels) == [-2, -1, 0, 1, 2, 3]
    assert axis.at(axis.start) == 0.0
    assert axis.at(axis.stop) == 1.0


@pytest.mark.parametrize(("ticks", "step"), [(5, 1), (9, 2), (40, 5), (41, 10), (117, 20), (1500, 200)])
def test_an_axis_has_few_round_numbers(ticks: int, step: int) -> None:
    (layer, *_) = report_of(Block()).layers
    axis = axis_of([replace(layer, span=(0, ticks - 3), delay=0)])

    assert axis.step == step
    assert len(axis.labels) <= 9


def test_a_wait_is_drawn_to_scale() -> None:
    report = report_of(Block())
    axis = Axis(-4, 6, 2)
    add = by_label(outline_of(report))["add"]

    assert marks_of(add, axis, {layer.name: layer for layer in report.layers}) == [
        Mark("span", pytest.approx(0.2), pytest.approx(0.7)),
        Mark("wait", pytest.approx(0.45), pytest.approx(0.65)),
        Mark("tick", pytest.approx(0.65), pytest.approx(0.65)),
    ]


def test_a_folded_module_shows_what_waits_in_it() -> None:
    report = report_of(Tower())
    (stages,) = (row for row in outline_of(report) if row.rows)
    (block, _, _) = stages.rows
    marks = marks_of(block, axis_of(report.layers), {layer.name: layer for layer in report.layers})

    assert [mark.inside for mark in marks if mark.kind == "wait"] == [True]


def test_links_lead_from_each_row_to_its_readers() -> None:
    report = report_of(Block())
    links = links_of(outline_of(report), axis_of(report.layers))

    assert [(link.maker.label, link.reader.label, link.waits) for link in links] == [
        ("input clip", "0", False),
        ("0", "3", False),
        ("3", "add", False),
        ("input clip", "add", True),
    ]


def test_at_first_not_more_rows_are_seen_than_one_can_take_in() -> None:
    model = nn.Sequential(*(nn.Sequential(nn.Conv3d(2, 2, 1), nn.Conv3d(2, 2, 1)) for _ in range(SHOWN // 2)))
    report = report_of(model)
    lines = lines_of(report, outline_of(report), axis_of(report.layers))

    assert sum(line.seen for line in lines) == SHOWN // 2 + 1
    assert sum(not line.seen for line in lines) == SHOWN


def test_what_is_approximate_is_marked_in_its_row_and_the_rows_around() -> None:
    report = report_of(Gated())
    lines = lines_of(report, outline_of(report), axis_of(report.layers))

    assert {line.row.label: line.approximate for line in lines} == {
        "input clip": False,
        "conv": False,
        "gate": True,
        "0": True,
        "1": False,
        "mul": False,
    }


@pytest.mark.parametrize(
    ("numbers", "text"), [((), ""), ((3,), "3"), ((0, 1, 2), "0\N{EN DASH}2"), ((0, 2, 3), "0, 2\N{EN DASH}3")]
)
def test_phases_in_writing(numbers: tuple[int, ...], text: str) -> None:
    assert phases(numbers) == text


@pytest.mark.parametrize(
    "model", [Block(), Tower(), Gated(), nn.Conv3d(2, 2, 1)], ids=lambda model: type(model).__name__
)
def test_the_page_is_whole_and_asks_for_nothing_else(model: nn.Module) -> None:
    page = render_page(report_of(model), "cont.pt")
    tags = parsed(page)

    assert tags.open == []
    assert len(set(tags.ids)) == len(tags.ids)
    assert set(tags.addresses) == {"data:,", "#network"}
    assert re.findall(r"https?://[^\"' ]+", page) == ["http://www.w3.org/2000/svg"]
    assert "url(" not in page
    assert "@import" not in page


def test_names_stay_text_on_the_page() -> None:
    page = render_page(evil(report_of(Block())), EVIL)
    tags = parsed(page)

    assert tags.open == []
    assert "img" not in tags.tags
    assert tags.tags.count("script") == 2
    assert page.count("&lt;img src=x") > 5


def test_the_page_says_why_an_output_is_approximate() -> None:
    report = report_of(Gated())
    page = render_page(report, "cont.pt")

    assert report.outputs[0].approximations[0].reason in page
    assert '<span class="badge approximate">approximate</span>' in page
    assert '<span class="badge exact">' not in page


def test_the_page_says_what_makes_the_delay() -> None:
    report = report_of(Block())
    page = text_of(render_page(report, "cont.pt"))

    assert [part.ticks for part in report.outputs[0].critical_path] == [1, 1]
    assert "What makes the delay (2 layers)" in page
    assert "branch.0 (conv3d) +1, 1 tick so far" in page
    assert "branch.3 (conv3d) +1, 2 ticks so far" in page


@pytest.mark.parametrize(
    ("model", "options", "texts"),
    [
        (
            nn.Sequential(nn.Conv3d(2, 4, 1), nn.Conv3d(4, 2, (4, 1, 1), (2, 1, 1))),
            {},
            ["in transposed form", "all direct: everything as early as it can fire"],
        ),
        (Block(), {"prefer": "speed"}, ["for memory: the least there is; speed was preferred"]),
        (Block(), {"state_dtype": "float16"}, ["numbers in float16, one stream"]),
        (
            Tower(),
            {"balance": True, "extra_delay": 1},
            ["without balance and 1 tick of extra delay", "later than it could run"],
        ),
        (Expanding(1), {"recompute": True}, ["makes again", "otherwise: without recomputation, which takes "]),
    ],
    ids=["forms", "speed", "dtype", "balance", "recompute"],
)
def test_the_page_says_how_the_state_was_chosen(model: nn.Module, options: dict[str, Any], texts: list[str]) -> None:
    clip = (1, 3, 16, 6, 6) if isinstance(model, Expanding) else CLIP
    page = text_of(render_page(co3d_compile.compile(model.eval(), clip, **options).report, "cont.pt"))

    assert [text for text in texts if text not in page] == []


def test_the_page_says_what_is_not_streamed() -> None:
    report = report_of(nn.Sequential(nn.Conv3d(2, 3, 1), Backwards()))
    page = render_page(report, "cont.pt")

    assert len(report.last_resorts) == 1
    assert f"Not streamed: {report.last_resorts[0].path or 'the top level'}" in page


class Backwards(nn.Module):
    """Frames in the other order: nothing that streams."""

    def forward(self, clip: Tensor) -> Tensor:
        return clip.flip(2)


def test_the_drawing_is_vector_text_in_one_file() -> None:
    drawing = render_drawing(report_of(Block()), "cont.pt")
    root = ElementTree.fromstring(drawing)
    kinds = {element.tag.removeprefix("{http://www.w3.org/2000/svg}") for element in root.iter()}
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]

    assert kinds == {"svg", "title", "rect", "line", "text"}
    assert {"input clip", "branch", "add", "delay", "wait"} <= set(texts)
    assert re.findall(r"https?://[^\"' ]+", drawing) == ["http://www.w3.org/2000/svg"]


def test_waits_in_the_drawing_are_to_scale() -> None:
    root = ElementTree.fromstring(render_drawing(report_of(Block()), "cont.pt"))
    lines = [element.attrib for element in root.iter("{http://www.w3.org/2000/svg}line")]
    grid = sorted({float(line["x1"]) for line in lines if line["stroke"] == "#dfe4ea"})
    # the legend's sample comes last
    wait, _ = (line for line in lines if "stroke-dasharray" in line)

    tick = grid[1] - grid[0]
    assert float(wait["x2"]) - float(wait["x1"]) == pytest.approx(2 * tick, abs=0.02)


def test_names_stay_text_in_the_drawing() -> None:
    root = ElementTree.fromstring(render_drawing(evil(report_of(Block())), EVIL))

    assert any(EVIL in (element.text or "") for element in root.iter())


@pytest.mark.slow
def test_a_deep_network_is_drawn_in_few_rows() -> None:
    zoo = ZOO["r3d_18"]
    with torch.device("meta"):
        report = co3d_compile.compile(zoo.build(), torch.empty(zoo.clip())).report
    lines = lines_of(report, outline_of(report), axis_of(report.layers))

    assert sum(line.seen for line in lines) <= SHOWN
    assert [line.row.label for line in lines if line.depth == 0] == [
        *("input x", "stem.0", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"),
    ]


def test_files_are_written_beside_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = co3d_compile.compile(Block().eval(), CLIP)
    network.save(tmp_path / "cont.pt")
    html, svg = tmp_path / "report.html", tmp_path / "time.svg"
    code = inspect_command.main([str(tmp_path / "cont.pt"), "--html", str(html), "--svg", str(svg)])
    printed = capsys.readouterr()

    assert code == 0
    assert html.read_text() == render_page(network.report, "cont.pt")
    assert svg.read_text() == render_drawing(network.report, "cont.pt")
    assert printed.err == f"{html}: written\n{svg}: written\n"
    assert printed.out.startswith("Output\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cont.pt", "report.html", "time.svg"]


def test_compile_writes_the_page_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Block().eval()
    torch.export.save(torch.export.export(model, (torch.zeros(CLIP),)), tmp_path / "model.pt2")
    html = tmp_path / "report.html"
    code = compile_command.main(
        [str(tmp_path / "model.pt2"), "--out", str(tmp_path / "cont.pt"), "--no-verify", "--html", str(html)]
    )

    assert code == 0, capsys.readouterr().err
    assert html.read_text() == render_page(co3d_compile.load(tmp_path / "cont.pt").report, "cont.pt")


@pytest.mark.parametrize("option", ["--html", "--svg"])
def test_no_place_for_a_page_is_found_first(tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    co3d_compile.compile(Block().eval(), CLIP).save(tmp_path / "cont.pt")
    code = inspect_command.main([str(tmp_path / "cont.pt"), option, str(tmp_path / "none" / "page")])
    printed = capsys.readouterr()

    assert code == 1
    assert printed.out == ""
    assert printed.err == (
        f"error: {tmp_path}/none/page: cannot be written\n  try: a file in a folder that exists and may be written to\n"
    )
