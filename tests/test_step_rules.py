"""Modules with memory that are given as what they do at one frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile import StepRule
from co3d_compile.errors import CaptureError, VerificationError
from co3d_compile.network import Network
from co3d_compile.ops.flow import Way
from co3d_compile.testing.alive import wandering_video
from co3d_compile.testing.law import check_law
from tests.recurrent_networks import CLIP, RCU


def ways(net: Network) -> list[Way]:
    return [node.way for node in net.plan.nodes if node.target == "co3d_compile.recurrence.default"]


class ConvGRU(nn.Module):
    """Its forward skips the update of every third frame's gate in a way that no loop over equal iterations shows."""

    def __init__(self) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 + 3, 2 * 3, 3, padding=1)
        self.fresh = nn.Conv2d(2 + 3, 3, 3, padding=1)

    def step(self, h: Tensor, x: Tensor) -> Tensor:
        update, reset = self.gates(torch.cat([x, h], 1)).sigmoid().chunk(2, 1)
        fresh = self.fresh(torch.cat([x, reset * h], 1)).tanh()
        return (1 - update) * h + update * fresh

    def begin(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], 3, *x.shape[2:])

    def forward(self, x: Tensor) -> Tensor:
        h = self.begin(x[:, :, 0])
        made = []
        for t in range(x.shape[2]):
            h = self.step(h, x[:, :, t]) if t % 3 else self.step(h.clone() * 1.0, x[:, :, t])
            made.append(h)
        return torch.stack(made, 2)


def convgru_rule(step: Callable[[Any, Any, Tensor], tuple[Any, Tensor]] | None = None) -> StepRule:
    def stepped(module: ConvGRU, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = module.step(h, x)
        return h, h

    return StepRule(step or stepped, begin=lambda module, x: module.begin(x))


def convgru() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv3d(2, 2, 3, padding=1), ConvGRU(), nn.ReLU())


def test_a_module_with_a_step_rule_obeys_the_law() -> None:
    net = check_law(convgru(), CLIP, batch=2, alive=False, recurrences={ConvGRU: convgru_rule()})

    assert ways(net) == [Way.RECURRENT]
    assert net.report.outputs[0].carried == ("1",)


def test_without_its_rule_the_module_runs_on_windows() -> None:
    net = co3d_compile.compile(convgru(), CLIP)
    refusal = net.plan.last_resorts[0].refusals[0]

    assert refusal.path == "1"
    assert "give the module a step rule (recurrences=" in refusal.hint


def test_a_saved_step_rule_runs_no_code(tmp_path: Path) -> None:
    model = convgru()
    co3d_compile.compile(model, CLIP, recurrences={ConvGRU: convgru_rule()}).save(tmp_path / "cont.pt")
    video = wandering_video((1, 2, 11, 4, 5))

    loaded = co3d_compile.load(tmp_path / "cont.pt")

    with torch.no_grad():
        torch.testing.assert_close(loaded(video), model(video))
        made = loaded.double()(video.double())
        torch.testing.assert_close(made, model(video).double(), atol=1e-5, rtol=1e-5)
    assert made.dtype == torch.float64
    assert loaded.weights.state_dict().keys() == model.state_dict().keys()


def test_a_step_rule_that_does_something_else() -> None:
    rule = convgru_rule(lambda module, h, x: (module.step(h, x), h))

    with pytest.raises(CaptureError) as caught:
        co3d_compile.compile(convgru(), CLIP, recurrences={ConvGRU: rule})

    assert str(caught.value).startswith("output 0: with the step rules for ConvGRU the model gives what differs by")
    assert "try: a step that does what forward does at one frame" in str(caught.value)


def test_a_step_rule_that_fails() -> None:
    rule = convgru_rule(lambda module, h, x: (module.step(x, h), h))

    with pytest.raises(CaptureError, match=r"^1: its step rule fails on a frame of shape \(1, 2, 4, 5\): "):
        co3d_compile.compile(convgru(), CLIP, recurrences={ConvGRU: rule})


def test_a_step_rule_for_a_module_that_is_not_there() -> None:
    with pytest.raises(CaptureError, match="the model has no module of class ConvGRU, for which recurrences= gives"):
        co3d_compile.compile(RCU(), CLIP, recurrences={ConvGRU: convgru_rule()})


