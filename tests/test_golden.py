"""The numbers of golden.json, to the unit.

Networks are built and compiled on the meta device: shapes decide these numbers, and no frame is computed.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import co3d_compile
from co3d_compile.report.data import Report
from tests.zoo_models import ZOO, published, trunk

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden.json").read_text())

pytestmark = pytest.mark.slow

NETWORKS = {
    "X3D-S 13x160": "x3d_s",
    "X3D-M 16x224": "x3d_m",
    "X3D-L 16x312": "x3d_l",
    "CoSlow 8x256": "slow",
    "Slow-8x8-R50 8x256": "slow",
    "CoI3D 8x224": "i3d",
    "I3D-R50 8x224": "i3d",
    "torchvision r3d_18": "r3d_18",
    "torchvision r2plus1d_18": "r2plus1d_18",
    "torchvision mc3_18": "mc3_18",
    "torchvision s3d": "s3d",
    "pytorchvideo X3D-S": "x3d_s",
    "pytorchvideo Slow": "slow",
    "pytorchvideo I3D": "i3d",
    "pytorchvideo CSN": "csn",
    "pytorchvideo R(2+1)D": "r2plus1d",
}


def rows(table: str) -> list[Any]:
    """A table's rows as test parameters."""
    entries = GOLDEN[table].items()
    return [pytest.param(name, numbers, id=name) for name, numbers in entries if name not in ("columns", "comment")]


def network(name: str) -> str:
    """The network of a row: the one whose name the row's begins with."""
    return next(NETWORKS[known] for known in NETWORKS if name.startswith(known))


@cache
def report_of(name: str) -> Report:
    model = ZOO[name]
    with torch.device("meta"):
        return co3d_compile.compile(model.build(), torch.empty(model.clip())).report


@pytest.mark.parametrize(("name", "numbers"), rows("receptive_field"))
def test_receptive_field_padding_delay_and_steady_tick(name: str, numbers: list[int]) -> None:
    (output,) = report_of(network(name)).outputs

    assert [output.receptive_field, output.padding, output.delay, output.steady_tick] == numbers


@pytest.mark.parametrize(("name", "numbers"), rows("trunks"))
def test_receptive_field_padding_and_stride_of_trunks(name: str, numbers: list[int]) -> None:
    model = ZOO[network(name)]
    with torch.device("meta"):
        clip = torch.empty(model.clip(frames=16, size=64))
        report = co3d_compile.compile(trunk(model.build()), clip).report
    (output,) = report.outputs

    assert [output.receptive_field, output.padding, output.stride] == numbers
    assert output.exact is (report.totals.gates == 0)


@pytest.mark.parametrize(("name", "numbers"), rows("macs"))
def test_macs_per_clip_and_per_frame(name: str, numbers: list[int]) -> None:
    totals = report_of(network(name)).totals

    assert [totals.clip_macs, totals.macs_per_frame] == numbers


OPTIMA = {
    "X3D-M 16x224": "x3d_m",
    "r3d_18 16x112": "r3d_18",
    "r2plus1d_18 16x112 (torchvision)": "r2plus1d_18",
}


@pytest.mark.parametrize("name", OPTIMA)
def test_state_is_the_least_there_is(name: str) -> None:
    totals = report_of(OPTIMA[name]).totals

    assert totals.state_elements == GOLDEN["state_floats"][name]["optimum"]


@cache
def slow_with_its_pool() -> Report:
    """golden.json's Slow: a kernel of its own in the stem, and a pool of 8 frames."""
    options = {"model_num_class": 400, "stem_conv_kernel_size": (1, 7, 7), "head_pool_kernel_size": (8, 7, 7)}
    with torch.device("meta"):
        model = published("pytorchvideo.models.resnet").create_resnet(**options)
        return co3d_compile.compile(model.eval(), torch.empty(1, 3, 8, 224, 224)).report


def golden_slow() -> dict[str, int]:
    return next(row for name, row in GOLDEN["state_floats"].items() if name.startswith("Slow-R50"))


def test_slow_keeps_the_least_there_is() -> None:
    assert slow_with_its_pool().totals.state_elements == golden_slow()["optimum"]


def test_state_of_all_direct_forms_at_the_earliest_ticks() -> None:
    """golden.json pools over time and space at once; a pool over space first keeps 1 of 7 x 7 positions."""
    slow, x3d, r3d = slow_with_its_pool(), report_of("x3d_m"), report_of("r3d_18")
    pooled = {"slow": 7 * 2048, "x3d": 15 * 432}
    head = 512  # golden.json counts r3d_18's trunk, without the window of its head

    floats = {
        name: report.totals.earliest_state_bytes // 4 for name, report in (("slow", slow), ("x3d", x3d), ("r3d", r3d))
    }
    assert floats["slow"] + (49 - 1) * pooled["slow"] == golden_slow()["all direct, earliest firing"]
    assert (
        floats["x3d"] + (49 - 1) * pooled["x3d"]
        == (GOLDEN["state_floats"]["X3D-M 16x224"]["all direct, earliest firing (trunk)"])
    )
    assert floats["r3d"] - head == GOLDEN["state_floats"]["r3d_18 16x112"]["all direct, earliest firing (trunk)"]


def test_i3d_computes_most_on_the_ticks_that_emit() -> None:
    report = report_of("i3d")
    (output,) = report.outputs

    assert report.totals.period == 2
    assert report.totals.macs_by_phase[output.delay % 2] == 5613305856
    assert report.totals.macs_by_phase[(output.delay + 1) % 2] == 1489223680


def test_x3d_for_any_head_pool() -> None:
    """golden.json: receptive field = pool + 4 + 2N, padding = 2 + N, of N = 26 residual blocks."""
    (output,) = report_of("x3d_s").outputs

    assert output.formulas.receptive_field == f"W + {4 + 2 * 26}"
    assert output.formulas.delay == f"W + {4 + 2 * 26 - (2 + 26) - 1}"
    assert output.formulas.steady_tick == f"W + {4 + 2 * 26 - 1}"


def test_x3d_names_every_gate_as_approximate() -> None:
    (output,) = report_of("x3d_s").outputs

    assert len(output.approximations) == 15
    assert all("each frame" in approximation.reason for approximation in output.approximations)


def test_layers_add_up_to_the_totals() -> None:
    report = report_of("slow")

    assert sum(layer.macs_share for layer in report.layers) == pytest.approx(1)
    assert sum(layer.state_share for layer in report.layers) == pytest.approx(1)
    assert sum(layer.clip_macs for layer in report.layers) == report.totals.clip_macs
