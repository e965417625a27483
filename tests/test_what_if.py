"""``co3d-inspect`` with lists of windows, sizes and rates: one table from one capture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import co3d_compile
from co3d_compile.api import what_if
from co3d_compile.cli import inspect as inspect_command
from co3d_compile.cli.exit_codes import Exit
from tests.small_models import residual
from tests.test_golden import GOLDEN
from tests.zoo_models import ZOO

TABLE_3 = {"x3d_s": ("X3D-S 13x160", 13), "x3d_m": ("X3D-M 16x224", 16), "x3d_l": ("X3D-L 16x312", 16)}
WINDOWS = (13, 16, 32, 64, 96)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """X3D-S, M and L as files, of shapes alone."""
    folder = tmp_path_factory.mktemp("x3d")
    for name in TABLE_3:
        with torch.device("meta"):
            model, clip = ZOO[name].build(), torch.empty(ZOO[name].clip())
        torch.export.save(torch.export.export(model, (clip,)), folder / f"{name}.pt2")
    return {name: str(folder / f"{name}.pt2") for name in TABLE_3}


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert inspect_command.main(list(arguments)) is Exit.DONE
    return capsys.readouterr().out


@pytest.mark.slow
def test_the_table_of_the_paper_comes_out_of_one_command(
    archives: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Hedegaard and Iosifidis, Table 3: CoX3D-S, M and L with pools over 13 to 96 frames."""
    told = json.loads(printed(capsys, *archives.values(), "--window", ",".join(map(str, WINDOWS)), "--json"))

    for name, (golden, frames) in TABLE_3.items():
        rows = {row["window"]: row for row in told["networks"][archives[name]]}
        receptive_field, _, delay, steady = next(
            numbers for key, numbers in GOLDEN["receptive_field"].items() if key.startswith(golden)
        )
        per_clip, per_frame = GOLDEN["macs"][golden]
        times = {window: times_of(row) for window, row in rows.items()}

        assert rows.keys() == set(WINDOWS)
        assert times == {w: (delay + w - frames, receptive_field + w - frames, steady + w - frames) for w in WINDOWS}
        assert {(row["clip_macs"], row["macs_per_frame"]) for row in rows.values()} == {(per_clip, per_frame)}
        assert sorted(WINDOWS, key=lambda w: rows[w]["state_bytes"]) == list(WINDOWS)


def times_of(row: dict[str, Any]) -> tuple[int, int, int]:
    (output,) = row["outputs"]
    return output["delay"], output["receptive_field"], output["steady_tick"]


def test_each_row_is_what_a_compilation_says() -> None:
    torch.manual_seed(0)
    model, clip = residual(), (1, 2, 6, 6, 6)
    found = what_if(model, clip, windows=[2, 4], sizes=[None, (9, 12)], rates=["native", "dense"])

    assert len(found) == 8
    for row in found:
        height, width = row.size or (0, 0)
        wanted = co3d_compile.compile(model, (1, 2, 6, height, width), window=row.window, rate=row.rate).report
        assert (row.clip_macs, row.state_bytes) == (wanted.totals.clip_macs, wanted.totals.state_bytes), row
        assert row.macs_per_frame == pytest.approx(wanted.totals.macs_per_frame)
        assert [(one.delay, one.receptive_field) for one in row.outputs] == [
            (one.delay, one.receptive_field) for one in wanted.outputs
        ]


def test_the_model_is_captured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    captures: list[object] = []
    export = torch.export.export

    def counted(*arguments: Any, **named: Any) -> Any:
        captures.append(arguments)
        return export(*arguments, **named)

    monkeypatch.setattr(torch.export, "export", counted)
    what_if(residual(), (1, 2, 6, 6, 6), windows=[2, 3], sizes=[(6, 6), (7, 9)], rates=["native", "dense"])

    assert len(captures) == 1


def test_the_table_is_printed_at_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cont.pt"
    co3d_compile.compile(residual(), (1, 2, 6, 6, 6)).save(file)

    lines = printed(capsys, str(file), "--window", "3,8", "--size", "6,9x12").splitlines()

    assert max(map(len, lines[1:])) <= 80
    assert [line.split()[:5] for line in lines[3:7]] == [
        ["native", "3", "6x6", "7", "11"],
        ["native", "3", "9x12", "7", "11"],
        ["native", "8", "6x6", "17", "21"],
        ["native", "8", "9x12", "17", "21"],
    ]


def test_a_compiled_file_keeps_its_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cont.pt"
    co3d_compile.compile(residual(), (1, 2, 6, 6, 6)).save(file)

    code = inspect_command.main([str(file), "--rate", "native,dense"])

    assert code is Exit.INPUT
    assert "compiled at the rate 'native', which a compiled file keeps\n  try: --rate on the model file" in (
        capsys.readouterr().err
    )


def test_what_cannot_be_had_is_told_below_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cont.pt"
    flat = nn.Sequential(nn.Conv3d(2, 2, 3), nn.Flatten(), nn.Linear(2 * 4 * 4 * 4, 3))
    co3d_compile.compile(flat, (1, 2, 6, 6, 6)).save(file)

    text = printed(capsys, str(file), "--size", "6,8")

    assert ["native", "-", "8x8", *"-----"] in [line.split() for line in text.splitlines()]
    assert "-: 2: " in text
    assert "must have same reduction dim" in text


def test_a_model_file_is_inspected_without_being_compiled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(residual().eval(), (torch.zeros(1, 2, 6, 6, 6),)), file)

    told = json.loads(printed(capsys, str(file), "--json"))
    text = printed(capsys, str(file), "--size", "9")

    assert told["outputs"][0]["delay"] == 7
    assert "there is no original at hand" in text


@pytest.mark.parametrize(
    ("option", "given", "said"),
    [
        ("--window", "0", "'0' is not a number from 1 up"),
        ("--size", "12x", "'12x' is not a size such as 224 or 128x171"),
        ("--rate", "slow", "'slow' is not native or dense, or both with a comma"),
    ],
)
def test_options_that_are_none_are_refused(
    option: str, given: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        inspect_command.main(["cont.pt", option, given])

    assert said in capsys.readouterr().err
