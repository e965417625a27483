"""One vocabulary: several spellings of one operation become one, and what does nothing goes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import fx

from co3d_compile.ops.table import OperationTable
from co3d_compile.program.program import bound_arguments, is_getitem, item_of, target_name

aten = torch.ops.aten

IDENTITIES = {
    f"aten.{name}"
    for name in (
        "clone.default",
        "dropout.default",
        "feature_dropout.default",
        "alpha_dropout.default",
        "feature_alpha_dropout.default",
        "alias.default",
        "detach.default",
        "detach_.default",
        "contiguous.default",
        "lift_fresh.default",
        "lift_fresh_copy.default",
        "lift.default",
    )
}

VIEWS = ("aten.slice.Tensor", "aten.select.int", "aten.narrow.default")

# (first output only) spelling -> canonical operator and how its arguments are made
FIRST_OF_SEVERAL = {
    "aten._native_batch_norm_legit_no_training.default",
    "aten._native_batch_norm_legit.default",
    "aten._native_batch_norm_legit.no_stats",
    "aten.native_batch_norm.default",
    "aten.native_layer_norm.default",
    "aten.native_group_norm.default",
    "aten.max_pool2d_with_indices.default",
    "aten.max_pool3d_with_indices.default",
    "aten.adaptive_max_pool2d.default",
    "aten.adaptive_max_pool3d.default",
}
REWRITTEN = {
    *(f"aten.conv{n}d.padding" for n in (1, 2, 3)),
    "aten.pad.default",
    "aten.convolution.default",
    "aten.zeros_like.default",
    "aten.ones_like.default",
    "aten.full_like.default",
    "aten.new_zeros.default",
    "aten.new_ones.default",
    "aten.new_full.default",
    "aten.zero.default",
    "aten.fill.Scalar",
    "aten.copy.default",
    "aten.view.default",
    "aten.flatten.using_ints",
    "aten.unflatten.int",
    "aten.expand_as.default",
    "aten.narrow.default",
    "aten.sub.Tensor",
    "aten.mul.Tensor",
    "aten.cat.default",
    "aten._unsafe_view.default",
    "aten._assert_tensor_metadata.default",
    "aten.view_as_complex.default",
    "aten.range.default",
    "aten.range.step",
    *(f"aten.{name}_mean.{variant}" for name in ("var", "std") for variant in ("default", "dim", "correction")),
}


def is_known(node: fx.Node, operations: OperationTable) -> bool:
    """The node has a rule, or is rewritten into one that has."""
    if is_getitem(node):
        return True
    name = target_name(node)
    return name in IDENTITIES | FIRST_OF_SEVERAL | REWRITTEN or operations.rule_for(name) is not None


def canonicalise(graph: fx.Graph, operations: OperationTable) -> None:
    """Rewrite the graph, in place, into the vocabulary that the passes read. No value changes that is finite.

    What a user's own rule claims stays as it is.
    """
    for node in list(graph.nodes):
        if node.op == "call_function" and not is_getitem(node) and not operations.is_own(target_name(node)):
            _rewrite(graph, node)
    graph.eliminate_dead_code()
    graph.lint()


def _rewrite(graph: fx.Graph, node: fx.Node) -> None:
    name = target_name(node)
    if name == "aten._assert_tensor_metadata.default":
        graph.erase_node(node)
    elif name in IDENTITIES:
        _replace(graph, node, node.args[0])
    elif name in FIRST_OF_SEVERAL:
        _first_of_several(graph, node)
    elif name in REWRITTEN:
        _SPELLINGS[name.split(".")[1]](graph, node)


def _replace(graph: fx.Graph, node: fx.Node, by: Any) -> None:
    node.replace_all_uses_with(by)
    graph.erase_node(node)


def _insert(graph: fx.Graph, node: fx.Node, target: Any, args: tuple[Any, ...], value: Any = None) -> fx.Node:
    with graph.inserting_before(node):
        made = graph.call_function(target, args)
    made.meta = {**node.meta, "val": node.meta["val"] if value is None else value}
    return made


def _first_of_several(graph: fx.Graph, node: fx.Node) -> None:
    items = list(node.users)
    if any(item.args[1] != 0 and item.users for item in items) or _is_adaptive_to_several(node):
        return
    made = _insert(graph, node, *_single(node), node.meta["val"][0])
    for item in items:
        _replace(graph, item, made)
    graph.erase_node(node)


def _is_adaptive_to_several(node: fx.Node) -> bool:
    """A maximum over boxes; over everything it is ``amax``."""
    return "adaptive" in target_name(node) and set(bound_arguments(node)["output_size"]) != {1}


def _single(node: fx.Node) -> tuple[Any, tuple[Any, ...]]:
    given = bound_arguments(node)
    name = target_name(node).split(".")[1]
    if "batch_norm" in name:
        training = given.get("training", False)
        statistics = (given.get("running_mean"), given.get("running_var"), training, given["momentum"], given["eps"])
        return aten.batch_norm.default, (given["input"], given["weight"], given["bias"], *statistics, False)
    if name == "native_layer_norm":
        shape, rest = given["normalized_shape"], (given["weight"], given["bias"], given["eps"], False)
        return aten.layer_norm.default, (given["input"], shape, *rest)
    if name == "native_group_norm":
        return aten.group_norm.default, (
            given["input"],
            given["group"],
            given["weight"],
            given["bias"],
            given["eps"],
            False,
        )
    if name.startswith("adaptive"):
        axes = [-1 - place for place in range(len(given["output_size"]))]
        return aten.amax.default, (given["self"], axes, True)
    return getattr(aten, name.removesuffix("_with_indices")).default, tuple(node.args)


def _numeric_padding(graph: fx.Graph, node: fx.Node) -> None:
    """``same``: the element that cannot be shared out evenly comes at the end (torch.nn.functional.conv3d)."""
    given = bound_arguments(node)
    kernel = given["weight"].meta["val"].shape[2:]
    spread = given["dilation"] if len(given["dilation"]) == len(kernel) else list(given["dilation"]) * len(kernel)
    reaches = [d * (k - 1) if given["padding"] == "same" else 0 for k, d in zip(kernel, spread, strict=True)]
    source = given["input"]
    if any(reach % 2 for reach in reaches):
        pads = [amount for reach in reversed(reaches) for amount in (0, reach % 2)]
        padded = torch.nn.functional.pad(source.meta["val"], pads)
        source = _insert(graph, node, aten.constant_pad_nd.default, (source, pads, 0.0), padded)
    strides = (given["stride"], [reach // 2 for reach in reaches], given["dilation"], given["groups"])
    target = getattr(aten, target_name(node).split(".")[1]).default
    _replace(graph, node, _insert(graph, node, target, (source, given["weight"], given["bias"], *strides)))


def _constant_pad(graph: fx.Graph, node: fx.Node) -> None:
    given = bound_arguments(node)
    if given["mode"] == "constant":
        value = 0.0 if given["value"] is None else given["value"]
        args = (given["self"], given["pad"], value)
        _replace(graph, node, _insert(graph, node, aten.constant_pad_nd.default, args))


def _convolution(graph: fx.Graph, node: fx.Node) -> None:
    given = bound_arguments(node)
    count = len(given["weight"].meta["val"].shape) - 2
    if given["transposed"]:
        names = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
        transposed = getattr(aten, f"conv_transpose{count}d")
        target = transposed.default if count == 1 else transposed.input
        _replace(graph, node, _insert(graph, node, target, tuple(given[name] for name in names)))
        return
    args = tuple(given[name] for name in ("input", "weight", "bias", "stride", "padding", "dilation", "groups"))
    _replace(graph, node, _insert(graph, node, getattr(aten, f"conv{count}d").default, args))


def _filled(graph: fx.Graph, node: fx.Node) -> None:
    given = bound_arguments(node)
    _fill(graph, node, given.get("fill_value", given.get("value", 1 if "ones" in target_name(node) else 0)))


def _fill(graph: fx.Graph, node: fx.Node, value: Any) -> None:
    made = _insert(graph, node, aten.full.default, (list(node.meta["val"].shape), value))
    made.kwargs = {"dtype": node.meta["val"].dtype}
    _replace(graph, node, made)


def _joined_to_nothing(graph: fx.Graph, node: fx.Node) -> None:
    tensors = bound_arguments(node)["tensors"]
    if len(tensors) == 1:
        _replace(graph, node, tensors[0])


def _taken_from_itself(graph: fx.Graph, node: fx.Node) -> None:
    """``x - x`` as a spelling of zeros."""
    given = bound_arguments(node)
    if given["alpha"] == 1 and _is_same(given["self"], given["other"]):
        _fill(graph, node, 0)


def _is_same(one: Any, other: Any) -> bool:
    """One node, or the same view of one."""
    if not (isinstance(one, fx.Node) and isinstance(other, fx.Node)) or one is other:
        return one is other
    called = one.op == other.op == "call_function" and one.target == other.target
    return called and target_name(one) in VIEWS and (one.args, one.kwargs) == (other.args, other.kwargs)


def _multiplied(graph: fx.Graph, node: fx.Node) -> None:
    """``x * 0`` as a spelling of zeros."""
    if any(type(factor) in (int, float) and factor == 0 for factor in node.args):
        _fill(graph, node, 0)


def _copied(graph: fx.Graph, node: fx.Node) -> None:
    """The functional form of ``copy_``: the source, in the shape and dtype of what it is copied onto."""
    given = bound_arguments(node)
    source, value = given["src"], node.meta["val"]
    if source.meta["val"].dtype != value.dtype:
        cast = source.meta["val"].to(value.dtype)
        source = _insert(graph, node, aten._to_copy.default, (source,), cast)
        source.kwargs = {"dtype": value.dtype}
    if source.meta["val"].shape != value.shape:
        source = _insert(graph, node, aten.expand.default, (source, list(value.shape)))
    _replace(graph, node, source)


def _reshaped(graph: fx.Graph, node: fx.Node) -> None:
    """Not a view: elements, and what loses its copies here, may lie in memory otherwise than the clip did."""
    given = bound_arguments(node)
    _replace(graph, node, _insert(graph, node, aten.reshape.default, (given["self"], given["size"])))


def _to_its_sizes(operator: Any, graph: fx.Graph, node: fx.Node) -> None:
    """The operator that takes the sizes; those that depend on values in the video stay torch's own affair."""
    sizes = list(node.meta["val"].shape)
    if all(isinstance(size, int) for size in sizes):
        _replace(graph, node, _insert(graph, node, operator, (node.args[0], sizes)))


