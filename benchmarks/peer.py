"""Published residual networks rebuilt from the modules of ``continual-inference``, as its users do by hand.

The library converts neither X3D nor ResNet by itself; these builders compose its containers from the network's own
layers, block by block. Weights are the network's; gates are made per frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def peer_network(model: nn.Module, pooled: int = 0) -> Any:
    """The streaming network of a residual network: ``forward_step(frame)`` gives a prediction.

    Args:
        model: of pytorchvideo, with ``blocks``, or of torchvision, with ``layer1`` to ``layer4`` or ``features``.
        pooled: elements along time that torchvision's head takes together at last; pytorchvideo's tells it.
    """
    import continual as co

    if hasattr(model, "blocks"):
        return co.Sequential(*_layers_of_blocks(model)).eval()
    layers = _layers_of_features(model, pooled) if hasattr(model, "features") else _layers_of_stages(model, pooled)
    return co.Sequential(*layers).eval()


def _layers_of_blocks(model: Any) -> list[nn.Module]:
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
    return [*layers, co.Lambda(lambda x: head.proj(x.flatten(1)), takes_time=False)]


def _layers_of_stages(model: Any, pooled: int) -> list[nn.Module]:
    import continual as co

    stages = (model.stem, model.layer1, model.layer2, model.layer3, model.layer4)
    layers = [layer for stage in stages for layer in _converted(stage)]
    average = co.AdaptiveAvgPool3d((1, 1, 1), kernel_size=pooled)
    return [*layers, average, co.Lambda(lambda x: model.fc(x.flatten(1)), takes_time=False)]


def _layers_of_features(model: Any, pooled: int) -> list[nn.Module]:
    import continual as co

    local = co.AvgPool3d(tuple(model.avgpool.kernel_size), stride=1)
    average = co.AdaptiveAvgPool3d((1, 1, 1), kernel_size=pooled)
    return [*_converted(model.features), local, *_converted(model.classifier), average, co.Lambda(_flat)]


def _flat(x: Tensor) -> Tensor:
    return x.flatten(1)


def _converted(module: nn.Module) -> list[nn.Module]:
    """A module as a list of continual ones, in order."""
    import continual as co

    if isinstance(module, nn.Conv3d):
        return [co.Conv3d.build_from(module)]
    if isinstance(module, nn.MaxPool3d) and _along_time(module.kernel_size) > 1:
        return [co.continual(module)]
    if isinstance(module, (nn.BatchNorm3d, nn.MaxPool3d)):
        return [co.forward_stepping(module)]
    if hasattr(module, "branch3"):
        branches = [co.Sequential(*_converted(branch)) for branch in module.children()]
        return [co.BroadcastReduce(*branches, reduce="concat", auto_delay=True)]
    if hasattr(module, "branch2"):
        short = [part for part in (module.branch1_conv, module.branch1_norm) if part is not None]
        return _residual([module.branch2], short, module.activation)
    if hasattr(module, "downsample"):
        short = [] if module.downsample is None else [module.downsample]
        return _residual([module.conv1, module.conv2], short, module.relu)
    if module._get_name() == "SqueezeExcitation":
        return [_gated(module)]
    children = list(module.children())
    if not children:
        return [] if isinstance(module, nn.Identity) else [co.Lambda(module, takes_time=False)]
    return [part for child in _in_order(module) for part in _converted(child)]


def _residual(main: list[Any], short: list[Any], activation: Any) -> list[nn.Module]:
    import continual as co

    long = co.Sequential(*[part for module in main for part in _converted(module)])
    if not short:
        joined = co.Residual(long)
    else:
        converted = co.Sequential(*[part for module in short for part in _converted(module)])
        joined = co.BroadcastReduce(converted, long, reduce="sum", auto_delay=True)
    return [joined, *_converted(activation)]


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


def _along_time(size: Any) -> int:
    return int(size[0] if isinstance(size, tuple) else size)


def allocated_numbers(network: Any) -> int:
    """Numbers in all the buffers that a network has made for its state."""
    buffers = (getattr(module, "state_buffer", None) for module in network.modules())
    return sum(buffer.numel() for buffer in buffers if isinstance(buffer, Tensor))


def warmed_up(network: Any, frame: Tensor) -> Any:
    """The network after so many frames that every step gives a prediction."""
    with torch.no_grad():
        while not isinstance(network.forward_step(frame), Tensor):
            pass
    return network
