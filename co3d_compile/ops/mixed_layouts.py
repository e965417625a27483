"""Where time lies in what mixes the frames of a clip: a product of two streams over time has it twice.

No rule streams such tensors; their layouts only tell where a mixture has one time again
(``passes/whole_clips/regions.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from co3d_compile.layout import Dim, Layout, Mark, SplitError
from co3d_compile.ops.einsum import indices_of
from co3d_compile.ops.operation import Call, Facts, canonical_dim, canonical_dims
from co3d_compile.ops.pointwise import is_pointwise
from co3d_compile.ops.reduction import reduced_layout

KEEPING = ("softmax.int", "log_softmax.int", "_softmax.default", "_log_softmax.default")
NORMS = ("group_norm.default", "layer_norm.default", "batch_norm.default", "instance_norm.default", "rms_norm.default")


class Untracked(Exception):
    """Time cannot be followed through an operation."""


def times_in(layout: Layout) -> int:
    """How often time is among the factors."""
    return sum(factor is Mark.TIME for dim in layout.dims for factor in dim)


def mixed_layout(call: Call) -> Layout:
    """The layout of what a call of an operation makes that may mix frames.

    Raises:
        Untracked: it is none of those that are followed here.
    """
    name = call.target.removeprefix("aten.")
    if name in NORMS:
        _require_statistics(name, call)
    if name in KEEPING or name in NORMS:
        return call.operands[0].layout.solid()
    if name in _LAYOUTS:
        try:
            return _LAYOUTS[name](call)
        except SplitError as split:
            raise Untracked(str(split)) from split
    if call.target.startswith("aten.") and is_pointwise(call.target):
        return _joined([facts.layout.solid() for facts in call.operands])
    raise Untracked(f"{call.target} is not followed")


def _require_statistics(name: str, call: Call) -> None:
    """A norm whose statistics are the clip's; not one that has others for each frame."""
    if name.startswith(("layer_norm", "rms_norm")):
        return
    if Mark.TIME in call.operands[0].layout.dims[1]:
        raise Untracked("time is folded into the channels, each with its own norm")
    if name.startswith("batch_norm") and not call["training"] and call["running_mean"] is not None:
        raise Untracked("its statistics are fixed")


def _joined(layouts: Sequence[Layout]) -> Layout:
    rank = max(layout.rank for layout in layouts)
    dims = [
        _joined_dim([layout.dims[place - rank] for layout in layouts if layout.rank >= rank - place])
        for place in range(rank)
    ]
    return _like(layouts).with_dims(dims)


def _like(layouts: Sequence[Layout]) -> Layout:
    return next((layout for layout in layouts if _is_stream(layout)), layouts[0])


def _is_stream(layout: Layout) -> bool:
    return times_in(layout) > 0


def _joined_dim(dims: Sequence[Dim]) -> Dim:
    marked = {dim for dim in dims if any(isinstance(factor, Mark) for factor in dim)}
    if len(marked) > 1:
        raise Untracked("time lies differently in two operands")
    return next(iter(marked)) if marked else max(dims, key=len)


def _product(left: str, right: str) -> Callable[[Call], Layout]:
    def layout_of(call: Call) -> Layout:
        one, other = (facts.layout.solid() for facts in (_operand(call, left), _operand(call, right)))
        if one.rank < 2 or other.rank < 2:
            raise Untracked("a product with a vector")
        outer = _joined([one.with_dims(one.dims[:-2]), other.with_dims(other.dims[:-2])])
        return _like((one, other)).with_dims([*outer.dims, one.dims[-2], other.dims[-1]])

    return layout_of


def _operand(call: Call, name: str) -> Facts:
    facts: Facts = call[name]
    return facts


def _reshaped(call: Call) -> Layout:
    return call.operands[0].layout.regroup(call.shapes[0])


def _expanded(call: Call) -> Layout:
    layout = call.operands[0].layout
    if layout.shape != call.shapes[0]:
        raise Untracked("it is expanded")
    return layout


def _permuted(call: Call) -> Layout:
    layout = call.operands[0].layout
    return layout.with_dims([layout.dims[canonical_dim(dim, layout.rank)] for dim in call["dims"]])


def _transposed(call: Call) -> Layout:
    layout = call.operands[0].layout
    one, other = (canonical_dim(call[name], layout.rank) for name in ("dim0", "dim1"))
    dims = list(layout.dims)
    dims[one], dims[other] = dims[other], dims[one]
    return layout.with_dims(dims)


def _reduced(call: Call) -> Layout:
    layout = call.operands[0].layout
    dims = canonical_dims(call["dim"], layout.rank)
    return reduced_layout(layout, dims, keepdim=bool(call["keepdim"]))


def _attended(call: Call) -> Layout:
    query, value = call["query"].layout, call["value"].layout
    layout: Layout = query.with_dims([*query.dims[:-1], value.dims[-1]])
    return layout


def _summed(call: Call) -> Layout:
    """Every index as the operands made from the video have it; time twice where two of its indices are kept."""
    terms, output = indices_of(call)
    layouts = [facts.layout.solid() for facts in call["tensors"]]
    dims: dict[str, Dim] = {}
    for term, layout in zip(terms, layouts, strict=True):
        for name, dim in zip(term, layout.dims, strict=True):
            dims[name] = _joined_dim([dims.get(name, ()), dim])
    return _like(layouts).with_dims([dims[name] for name in output])


_LAYOUTS: Mapping[str, Callable[[Call], Layout]] = {
    "mm.default": _product("self", "mat2"),
    "bmm.default": _product("self", "mat2"),
    "matmul.default": _product("self", "other"),
    "baddbmm.default": _product("batch1", "batch2"),
    "einsum.default": _summed,
    "scaled_dot_product_attention.default": _attended,
    "reshape.default": _reshaped,
    "permute.default": _permuted,
    "transpose.int": _transposed,
    "unsqueeze.default": _reshaped,
    "squeeze.dim": _reshaped,
    "expand.default": _expanded,
    **dict.fromkeys(("all.dim", "any.dim", "sum.dim_IntList", "mean.dim", "amax.default", "amin.default"), _reduced),
}
