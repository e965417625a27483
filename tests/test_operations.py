"""The contract: every rule's own samples obey the law, and what it must refuse it refuses with its reason."""

from __future__ import annotations

import pytest

from co3d_compile.ops.mixing import Mixing
from co3d_compile.ops.operation import Operation
from co3d_compile.ops.running import Running
from co3d_compile.ops.running_norm import Normed, RunningMoments
from co3d_compile.ops.table import POINTWISE, RULES
from co3d_compile.testing.operation import check_batch, check_refusal, check_sample, draw_sample

EVERY_RULE = (*RULES, POINTWISE)


pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def named(rules: tuple[Operation, ...], *, refused: bool) -> list[object]:
    """Rule and number of each sample; the sample is drawn anew in its test, from a seed of its own."""
    return [
        pytest.param(rule, place, id=f"{type(rule).__name__}: {sample.name}")
        for rule in rules
        for place, sample in enumerate(rule.samples())
        if bool(sample.refusal) is refused
    ]


@pytest.mark.parametrize(("rule", "place"), named(EVERY_RULE, refused=False))
def test_a_sample_obeys_the_law(rule: Operation, place: int) -> None:
    check_sample(draw_sample(rule, place))


@pytest.mark.parametrize(("rule", "place"), named(EVERY_RULE, refused=False))
def test_a_batch_of_streams_runs_in_lockstep(rule: Operation, place: int) -> None:
    check_batch(draw_sample(rule, place))


@pytest.mark.parametrize(("rule", "place"), named(EVERY_RULE, refused=True))
def test_what_a_rule_must_refuse_it_refuses(rule: Operation, place: int) -> None:
    check_refusal(draw_sample(rule, place))


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: type(rule).__name__)
def test_every_rule_has_samples(rule: Operation) -> None:
    # what is under a policy has no sample that is exact: tests/test_policies.py, tests/test_cumulative.py
    assert isinstance(rule, (Mixing, Running, RunningMoments, Normed)) or any(
        not sample.refusal for sample in rule.samples()
    )