class Flows(nn.Module):
    """Two clips in, two out, and a state of several tensors; code of which no two iterations are written alike."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2 + 3 + 4, 4, 3, padding=1)

    def step(self, state: dict[str, Any], x: Tensor, y: Tensor) -> tuple[dict[str, Any], dict[str, Any]]:
        h = self.mix(torch.cat([x, y, state["hidden"]], 1)).tanh()
        fast, slow = state["means"]
        fast, slow = fast.lerp(h, 0.5), slow.lerp(fast, 0.25)
        return {"hidden": h, "means": (fast, slow)}, {"apart": h - fast, "means": (fast, slow)}

    def begin(self, x: Tensor) -> dict[str, Any]:
        zeros = x.new_zeros(len(x), 4, *x.shape[2:])
        return {"hidden": zeros, "means": (zeros, zeros + 1)}

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        state, made = self.begin(x[:, :, 0]), []
        for t in range(x.shape[2]):
            state, given = self.step(state, x[:, :, t] * 1.0 if t % 3 else x[:, :, t], y[:, :, t])
            made.append(given)
        return {
            "apart": torch.stack([one["apart"] for one in made], 2),
            "means": tuple(torch.stack([one["means"][place] for one in made], 2) for place in range(2)),
        }


FLOWS = StepRule(Flows.step, begin=lambda module, x, y: module.begin(x))


class WithFlows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3, padding=1)
        self.flows = Flows()
        self.after = nn.Conv3d(4, 2, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        made = self.flows(x, self.conv(x))
        return self.after(made["apart"]), made["means"][0] * made["means"][1]


def test_several_clips_in_and_out_and_a_state_of_several_tensors(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = WithFlows().eval()

    net = check_law(model, CLIP, batch=2, alive=False, recurrences={Flows: FLOWS})
    net.save(tmp_path / "net.pt")
    loaded = co3d_compile.load(tmp_path / "net.pt")
    video = wandering_video((1, 2, 11, 4, 5))

    assert ways(net) == [Way.RECURRENT]
    assert [output.carried for output in net.report.outputs] == [("flows",), ("flows",)]
    for one, other in zip(loaded.forward(video), net.forward(video), strict=True):
        assert torch.equal(one, other)
    assert net.verify(model).passed


def test_time_on_another_axis() -> None:
    class Leaking(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            made = [x[:, 0]]
            for t in range(1, x.shape[1]):
                made.append(made[-1].lerp(x[:, t], 0.5) if t % 2 else made[-1] + (x[:, t] - made[-1]) / 2)
            return torch.stack(made, 1)

    def step(module: Leaking, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        h = h.lerp(x, 0.5)
        return h, h

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 3, 3, padding=1)
            self.leaking = Leaking()

        def forward(self, x: Tensor) -> Tensor:
            return self.leaking(self.conv(x).transpose(1, 2)).transpose(1, 2)

    rule = StepRule(step, begin=lambda module, x: x, time_axis=1)

    assert ways(check_law(Model().eval(), CLIP, alive=False, recurrences={Leaking: rule})) == [Way.RECURRENT]


@pytest.mark.parametrize("model", [convgru, WithFlows])
def test_verify_holds_a_step_rule_against_the_original(model: Callable[[], nn.Module]) -> None:
    torch.manual_seed(1)
    original = model().eval()
    rules: dict[type[nn.Module], StepRule] = {ConvGRU: convgru_rule()} if model is convgru else {Flows: FLOWS}
    net = co3d_compile.compile(original, CLIP, recurrences=rules)

    right = net.verify(original)
    with torch.no_grad():
        next(layer for layer in original.modules() if isinstance(layer, nn.Conv2d)).weight.mul_(1.2)
    wrong = net.verify(original)

    assert right.passed, str(right)
    assert all(one.elements == one.expected > 1 for one in right.outputs)
    assert right.outputs[0].against == "the original on the whole video"
    assert not wrong.passed


def test_a_loaded_network_is_verified_with_its_rules(tmp_path: Path) -> None:
    model, rules = convgru().eval(), {ConvGRU: convgru_rule()}
    co3d_compile.compile(model, CLIP, recurrences=rules).save(tmp_path / "net.pt")
    loaded = co3d_compile.load(tmp_path / "net.pt")

    with pytest.raises(VerificationError) as refused:
        loaded.verify(model)

    assert str(refused.value) == (
        "recurrence: the network carries on what the model's graph shows no loop for\n"
        "  try: verify(model, recurrences={...}) with the step rules that it was compiled with"
    )
    assert loaded.verify(model, recurrences=rules).passed


class Called(nn.Module):
    def __init__(self, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = Flows()
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.inner, x)


@pytest.mark.parametrize(
    ("call", "taken"),
    [
        (lambda inner, x: inner(x, y=x[:, [0, 1, 1]])["apart"], r"\(1, 2, 8, 4, 5\), y="),
        (
            lambda inner, x: inner(x, x[:, [0, 1, 1]].repeat(1, 1, 2, 1, 1))["apart"],
            r"\(1, 2, 8, 4, 5\), \(1, 3, 16, 4, 5\)",
        ),
    ],
)
def test_what_is_no_clip(call: Callable[[nn.Module, Tensor], Tensor], taken: str) -> None:
    told = f"^inner: it has a step rule and takes {taken}\n  try: a module that takes clips, by position, with as many "

    with pytest.raises(CaptureError, match=told):
        co3d_compile.compile(Called(call), CLIP, recurrences={Flows: FLOWS})
