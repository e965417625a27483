"""``check_operation`` finds what is wrong with a rule, and says where."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import co3d_compile.testing
from co3d_compile.errors import ExtensionError
from co3d_compile.ops.flow import Flow, alone, windowed
from co3d_compile.ops.operation import Block, Call, Operation, Refused, Sample
from co3d_compile.ops.table import BUILT_IN
from co3d_compile.testing import check_operation


@torch.library.custom_op("co3d_tests::blend", mutates_args=())
def blend(video: Tensor, other: float = 0.5) -> Tensor:
    """Each element and the one before it."""
    return video + other * F.pad(video, (0, 0, 0, 0, 1, 0))[:, :, :-1]


@blend.register_fake
def _(video: Tensor, other: float = 0.5) -> Tensor:
    return torch.empty_like(video)


class Blend(Operation):
    """As it should be."""

    targets = ("co3d_tests.blend.default",)

    def flow(self, call: Call) -> Flow:
        layout = call["video"].layout
        if call["other"] < 0:
            raise Refused("the weight is negative", "use a positive one")
        return windowed(layout, kernel=2, stride=1, dilation=1, before=1, after=0, fill=0.0)

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        """The block comes with the element before its first."""
        return super().run(arguments, block)[:, :, 1:]

    def samples(self) -> tuple[Sample, ...]:
        return (
            Sample("half", blend),
            Sample("negative", lambda x: blend(x, -1.0), refusal="the weight is negative"),
        )


def failure(rule: Operation) -> str:
    with pytest.raises(AssertionError) as caught:
        check_operation(rule)
    return str(caught.value)


def with_samples(*samples: Sample) -> Operation:
    class Other(Blend):
        def samples(self) -> tuple[Sample, ...]:
            return samples

    return Other()


def test_a_right_rule_passes() -> None:
    check_operation(Blend())


@pytest.mark.slow
@pytest.mark.parametrize("target", ["aten.unfold.default", "aten.cat.default", "aten.constant_pad_nd.default"])
def test_a_built_in_rule_passes_as_one_of_a_strangers(target: str) -> None:
    rule = BUILT_IN.rule_for(target)
    assert rule is not None

    check_operation(rule)


class Forgetful(Blend):
    """Treats alone what reads a neighbour."""

    def flow(self, call: Call) -> Flow:
        super().flow(call)
        return alone(call["video"].layout)

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        return blend(**arguments)


class Late(Blend):
    """Waits for an element that it does not read."""

    def flow(self, call: Call) -> Flow:
        super().flow(call)
        return windowed(call["video"].layout, kernel=3, stride=1, dilation=1, before=1, after=1, fill=0.0)

    def run(self, arguments: Mapping[str, Any], block: Block) -> Any:
        return blend(**arguments)[:, :, 1:-1]


class Padded(Blend):
    """Ones where the operator has zeros: wrong at the start of a video alone."""

    def flow(self, call: Call) -> Flow:
        flow = super().flow(call)
        return replace(flow, taps=replace(flow.taps, fill=1.0))


def test_a_wrong_value_is_found() -> None:
    text = failure(Forgetful())

    assert text.startswith("tests.test_check_operation.Forgetful, sample 'half': forward {'chunk': 2}, 11 frames, ")
    assert "output 0: off by" in text


def test_a_wrong_value_at_the_start_is_found() -> None:
    assert "Padded, sample 'half': forward {}, 11 frames, output 0: off by 0.5" in failure(Padded())


def test_a_late_element_is_found() -> None:
    text = failure(Late())

    assert text == ("tests.test_check_operation.Late, sample 'half': after 1 frames [0] elements came, [1] are settled")


def test_an_acceptance_that_should_be_a_refusal_is_found() -> None:
    rule = with_samples(Sample("half", blend), Sample("one", lambda x: blend(x, 1.0), refusal="the weight is 1"))

    assert failure(rule).endswith("sample 'one': it is accepted, and should be refused for 'the weight is 1'")


def test_a_refusal_for_another_reason_is_found() -> None:
    rule = with_samples(
        Sample("half", blend), Sample("negative", lambda x: blend(x, -1.0), refusal="the weight is below 0")
    )

    assert "sample 'negative': 'the weight is below 0' is not the reason:\n1 operation(s) cannot be streamed" in (
        failure(rule)
    )


def test_a_refusal_that_should_be_an_acceptance_is_found() -> None:
    assert "sample 'negative': 1 operation(s) cannot be streamed: 1 x co3d_tests.blend" in (
        failure(with_samples(Sample("negative", lambda x: blend(x, -1.0))))
    )


def test_a_refusal_without_a_hint_is_found() -> None:
    class Curt(Blend):
        def flow(self, call: Call) -> Flow:
            if call["other"] < 0:
                raise Refused("the weight is negative", "")
            return super().flow(call)

    assert "sample 'negative': a refusal has no hint" in failure(Curt())


def test_a_rule_without_samples_is_found() -> None:
    assert failure(with_samples()).endswith("Other has no sample that it accepts")


def test_a_sample_that_calls_something_else_is_found() -> None:
    assert failure(with_samples(Sample("sum", lambda x: x + 1))).endswith(
        "sample 'sum': it calls none of the rule's targets"
    )


def test_a_target_without_a_sample_is_found() -> None:
    class Two(Blend):
        targets = (*Blend.targets, "co3d_tests.weighted.default")

    import tests.test_own_rules  # defines the operator

    assert tests.test_own_rules.weighted is not None
    assert failure(Two()).endswith("Two has no sample that calls co3d_tests.weighted.default")


def test_what_is_no_rule_is_no_failed_check() -> None:
    with pytest.raises(ExtensionError, match=r"Blend is a class, not a rule"):
        check_operation(Blend)  # type: ignore[arg-type]


def test_the_public_names_are_these() -> None:
    assert co3d_compile.testing.__all__ == [
        "check_law",
        "check_operation",
        "make_alive",
        "wandering_video",
        "windows_of",
    ]


@pytest.mark.slow
def test_it_needs_no_test_runner() -> None:
    blocked = "import sys; sys.modules.update(pytest=None, hypothesis=None); import co3d_compile.testing"

    assert subprocess.run([sys.executable, "-c", blocked], check=False).returncode == 0
