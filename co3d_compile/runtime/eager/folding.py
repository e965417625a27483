"""Batch norms taken into the convolutions before them, for stepping; the weights themselves stay the original's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from co3d_compile.plan.plan import Plan, PlanNode, ValueRef, WeightRef
from co3d_compile.runtime.runner import Lookup

CONVOLUTIONS = tuple(f"aten.conv{n}d.default" for n in (1, 2, 3))


def foldable_norms(plan: Plan) -> dict[int, int]:
    """Index of a convolution to the index of the batch norm that alone reads it, at once."""
    readers = Counter(name for node in plan.nodes for name in node.reads)
    readers.update(output.value for output in plan.outputs)
    makers = {node.outputs[0]: place for place, node in enumerate(plan.nodes) if node.target in CONVOLUTIONS}
    return {
        makers[node.reads[0]]: place
        for place, node in enumerate(plan.nodes)
        if node.target == "aten.batch_norm.default"
        and node.reads[0] in makers
        and readers[node.reads[0]] == 1
        and plan.values[node.reads[0]].keep == 0
    }


def folded_weights(convolution: PlanNode, norm: PlanNode, constants: Lookup) -> dict[str, Tensor]:
    """Weight and bias of a convolution that norms its own result."""
    weight = _found(convolution.arguments, "weight", constants)
    assert weight is not None
    scale, shift = norm_line(convolution, norm, constants)
    return {"weight": weight * scale.reshape(-1, *[1] * (weight.dim() - 1)), "bias": shift.to(weight.dtype)}


def norm_line(convolution: PlanNode, norm: PlanNode, constants: Lookup) -> tuple[Tensor, Tensor]:
    """Scale and shift, per channel, that make what the convolution gives without its bias what the norm gives."""
    found = {
        name: _found(norm.arguments, name, constants) for name in ("weight", "bias", "running_mean", "running_var")
    }
    bias = _found(convolution.arguments, "bias", constants)
    mean, variance = found["running_mean"], found["running_var"]
    assert mean is not None
    assert variance is not None
    scale = torch.rsqrt(variance + norm.arguments["eps"])
    scale = scale if found["weight"] is None else scale * found["weight"]
    shift = (torch.zeros_like(mean) if bias is None else bias) - mean
    return scale, shift * scale if found["bias"] is None else shift * scale + found["bias"]


def _found(arguments: Mapping[str, Any], name: str, constants: Lookup) -> Tensor | None:
    reference = arguments.get(name)
    return constants(reference.name).detach() if isinstance(reference, (WeightRef, ValueRef)) else None
