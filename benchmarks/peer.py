"""Published residual networks rebuilt from the modules of ``continual-inference``, as its users do by hand.

The library converts neither X3D nor ResNet by itself; these builders compose its containers from the network's own
layers, block by block. Weights are the network's; gates are made per frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def peer_network(model: nn.Module) -> Any:
    """The streaming network of a pytorchvideo model with ``blocks``: ``forward_step(frame)`` gives a prediction."""
    import continual as co

    *trunk, head = model.blocks
    layers = [layer for block in trunk for layer in _converted(block)]
    pool = head.pool
    before = [pool.pre_conv, pool.pre_norm, pool.pre_act] if hasattr(pool, "pre_conv") else []
    layers += [part for module in before if module is not None for part in _converted(module)]
    average = pool.pool if hasattr(pool, "pool") else pool
    layers.append(co.AvgPool3d(tuple(average.kernel_size), stride=1))
    after = [pool.post_conv, pool.post_act] if hasattr(pool, "pre_conv") else []
    layers += [part for module in after if module is not None for part in _converted(module)]
    layers.append(co.Lambda(lambda x: head.proj(x.flatten(1)), takes_time=False))
    return co.Sequential(*layers).eval()


def _converted(module: nn.Module) -> list[nn.Module]:
    """A module as a list of continual ones, in order."""
    import continual as co

    if isinstance(module, nn.Conv3d):
        return [co.continual(module)]
    if isinstance(module, (nn.BatchNorm3d, nn.MaxPool3d)):
        return [co.forward_stepping(module)]
    if hasattr(module, "branch2"):
        return _residual(module)
    if module._get_name() == "SqueezeExcitation":
        return [_gated(module)]
    children = list(module.children())
    if not children:
        return [] if isinstance(module, nn.Identity) else [co.Lambda(module, takes_time=False)]
    return [part for child in _in_order(module) for part in _converted(child)]


def _residual(block: Any) -> list[nn.Module]:
    import continual as co

    main = co.Sequential(*_converted(block.branch2))
    if block.branch1_conv is None:
        joined = co.Residual(main)
    else:
        short = [
            part
            for module in (block.branch1_conv, block.branch1_norm)
            if module is not None
            for part in _converted(module)
        ]
        joined = co.BroadcastReduce(co.Sequential(*short), main, reduce="sum", auto_delay=True)
    return [joined, *_converted(block.activation)]


def _in_order(module: Any) -> list[nn.Module]:
    """Children in the order in which forward calls them."""
    if hasattr(module, "conv_a"):
        names = ("conv_a", "norm_a", "act_a", "conv_b", "norm_b", "act_b", "conv_c", "norm_c")
    elif hasattr(module, "conv_t"):
        names = (
            ("conv_t", "norm", "activation", "conv_xy")
            if not module.conv_xy_first
            else ("conv_xy", "norm", "activation", "conv_t")
        )
    elif hasattr(module, "conv") and hasattr(module, "activation"):
        names = ("conv", "norm", "activation", "pool")
    else:
        return list(module.children())
    return [child for name in names if (child := getattr(module, name, None)) is not None]


def _gated(gate: Any) -> nn.Module:
    """A gate of single frames, its pool one of the library's."""
    import continual as co

    pooled = co.AdaptiveAvgPool3d((1, 1, 1), kernel_size=1)
    scores = [part for module in gate.block for part in _converted(module)]
    return co.BroadcastReduce(co.Delay(0), co.Sequential(pooled, *scores), reduce="mul")


def warmed_up(network: Any, frame: Tensor) -> Any:
    """The network after so many frames that every step gives a prediction."""
    with torch.no_grad():
        while not isinstance(network.forward_step(frame), Tensor):
            pass
    return network
