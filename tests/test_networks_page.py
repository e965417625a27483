"""docs/networks.md says what the compiler says."""

from __future__ import annotations

import pytest

from benchmarks.networks import HEADS, main, row_of, rows_on_page
from benchmarks.subjects import SUBJECTS

CHEAP = ("c3d", "squeezenet", "resnet_a", "mobilenet", "d3d", "r3d_18", "slow", "x3d_xs", "mvit_v1_b")


def test_every_network_has_its_row() -> None:
    rows = rows_on_page()

    assert list(rows) == list(SUBJECTS)
    assert {row.count("|") for row in rows.values()} == {len(HEADS) + 1}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.filterwarnings("ignore")
def test_a_row_is_what_the_command_makes(name: str) -> None:
    assert row_of(name, SUBJECTS[name]) == rows_on_page()[name]


@pytest.mark.slow
def test_the_command_prints_the_rows_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--only", "d3d"])

    assert status == 0
    assert capsys.readouterr().out.splitlines()[-1] == rows_on_page()["d3d"]
