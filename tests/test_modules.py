"""The sums by module."""

from __future__ import annotations

import pytest
import torch

import co3d_compile
from co3d_compile.report.data import LayerReport, ModuleReport, Report
from tests.small_models import CLIP, residual
from tests.test_report_text import chain
from tests.zoo_models import ZOO


def own_layers(report: Report, module: ModuleReport) -> list[LayerReport]:
    return [layer for layer in report.layers if layer.path == module.path]


def children(report: Report, module: ModuleReport) -> list[ModuleReport]:
    inside = [one for one in report.modules if one.depth == module.depth + 1]
    return [one for one in inside if not module.path or one.path.startswith(f"{module.path}.")]


def check_tree(report: Report) -> None:
    """Each module is the sum of its children and of the layers that are its own; the first is the total."""
    for module in report.modules:
        parts = [*own_layers(report, module), *children(report, module)]
        for name in ("macs_per_frame", "clip_macs", "state_bytes", "padding", "macs_share", "state_share"):
            assert getattr(module, name) == pytest.approx(sum(getattr(part, name) for part in parts)), name
        assert module.shift == max(part.shift for part in parts)
        assert module.padded_share == max(part.padded_share for part in parts)
        assert module.layers == len(own_layers(report, module)) + sum(one.layers for one in children(report, module))

    whole, totals = report.modules[0], report.totals
    assert (whole.path, whole.depth, whole.layers) == ("", 0, len(report.layers))
    assert (whole.clip_macs, whole.state_bytes) == (totals.clip_macs, totals.state_bytes)
    assert whole.macs_per_frame == pytest.approx(totals.macs_per_frame)


def test_modules_of_a_chain() -> None:
    found = {module.path: (module.depth, module.layers, module.clip_macs) for module in chain().modules}

    assert found == {
        "": (0, 4, 1728),
        "stem": (1, 2, 192),
        "stem.0": (2, 1, 192),
        "stem.1": (2, 1, 0),
        "conv": (1, 1, 1536),
    }


def test_the_tree_adds_up() -> None:
    check_tree(co3d_compile.compile(residual(), CLIP).report)


@pytest.mark.slow
def test_the_tree_of_a_deep_network_adds_up() -> None:
    model = ZOO["x3d_s"]
    with torch.device("meta"):
        report = co3d_compile.compile(model.build(), torch.empty(model.clip())).report

    check_tree(report)
    assert {module.path: module.padding for module in report.modules if module.depth == 2} == {
        "blocks.0": 2,
        "blocks.1": 3,
        "blocks.2": 5,
        "blocks.3": 11,
        "blocks.4": 7,
        "blocks.5": 0,
    }


def test_what_is_approximate_and_what_depends_on_it() -> None:
    report = co3d_compile.compile(residual(), CLIP).report
    laws = {layer.name: layer.law for layer in report.layers}

    assert [name for name, law in laws.items() if law == "approximate"] == ["mean"]
    assert laws["conv3d_1"] == laws["conv3d_2"] == "exact"
    assert laws["mul_1"] == laws["linear"] == "affected"
    assert report.modules[0].approximate == 1
