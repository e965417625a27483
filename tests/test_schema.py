"""The JSON Schemas in docs/ are what the commands print."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from torch import Tensor, nn

import co3d_compile
from co3d_compile.cli.printing import print_json
from co3d_compile.report.comparison import compare
from co3d_compile.report.data import Deviation, Report
from co3d_compile.report.schema import write_schemas
from tests.small_models import CLIP, residual
from tests.test_last_resort import tailed
from tests.test_report import StridedBlock, TwoPools

DOCS = Path(__file__).parents[1] / "docs"
NAMES = ("report.schema.json", "comparison.schema.json")


class Running(nn.Module):
    """The sum of all frames so far."""

    def forward(self, clip: Tensor) -> Tensor:
        return clip.cumsum(2)


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DOCS / name).read_text())
    return loaded


def printed(data: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> Any:
    print_json(data)
    return json.loads(capsys.readouterr().out)


def report_of(model: nn.Module, clip: tuple[int, ...], **options: Any) -> Report:
    return co3d_compile.compile(model, clip, **options).report


def test_the_files_are_made_from_the_dataclasses(tmp_path: Path) -> None:
    """``python -m co3d_compile.report.schema docs`` brings them up to date."""
    write_schemas(tmp_path)

    assert [(tmp_path / name).read_text() for name in NAMES] == [(DOCS / name).read_text() for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_schemas(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(name))


@pytest.mark.parametrize("name", NAMES)
def test_every_definition_says_what_it_is(name: str) -> None:
    given = schema(name)
    objects = [given, *(one for one in given["$defs"].values() if one.get("type") == "object")]

    assert all(one["description"] for one in objects)


@pytest.mark.parametrize(
    "report",
    [
        lambda: report_of(residual(), CLIP),
        lambda: report_of(StridedBlock(), (1, 1, 8, 2, 2), rate="dense", start="valid"),
        lambda: report_of(TwoPools(), (1, 2, 6, 4, 4)),
        lambda: report_of(tailed("flip"), (1, 3, 8, 6, 6)),
        lambda: report_of(Running(), (1, 2, 6, 4, 4)),
    ],
    ids=["gate", "dense", "two outputs", "last resort", "carried"],
)
def test_reports_obey_their_schema(report: Callable[[], Report], capsys: pytest.CaptureFixture[str]) -> None:
    data = printed(report().to_dict(), capsys)

    jsonschema.validate(data, schema("report.schema.json"))
    assert Report.from_dict(data) == report()


def test_a_deviation_that_is_not_finite_obeys_it(capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(residual(), CLIP)
    (output,) = report.outputs
    measured = replace(report, outputs=(replace(output, deviation=Deviation(float("inf"), 0.5)),))

    jsonschema.validate(printed(measured.to_dict(), capsys), schema("report.schema.json"))


@pytest.mark.parametrize(
    "change", [{"schema": 2}, {"exact": "yes"}, {"more": 1}, {"totals": {}}, {"modules": [{"path": ""}]}]
)
def test_what_is_no_report_does_not(change: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    data = printed(report_of(StridedBlock(), (1, 1, 8, 2, 2)).to_dict(), capsys)

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data | change, schema("report.schema.json"))


def test_comparisons_obey_their_schema(capsys: pytest.CaptureFixture[str]) -> None:
    comparison = compare(report_of(residual(), CLIP), report_of(TwoPools(), (1, 2, 6, 4, 4)))

    jsonschema.validate(printed(comparison.to_dict(), capsys), schema("comparison.schema.json"))
