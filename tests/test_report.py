"""The report's numbers on networks small enough to count by hand, its data, its formulas and its text."""

from __future__ import annotations

import io
import json
import re

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import ArtifactError
from co3d_compile.report.data import Report
from co3d_compile.report.symbolic import BATCH, WINDOW, Formulas
from co3d_compile.report.text import render_report
from tests.zoo_models import ZOO


class Classifier(nn.Module):
    """One convolution, a pool over the clip, one linear layer."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3, stride=(stride, 1, 1), padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, clip: Tensor) -> Tensor:
        return self.head(self.conv(clip).relu().mean((2, 3, 4)))


class StridedBlock(nn.Module):
    """The worked example of design.md, section 3: the shortcut waits 1.5 of its own frames."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(1, 2, (3, 1, 1), stride=(2, 1, 1), padding=(1, 0, 0), bias=False)
        self.conv2 = nn.Conv3d(2, 2, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.shortcut = nn.Conv3d(1, 2, 1, stride=(2, 1, 1), bias=False)

    def forward(self, clip: Tensor) -> Tensor:
        return self.conv2(self.conv1(clip).relu()) + self.shortcut(clip)


class TwoPools(nn.Module):
    """Branches of unequal delay, each pooled over the clip, meet behind the pools."""

    def __init__(self) -> None:
        super().__init__()
        self.near = nn.Conv3d(2, 3, (1, 3, 3), stride=(2, 1, 1))
        self.far = nn.Conv3d(2, 3, (5, 3, 3), stride=(2, 1, 1), padding=(2, 0, 0))

    def forward(self, clip: Tensor) -> dict[str, Tensor]:
        near, far = self.near(clip), self.far(clip)
        pooled = torch.cat([near.amax((2, 3, 4)), far.mean((2, 3, 4))], 1)
        return {"pooled": pooled, "frames": far}


class FixedPool(nn.Module):
    """A pool of a fixed kernel that spans the clip, as X3D's head has it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3, stride=(2, 1, 1), padding=1)
        self.pool = nn.AvgPool3d((3, 4, 4), stride=1)

    def forward(self, clip: Tensor) -> Tensor:
        return self.pool(self.conv(clip)).flatten(1)


class Gated(nn.Module):
    """Squeeze-and-excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 4, 3, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Conv3d(4, 4, 1), nn.Sigmoid())

    def forward(self, clip: Tensor) -> Tensor:
        features = self.conv(clip)
        return features * self.gate(features)


def report_of(model: nn.Module, clip: tuple[int, ...] = (1, 2, 6, 4, 4), **options: int) -> Report:
    return co3d_compile.compile(model, clip, **options).report