def _apart(graph: fx.Graph, node: fx.Node) -> None:
    """``var_mean`` as the two that it is."""
    given = bound_arguments(node)
    spread = getattr(aten, target_name(node).split(".")[1].removesuffix("_mean")).correction
    dim, keep = given.get("dim"), given.get("keepdim", False)
    correction = given["correction"] if "correction" in given else int(given["unbiased"])
    values = node.meta["val"]
    made = (
        _insert(graph, node, spread, (given["self"], dim), values[0]),
        _insert(graph, node, aten.mean.dim, (given["self"], dim, keep), values[1]),
    )
    made[0].kwargs = {"correction": correction, "keepdim": keep}
    for item in list(node.users):
        _replace(graph, item, made[item_of(item)[1]])
    graph.erase_node(node)


def _counted(graph: fx.Graph, node: fx.Node) -> None:
    """``torch.range``, which counts up to its end and not to before it."""
    given, value = bound_arguments(node), node.meta["val"]
    step = given.get("step", 1)
    beyond = step / 2 if value.is_floating_point() else (1 if step > 0 else -1)
    made = _insert(graph, node, aten.arange.start_step, (given["start"], given["end"] + beyond, step))
    made.kwargs = {"dtype": value.dtype}
    _replace(graph, node, made)


def _of_parts(graph: fx.Graph, node: fx.Node) -> None:
    """Not a view: the copy that laid its pairs side by side in memory is gone."""
    pairs = bound_arguments(node)["self"]
    parts = [_insert(graph, node, aten.select.int, (pairs, -1, n), pairs.meta["val"].select(-1, n)) for n in (0, 1)]
    _replace(graph, node, _insert(graph, node, aten.complex.default, tuple(parts)))


