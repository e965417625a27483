"""Which operators a plan from a file may call: pure ones of torch's own, and nothing that reads or writes elsewhere."""

from __future__ import annotations

import re
from functools import cache

import torch

from co3d_compile.errors import ArtifactError
from co3d_compile.ops.operation import overload
from co3d_compile.ops.table import rule_for

TARGET = re.compile(r"aten\.(\w+)\.(\w+)")


def require_callable(target: str) -> None:
    """Refuse a target that is not one of torch's pure operators.

    A rule's operators pass; so do those that only make tensors from tensors and numbers, which constants are computed
    with. A text argument could name a file (``aten.from_file``), so an operator that takes one needs a rule.

    Raises:
        ArtifactError: the operator is unknown, or not pure.
    """
    if _is_torch_operator(target) and (_has_rule(target) or _is_pure(target)):
        return
    raise ArtifactError(
        f"the plan calls {target!r}, which is no operator that a compiled network may call\n"
        "  try: compile the model again, with this version"
    )


@cache
def _operators() -> frozenset[str]:
    return frozenset(torch._C._dispatch_get_all_op_names())


def _is_torch_operator(target: str) -> bool:
    named = TARGET.fullmatch(target)
    if named is None:
        return False
    name, variant = named.groups()
    return f"aten::{name}" + ("" if variant == "default" else f".{variant}") in _operators()


def _has_rule(target: str) -> bool:
    return rule_for(target) is not None and not overload(target)._schema.is_mutable


def _is_pure(target: str) -> bool:
    schema = overload(target)._schema
    takes_text = any("str" in str(argument.type) for argument in schema.arguments)
    makes_tensors = all("Tensor" in str(result.type) for result in schema.returns)
    return bool(schema.returns) and makes_tensors and not takes_text and not schema.is_mutable