def text_of(report: Report, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(render_report(report))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_an_output_of_a_classifier() -> None:
    (output,) = report_of(Classifier()).outputs

    assert output.exact
    assert (output.name, output.path, output.shape) == ("output", "head", (1, 3))
    # conv waits 1 frame, the window of 6 elements another 5
    assert (output.stride, output.elements, output.delay, output.padding) == (1, 1, 6, 1)
    assert (output.receptive_field, output.steady_tick) == (8, 7)


def test_totals_of_a_classifier() -> None:
    totals = report_of(Classifier()).totals

    conv, head = 4 * 4 * 4 * (2 * 27), 4 * 3
    assert totals.clip_macs == 6 * conv + head
    assert totals.macs_per_frame == conv + head
    assert totals.macs_by_phase == (conv + head,)
    assert totals.saving == pytest.approx((6 * conv + head) / (conv + head))
    # two frames for the kernel, five pooled elements for the window
    assert totals.state_elements == 2 * (2 * 4 * 4) + 5 * 4
    assert totals.state_bytes == 4 * totals.state_elements
    assert totals.parameters == 4 * 2 * 27 + 4 + 4 * 3 + 3
    assert totals.weight_bytes == 4 * totals.parameters
    assert (totals.period, totals.gates) == (1, 0)


def test_macs_of_a_strided_block_fall_on_the_ticks_at_which_it_fires() -> None:
    """The shortcut, held until its frame is read for the last time, fires with the others."""
    report = report_of(StridedBlock(), (1, 1, 8, 2, 2))
    conv1, conv2, shortcut = 2 * 4 * 3, 2 * 4 * 6, 2 * 4

    assert report.totals.period == 2
    assert report.totals.macs_by_phase == (0, conv1 + conv2 + shortcut)
    assert (report.totals.lightest_tick, report.totals.heaviest_tick) == (0, conv1 + conv2 + shortcut)
    assert report.totals.macs_per_frame == (conv1 + conv2 + shortcut) / 2
    assert report.totals.clip_macs == 4 * (conv1 + conv2 + shortcut)


def test_layers_of_a_strided_block() -> None:
    report = report_of(StridedBlock(), (1, 1, 8, 2, 2))
    layers = {layer.path: layer for layer in report.layers if layer.operation == "conv3d"}
    frames = report.layers[0]

    assert {path: (layer.stride, layer.delay) for path, layer in layers.items()} == {
        "conv1": (2, 1),
        "conv2": (2, 3),
        "shortcut": (2, 3),
    }
    assert {path: layer.held for path, layer in layers.items()} == {"conv1": 0, "conv2": 0, "shortcut": 3}
    assert {path: layer.padding for path, layer in layers.items()} == {"conv1": 1, "conv2": 2, "shortcut": 0}
    assert layers["shortcut"].history == 0
    assert (frames.operation, frames.history, frames.state_bytes) == ("input", 3, 3 * 4 * 4)
    assert report.totals.earliest_state_bytes == (2 + 2 * 2 + 2 * 2) * 4 * 4
    assert sum(layer.state_bytes for layer in report.layers) == report.totals.state_bytes
    assert sum(layer.macs_share for layer in report.layers) == pytest.approx(1)
    assert sum(layer.state_share for layer in report.layers) == pytest.approx(1)


def test_spans_and_waits_of_a_strided_block() -> None:
    """The shortcut waits 3 ticks, before it or behind it."""
    report = report_of(StridedBlock(), (1, 1, 8, 2, 2))
    layers = {layer.path or layer.operation: layer for layer in report.layers if layer.operation != "relu"}
    waits = {(read.layer, name): read.wait for name, layer in layers.items() for read in layer.reads}
    shortcut = layers["shortcut"].name

    assert {name: layer.span for name, layer in layers.items()} == {
        "input": (0, 0),
        "conv1": (-1, 1),
        "conv2": (-3, 3),
        "shortcut": (0, 0),
        "add": (-3, 3),
    }
    assert waits[layers["conv2"].name, "add"] == 0
    assert waits[layers["input"].name, "shortcut"] + waits[shortcut, "add"] == 3
    assert all(read.tick + read.wait == layer.delay for layer in report.layers for read in layer.reads)


def test_schedule_of_a_strided_block() -> None:
    """Each layer makes one element in a period, at the phase of its clock."""
    report = report_of(StridedBlock(), (1, 1, 8, 2, 2))
    made = [{firing.layer: firing.elements for firing in firings if firing.elements} for firings in report.schedule]

    assert made == [{layer.name: 1 for layer in report.layers[1:] if layer.delay % 2 == phase} for phase in range(2)]
    assert tuple(sum(firing.macs for firing in phase) for phase in report.schedule) == report.totals.macs_by_phase


def test_outputs_are_named_by_their_place_in_the_structure() -> None:
    assert [output.name for output in report_of(TwoPools()).outputs] == ["['pooled']", "['frames']"]


def test_gates_make_an_output_approximate_and_are_named() -> None:
    report = report_of(Gated())
    (output,) = report.outputs

    assert not report.exact
    assert report.totals.gates == 1
    assert [(entry.path, "each frame" in entry.reason) for entry in output.approximations] == [("gate.0", True)]
    assert "gate.0" in text_of(report)


def test_a_model_without_numbers_is_analysed_alike() -> None:
    with torch.device("meta"):
        analysed = co3d_compile.compile(Gated(), torch.empty(1, 2, 6, 4, 4)).report

    assert analysed == report_of(Gated())


@pytest.mark.parametrize("model", [Classifier(), Gated(), TwoPools()])
def test_json_and_back(model: nn.Module) -> None:
    report = report_of(model)
    written = json.dumps(report.to_dict())

    assert json.loads(written)["schema"] == 1
    assert Report.from_dict(json.loads(written)) == report


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema 2; this version reads 1"),
        ({"totals": {}}, "report.totals: missing or unknown fields: clip_macs, "),
        ({"layers": [{}]}, r"report.layers\[0\]: missing or unknown fields: "),
        ({"start": 1}, "report.start: str expected, '1' found"),
        ({"more": 1}, "report: missing or unknown fields: more"),
    ],
)
def test_a_report_of_another_version_or_damaged_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Report.from_dict(report_of(Classifier()).to_dict() | change)


