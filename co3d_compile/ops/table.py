"""The operation table: from a target's name to its rule."""

from __future__ import annotations

from co3d_compile.ops.adaptive import AdaptivePool
from co3d_compile.ops.along_axis import AlongAxis
from co3d_compile.ops.convolution import Convolution
from co3d_compile.ops.factories import Filled
from co3d_compile.ops.joining import Cat, Stack
from co3d_compile.ops.normalization import BatchNorm, GroupNorm, LayerNorm
from co3d_compile.ops.operation import Operation
from co3d_compile.ops.padding import Pad, PadByContent
from co3d_compile.ops.pointwise import Pointwise, is_pointwise
from co3d_compile.ops.pooling import AveragePool, MaxPool
from co3d_compile.ops.products import Linear, MatrixProduct
from co3d_compile.ops.reduction import Reduction
from co3d_compile.ops.resampling import PixelShuffle, Upsample
from co3d_compile.ops.shape import Expand, Permute, Repeat, Squeeze, Transpose, Unsqueeze, View
from co3d_compile.ops.slicing import IndexSelect, Scatter, Select, Slice, Split
from co3d_compile.ops.unfolding import Unfold

RULES: tuple[Operation, ...] = (
    Convolution(),
    MaxPool(),
    AveragePool(),
    AdaptivePool(),
    Reduction(),
    BatchNorm(),
    LayerNorm(),
    GroupNorm(),
    AlongAxis(),
    Linear(),
    MatrixProduct(),
    View(),
    Permute(),
    Transpose(),
    Squeeze(),
    Unsqueeze(),
    Expand(),
    Repeat(),
    Cat(),
    Stack(),
    Slice(),
    Select(),
    Split(),
    IndexSelect(),
    Scatter(),
    Pad(),
    PadByContent(),
    Filled(),
    Upsample(),
    PixelShuffle(),
    Unfold(),
)

POINTWISE = Pointwise()
_BY_TARGET = {target: rule for rule in RULES for target in rule.targets}


def rule_for(target: str) -> Operation | None:
    """The rule for a target such as ``aten.conv3d.default``; None if there is none."""
    found = _BY_TARGET.get(target)
    if found is None and target.startswith("aten.") and is_pointwise(target):
        return POINTWISE
    return found