def _narrowed(graph: fx.Graph, node: fx.Node) -> None:
    given = bound_arguments(node)
    start, length = given["start"], given["length"]
    if isinstance(start, int) and isinstance(length, int):
        first = start if start >= 0 else start + given["self"].meta["val"].shape[given["dim"]]
        args = (given["self"], given["dim"], first, first + length)
        _replace(graph, node, _insert(graph, node, aten.slice.Tensor, args))


_SPELLINGS: dict[str, Callable[[fx.Graph, fx.Node], None]] = {
    "conv1d": _numeric_padding,
    "conv2d": _numeric_padding,
    "conv3d": _numeric_padding,
    "pad": _constant_pad,
    "convolution": _convolution,
    "zeros_like": _filled,
    "ones_like": _filled,
    "full_like": _filled,
    "new_zeros": _filled,
    "new_ones": _filled,
    "new_full": _filled,
    "zero": _filled,
    "fill": _filled,
    "copy": _copied,
    "view": _reshaped,
    "flatten": partial(_to_its_sizes, aten.reshape.default),
    "unflatten": partial(_to_its_sizes, aten.reshape.default),
    "expand_as": partial(_to_its_sizes, aten.expand.default),
    "narrow": _narrowed,
    "cat": _joined_to_nothing,
    "sub": _taken_from_itself,
    "mul": _multiplied,
    "_unsafe_view": _reshaped,
    "view_as_complex": _of_parts,
    "range": _counted,
    "var_mean": _apart,
    "std_mean": _apart,
}
