"""Networks made alive and videos that wander: what makes a difference show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def make_alive(model: nn.Module, clip: Tensor, *, seed: int = 0) -> nn.Module:
    """Scale each layer to unit variance on the clip, measure batch-norm statistics there, draw their affine parts.

    Random weights answer every clip alike, and zero-initialised batch norms hide whole branches.
    """
    generator = torch.Generator().manual_seed(seed)
    seen: set[nn.Module] = set()

    def scale(layer: Any, _: Any, output: Tensor) -> Tensor:
        if layer in seen:
            return output
        seen.add(layer)
        factor = 1.0 / output.std(unbiased=False).clamp(min=1e-3).item()
        for parameter in layer.parameters(recurse=False):
            parameter.mul_(factor)
        return output * factor

    def measure(norm: Any, inputs: tuple[Tensor, ...]) -> None:
        if norm in seen:
            return
        seen.add(norm)
        channels = inputs[0].transpose(0, 1).flatten(1)
        norm.running_mean.copy_(channels.mean(1))
        norm.running_var.copy_(channels.var(1, unbiased=False).clamp(min=1e-2))
        if norm.affine:
            norm.weight.copy_(0.5 + torch.rand(norm.weight.shape, generator=generator))
            norm.bias.copy_(torch.rand(norm.bias.shape, generator=generator) - 0.5)

    hooks: list[Any] = []
    for layer in model.modules():
        if isinstance(layer, (nn.modules.conv._ConvNd, nn.Linear)):
            hooks.append(layer.register_forward_hook(scale))
        elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            hooks.append(layer.register_forward_pre_hook(measure))
    with torch.no_grad():
        model.eval()(clip)
    for hook in hooks:
        hook.remove()
    return model


def wandering_video(
    shape: Sequence[int], *, time_axis: int = 2, seed: int = 0, dtype: torch.dtype | None = None
) -> Tensor:
    """Noise whose brightness and contrast wander over time, so that no two windows answer alike."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(list(shape), generator=generator, dtype=torch.float32)
    along = [shape[time_axis] if place == time_axis else 1 for place in range(len(shape))]
    brightness, contrast = (
        torch.randn(shape[time_axis], generator=generator, dtype=torch.float32).cumsum(0).div(2).sin().reshape(along)
        for _ in range(2)
    )
    return (noise * (1 + contrast / 2) + brightness).to(dtype or torch.get_default_dtype())
