"""Formulas are text that is read back without being evaluated."""

from __future__ import annotations

import copy
import json

import pytest
import sympy

from co3d_compile.errors import ArtifactError, InputError
from co3d_compile.report.formula import BATCH, HEIGHT, WIDTH, WINDOW, Formula
from co3d_compile.report.sides import Extent, Indivisible, height, regrouped, width


@pytest.mark.parametrize(
    "expression",
    [
        WINDOW + 56,
        4 * BATCH * (WINDOW - 1) * sympy.floor((HEIGHT - 1) / sympy.Integer(32)),
        sympy.Max(0, sympy.ceiling((WINDOW - 3) / sympy.Integer(2)) - HEIGHT**2 * WIDTH),
        sympy.Rational(7, 2) * BATCH,
        sympy.Min(WINDOW, 3) - sympy.floor(2 * sympy.floor(HEIGHT / 2) / 3),
    ],
    ids=str,
)
def test_a_formula_comes_back_from_its_text(expression: sympy.Expr) -> None:
    written = json.loads(json.dumps({"it": Formula(expression)}))["it"]

    assert Formula(written).expression == expression
    assert copy.deepcopy(Formula(written)).expression == expression


def test_letters_are_set_one_after_the_other() -> None:
    formula = Formula("4*B*(W - 1)*floor(H/2 + 1/2)")

    assert formula.names == {"B", "W", "H"}
    assert formula.subs(B=1, H=7) == "16*W - 16"
    assert int(formula.subs({"W": 64, BATCH: 2}).subs(H=8)) == 4 * 2 * 63 * 4
    assert float(Formula("7*B/2").subs(B=1)) == 3.5


def test_what_is_open_is_no_number() -> None:
    with pytest.raises(InputError) as refused:
        int(Formula("B*W").subs(B=2))

    assert str(refused.value) == "2*W is no number\n  try: subs(W=...)"


def test_other_letters_are_refused() -> None:
    with pytest.raises(InputError, match="a formula has no T\n  try: one of W, B, H, X"):
        Formula("W").subs(T=3)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "().__class__",
        "W.__class__",
        "exec('1')",
        "floor(H, key=1)",
        "[W for W in (1, 2)]",
        "lambda: W",
        "9**9**9**9",
        "W**(10**9)",
        "9**999999999",
        "'W'",
        "True",
        "W if H else B",
        "Q + 1",
        "W +",
        "-" * 100_000 + "W",
    ],
    ids=lambda text: text[:20],
)
def test_text_that_is_no_formula_is_refused_and_not_run(text: str) -> None:
    with pytest.raises(ArtifactError, match="is no formula"):
        _ = Formula(text).expression


def test_steps_join_where_they_are_one() -> None:
    """A 3-convolution at stride 2 and a 1-convolution at stride 2 of padded frames have one size, written one way."""
    frame = height(224)

    padded = frame.then((1, -1, 2)).then((1, 1, 1))

    assert padded == frame.then((1, 1, 2))
    assert padded.then((1, 1, 2)) == frame.then((1, 3, 4))
    assert frame.then((2, 0, 1)).then((1, 0, 2)) == frame
    assert frame.then((1, 0, 2)).then((2, 0, 1)).of(7) == 6


def test_reshapes_follow_the_factors() -> None:
    tall, wide = height(14), width(12)
    frames = (Extent.of(1), Extent.of(8), Extent.of(tall), Extent.of(wide))
    flat = (Extent.of(1), Extent.of(8, tall, wide))

    assert regrouped(frames, (1, 8 * 14 * 12)) == flat
    assert regrouped(flat, (1, 8, 14, 12)) == frames
    assert regrouped(frames, (1, 2, 4, 14 * 12))[2:] == (Extent.of(4), Extent.of(tall, wide))
    assert regrouped(frames, (1, 8, 7, 2, 12))[2:4] == (Extent.of(tall.then((1, 0, 2))), Extent.of(2))
    with pytest.raises(Indivisible):
        regrouped(flat, (24, 7, 8))


def test_sides_of_one_pixel_stay_where_they_are() -> None:
    tall, wide = height(1), width(1)

    assert regrouped((Extent.of(8), Extent.of(4), Extent.of(tall), Extent.of(wide)), (1, 8, 4, 1, 1)) == (
        Extent.of(),
        Extent.of(8),
        Extent.of(4),
        Extent.of(tall),
        Extent.of(wide),
    )
