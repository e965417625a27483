"""Random videos whose brightness and contrast wander, so that a network's answers move."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from co3d_compile.plan.plan import Plan, PlanInput


def wandering_video(plan: Plan, ticks: int, seed: int, device: torch.device) -> list[Tensor]:
    """One tensor per input, of so many ticks. Inputs of one shape and rate see the same wandering."""
    generator = torch.Generator().manual_seed(seed)
    contrast = 1 + 0.5 * torch.sin(_walk(ticks, generator))
    brightness = torch.sin(_walk(ticks, generator))
    return [_video(plan, one, contrast, brightness, generator).to(device) for one in plan.inputs]


def device_of(network: nn.Module) -> torch.device:
    """Where the network's weights are."""
    return next(iter(network.state_dict().values()), torch.empty(())).device


def _walk(ticks: int, generator: torch.Generator) -> Tensor:
    return torch.cumsum(torch.randn(ticks, generator=generator, device="cpu"), 0)


def _video(plan: Plan, one: PlanInput, contrast: Tensor, brightness: Tensor, generator: torch.Generator) -> Tensor:
    shape: Sequence[int] = plan.values[one.value].layout.running_shape(
        plan.length(one.value, len(contrast)), plan.values[one.value].layout.batch
    )
    along = [-1 if dim == one.time_axis else 1 for dim in range(len(shape))]
    noise = torch.randn(shape, generator=generator, device="cpu")
    video = noise * contrast[:: one.rate].reshape(along) + brightness[:: one.rate].reshape(along)
    if one.dtype.is_floating_point:
        return video.to(one.dtype)
    return (video * 40 + 128).clamp(0, 255).to(one.dtype)