@pytest.mark.parametrize("window", [1, 2, 5, 64])
@pytest.mark.parametrize("model", [Classifier(), Classifier(stride=2), TwoPools(), FixedPool()])
def test_formulas_give_what_a_compilation_at_another_window_says(model: nn.Module, window: int) -> None:
    plan = co3d_compile.compile(model, (1, 2, 6, 4, 4)).plan
    formulas, wanted = Formulas(plan), report_of(model, window=window)
    turned = {WINDOW: window, BATCH: 1}

    assert "W" in formulas.of_totals().state_bytes
    assert formulas.state_bytes.subs(turned) == wanted.totals.state_bytes
    assert float(formulas.macs_per_frame.subs(turned)) == wanted.totals.macs_per_frame
    for place, output in zip(plan.outputs, wanted.outputs, strict=True):
        assert formulas.delay(place.value).subs(turned) == output.delay
        assert formulas.receptive_field(place.value).subs(turned) == output.receptive_field
        assert formulas.steady_tick(place.value).subs(turned) == output.steady_tick


def test_formulas_in_writing() -> None:
    (output,) = report_of(Classifier(stride=2)).outputs

    assert output.formulas.delay == "2*W - 1"
    assert output.formulas.receptive_field == "2*W + 1"


@pytest.mark.parametrize("batch", [1, 3])
def test_the_running_state_holds_the_bytes_that_the_report_says(batch: int) -> None:
    network = co3d_compile.compile(StridedBlock(), (1, 1, 8, 2, 2))
    state = network.initial_state(batch)
    for _ in range(9):
        _, state = network.step(torch.zeros(batch, 1, 2, 2), state)

    assert state.bytes == batch * network.report.totals.state_bytes
    assert state.bytes == Formulas(network.plan).state_bytes.subs({BATCH: batch})


def test_text_holds_the_numbers_and_fits() -> None:
    text = text_of(report_of(StridedBlock(), (1, 1, 8, 2, 2)))

    assert all(len(line) <= 80 for line in text.splitlines())
    assert re.search(r"MACs per clip +320\b", text)
    assert re.search(r"delay +3 ticks", text)
    assert re.search(r"shortcut conv3d( held 3)? +2 +3 +8? ", text)
    assert "exact" in text


@pytest.mark.slow
def test_text_of_a_deep_network_cuts_nothing_short() -> None:
    model = ZOO["x3d_s"]
    with torch.device("meta"):
        report = co3d_compile.compile(model.build(), torch.empty(model.clip())).report
    text = text_of(report)

    assert "…" not in text
    assert all(len(line) <= 80 for line in text.splitlines())
    assert all(number in text for number in ("1,962,892,112", "152,711,312", f"{report.totals.state_bytes:,}"))
    assert all(entry.path in text for output in report.outputs for entry in output.approximations)


def test_each_element_of_a_burst_costs_its_multiplications() -> None:
    model = nn.Sequential(nn.MaxPool3d((2, 1, 1)), nn.ConvTranspose3d(2, 3, 3, (2, 1, 1), 1), nn.Conv3d(3, 3, 3))
    report = co3d_compile.compile(model, (1, 2, 8, 6, 6)).report

    assert report.totals.macs_per_frame == sum(layer.macs_per_frame for layer in report.layers)
    assert max(report.totals.macs_by_phase) > 0
