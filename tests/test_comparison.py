"""What differs between two reports, as data."""

from __future__ import annotations

import co3d_compile
from co3d_compile.report.comparison import Comparison, Difference, compare
from co3d_compile.report.data import Report
from tests.test_report import Classifier, TwoPools
from tests.test_report_text import chain


def classifier(window: int) -> Report:
    return co3d_compile.compile(Classifier(), (1, 2, 6, 4, 4), window=window).report


def total(comparison: Comparison, attribute: str) -> Difference:
    return next(one for one in comparison.totals if one.attribute == attribute)


def test_equal_reports() -> None:
    comparison = compare(classifier(6), classifier(6))

    assert comparison.equal
    assert comparison.layers == ()
    assert [one for one in comparison.totals if one.first != one.second or one.difference] == []


def test_another_window() -> None:
    """Four more pooled elements of four floats; nothing else."""
    comparison = compare(classifier(6), classifier(10))

    assert not comparison.equal
    assert total(comparison, "state_bytes") == Difference("state_bytes", 336, 400, 64, 400 / 336)
    assert total(comparison, "macs_per_frame").difference == 0
    (output,) = comparison.outputs
    changed = {one.attribute: one.difference for one in output.differences if one.first != one.second}
    assert changed == {"delay": 4, "receptive_field": 4, "steady_tick": 4}
    kept, pooled, head = comparison.layers
    assert {one.attribute: one.difference for one in kept.differences} == {"history": 4, "state_bytes": 64}
    assert {one.attribute: (one.first, one.second) for one in pooled.differences} == {
        "delay": (6, 10),
        "kernel": (6, 10),
    }
    assert [one.attribute for one in head.differences] == ["delay"]


def test_options_that_differ() -> None:
    comparison = compare(chain(), chain(rate="dense", start="valid"))

    differing = {one.attribute: (one.first, one.second, one.ratio) for one in comparison.options}
    assert differing["rate"] == ("native", "dense", None)
    assert differing["start"] == ("zeros", "valid", None)


def test_what_only_one_has() -> None:
    other = co3d_compile.compile(TwoPools(), (1, 2, 6, 4, 4)).report
    comparison = compare(classifier(6), other)

    assert {output.name: output.only_in for output in comparison.outputs} == {
        "output": "first",
        "['pooled']": "second",
        "['frames']": "second",
    }
    only_in = {layer.path: layer.only_in for layer in comparison.layers if layer.path}
    assert (only_in["conv"], only_in["near"], only_in["far"]) == ("first", "second", "second")


def test_nothing_has_no_ratio() -> None:
    gates = total(compare(chain(), chain()), "gates")

    assert gates == Difference("gates", 0, 0, 0, None)
