"""The contract of a rule: its own samples obey the law, and what it must refuse it refuses with its reason."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from co3d_compile.api import compile
from co3d_compile.errors import Co3dError, UnsupportedError
from co3d_compile.network import Network
from co3d_compile.ops.operation import Operation, Sample
from co3d_compile.ops.own import require_rule, rule_name
from co3d_compile.testing.law import check_law, require, windows_of


class Sampled(nn.Module):
    """A sample's call as a model."""

    def __init__(self, sample: Sample) -> None:
        super().__init__()
        self.run = sample.run

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.run(x)
        return result


def check_operation(rule: Operation, *, ops: Sequence[Operation] = ()) -> None:
    """Hold a rule's own samples against the original operator, and its refusals against their reasons.

    Every accepted sample is streamed and compared on whole videos of several lengths: values, ticks and counts, alone
    and as a batch of two. Every target must be called by some sample.

    Args:
        ops: other rules that the samples need, besides the built-in ones and those of installed packages.

    Raises:
        AssertionError: names the rule and the sample, and says what differs.
        ExtensionError: it is no rule.
    """
    require_rule(rule)
    samples = rule.samples()
    require(any(not sample.refusal for sample in samples), f"{rule_name(rule)} has no sample that it accepts")
    called: set[str] = set()
    for place, sample in enumerate(samples):
        try:
            called |= _check(rule, place, (rule, *ops))
        except (AssertionError, Co3dError) as failure:
            raise AssertionError(f"{rule_name(rule)}, sample {sample.name!r}: {failure}") from failure
    uncalled = [target for target in rule.targets if target not in called]
    require(not uncalled, f"{rule_name(rule)} has no sample that calls {', '.join(uncalled)}")


def draw_sample(rule: Operation, place: int) -> Sample:
    """A sample by its number, its weights drawn from a seed of its own."""
    torch.manual_seed(place)
    return rule.samples()[place]


def check_sample(sample: Sample, *, ops: Sequence[Operation] = ()) -> Network:
    """An accepted sample obeys the law, on videos whose lengths fit no stride."""
    frames = sample.clip[2]
    return _obeys(sample, sample.clip, [frames, frames + sample.multiple, frames + 6 * sample.multiple], ops)


def check_batch(sample: Sample, *, ops: Sequence[Operation] = ()) -> Network:
    """An accepted sample obeys the law for two streams in lockstep."""
    clip = (2, *sample.clip[1:])
    return _obeys(sample, clip, [clip[2] + 3 * sample.multiple], ops)


def check_refusal(sample: Sample, *, ops: Sequence[Operation] = ()) -> UnsupportedError:
    """A sample is refused with its reason, and with a hint."""
    try:
        compile(Sampled(sample), sample.clip, time_axis=2, ops=ops)
    except UnsupportedError as refused:
        require(sample.refusal in str(refused), f"{sample.refusal!r} is not the reason:\n{refused}")
        require(all(refusal.hint for refusal in refused.refusals), f"a refusal has no hint:\n{refused}")
        return refused
    raise AssertionError(f"it is accepted, and should be refused for {sample.refusal!r}")


def _check(rule: Operation, place: int, ops: Sequence[Operation]) -> set[str]:
    """The rule's targets that the sample calls."""
    if draw_sample(rule, place).refusal:
        refused = check_refusal(draw_sample(rule, place), ops=ops)
        named = {refusal.operation for refusal in refused.refusals}
        called = {target for target in rule.targets if target.removeprefix("aten.").rsplit(".", 1)[0] in named}
    else:
        check_batch(draw_sample(rule, place), ops=ops)
        plan = check_sample(draw_sample(rule, place), ops=ops).plan
        called = {node.target for node in (*plan.nodes, *plan.statics)} & set(rule.targets)
    require(bool(called), "it calls none of the rule's targets")
    return called


def _obeys(sample: Sample, clip: Sequence[int], lengths: Sequence[int], ops: Sequence[Operation]) -> Network:
    model = Sampled(sample)
    return check_law(
        model,
        clip,
        lengths=lengths,
        batch=clip[0],
        reference=windows_of(model, clip[2]) if sample.collapses else sample.as_streamed,
        stacked=sample.collapses,
        poison=sample.poison,
        multiple=sample.multiple,
        ops=ops,
    )
