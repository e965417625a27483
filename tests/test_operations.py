"""The contract: every rule's own samples obey the law, and what it must refuse it refuses with its reason."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.errors import UnsupportedError
from co3d_compile.ops.operation import Operation, Sample
from co3d_compile.ops.table import POINTWISE, RULES
from tests.law import check_law, windows_of

EVERY_RULE = (*RULES, POINTWISE)


pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


class Sampled(nn.Module):
    """A sample's call as a model."""

    def __init__(self, sample: Sample) -> None:
        super().__init__()
        self.run = sample.run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(x)


def named(rules: tuple[Operation, ...], *, refused: bool) -> list[object]:
    """Rule and number of each sample; the sample is drawn anew in its test, from a seed of its own."""
    return [
        pytest.param(rule, place, id=f"{type(rule).__name__}: {sample.name}")
        for rule in rules
        for place, sample in enumerate(rule.samples())
        if bool(sample.refusal) is refused
    ]


def drawn(rule: Operation, place: int) -> Sample:
    torch.manual_seed(place)
    return rule.samples()[place]


@pytest.mark.parametrize(("rule", "place"), named(EVERY_RULE, refused=False))
def test_a_sample_obeys_the_law(rule: Operation, place: int) -> None:
    sample = drawn(rule, place)
    model = Sampled(sample)
    frames = sample.clip[2]

    check_law(
        model,
        sample.clip,
        lengths=(frames, frames + 1, frames + 6),
        batch=sample.clip[0],
        reference=windows_of(model, frames) if sample.collapses else None,
        stacked=sample.collapses,
    )


@pytest.mark.parametrize(("rule", "place"), named(EVERY_RULE, refused=False))
def test_a_batch_of_streams_runs_in_lockstep(rule: Operation, place: int) -> None:
    sample = drawn(rule, place)
    model = Sampled(sample)
    clip = (2, *sample.clip[1:])

    reference = windows_of(model, clip[2]) if sample.collapses else None
    check_law(model, clip, lengths=(clip[2] + 3,), batch=2, reference=reference, stacked=sample.collapses)


@pytest.mark.parametrize(("rule", "place"), named(EVERY_RULE, refused=True))
def test_what_a_rule_must_refuse_it_refuses(rule: Operation, place: int) -> None:
    sample = drawn(rule, place)

    with pytest.raises(UnsupportedError) as refused:
        co3d_compile.compile(Sampled(sample), sample.clip, time_axis=2)

    assert sample.refusal in str(refused.value)
    assert all(refusal.hint for refusal in refused.value.refusals)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: type(rule).__name__)
def test_every_rule_has_samples(rule: Operation) -> None:
    assert any(not sample.refusal for sample in rule.samples())
