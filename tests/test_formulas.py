"""A formula, evaluated, is the number that a compilation says, on random networks."""

from __future__ import annotations

import pytest
import sympy
import torch
from hypothesis import assume, given
from torch import nn

from co3d_compile.capture.capture import capture
from co3d_compile.capture.clip import Clip
from co3d_compile.passes import compile_program, rewrite
from co3d_compile.passes.time_axes import read_at
from co3d_compile.report.build import build_report
from co3d_compile.report.data import Report
from co3d_compile.report.symbolic import BATCH, WINDOW, Formulas
from tests.layers import RandomNetwork
from tests.networks import networks
from tests.test_random_networks import drawn, runs

EVERY_RUN = 30
WIDTHS = (2, 7)


@pytest.mark.slow
@drawn(EVERY_RUN)
@given(networks(head=True))
def test_formulas_of_one_window_give_the_numbers_of_another(network: RandomNetwork) -> None:
    trunk, clip = network.trunk(), torch.zeros(network.clip)
    assume(runs(trunk, clip))
    features = trunk(clip)
    assume(features.shape[2] > 1)
    model = nn.Sequential(trunk, network.head_module(features.shape))
    assume(runs(model, clip))
    program = read_at(rewrite(capture(model, Clip((clip,)))), (2,))
    plans = {width: compile_program(program, window=width) for width in WIDTHS}

    for compiled, plan in plans.items():
        formulas = Formulas(plan)
        for width in WIDTHS:
            check(formulas, {WINDOW: width, BATCH: 1}, plan.outputs[0].value, build_report(plans[width]), compiled)


def check(formulas: Formulas, turned: dict[sympy.Symbol, int], value: str, wanted: Report, compiled: int) -> None:
    (output,) = wanted.outputs
    made = {
        "delay": formulas.delay(value),
        "receptive field": formulas.receptive_field(value),
        "steady tick": formulas.steady_tick(value),
        "state": formulas.state_bytes,
    }

    assert {name: int(formula.subs(turned)) for name, formula in made.items()} == {
        "delay": output.delay,
        "receptive field": output.receptive_field,
        "steady tick": output.steady_tick,
        "state": wanted.totals.state_bytes,
    }, f"compiled at {compiled}"
