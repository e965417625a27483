"""Which operators a plan from a file may call: pure ones of torch's own, those with a rule of the user's, no others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import torch

from co3d_compile.errors import ArtifactError
from co3d_compile.ops.operation import overload
from co3d_compile.ops.table import BUILT_IN, OperationTable, Origin

TARGET = re.compile(r"aten\.(\w+)\.(\w+)")


def require_callable(target: str, operations: OperationTable = BUILT_IN) -> None:
    """Refuse a target that is not one of torch's pure operators, and has no rule of the user's own.

    A rule's operators pass; so do those that only make tensors from tensors and numbers, which constants are computed
    with. A text argument could name a file (``aten.from_file``), so an operator that takes one needs a rule.

    Raises:
        ArtifactError: the operator is unknown, or not pure.
    """
    if operations.is_own(target) or (_is_torch_operator(target) and (_has_rule(target) or _is_pure(target))):
        return
    raise ArtifactError(
        f"the plan calls {target!r}, which is no operator that a compiled network may call\n"
        "  try: compile the model again, with this version"
    )


def require_rules(own_rules: Mapping[str, Origin], operations: OperationTable) -> None:
    """Refuse a plan that was compiled with rules that are not here: built-in ones might run it otherwise.

    Raises:
        ArtifactError: names them, and the packages they came from.
    """
    missing = {target: origin for target, origin in own_rules.items() if not operations.is_own(target)}
    if missing:
        listed = "\n  ".join(f"{target}: {origin}" for target, origin in sorted(missing.items()))
        packages = sorted({origin.package for origin in missing.values() if origin.package})
        install = f"install {', '.join(packages)}, or " if packages else ""
        raise ArtifactError(
            f"{len(missing)} operator(s) were compiled with rules that are not here\n  {listed}\n"
            f"  try: {install}give the rules: co3d_compile.load(path, ops=[...])"
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
    return BUILT_IN.rule_for(target) is not None and not overload(target)._schema.is_mutable


def _is_pure(target: str) -> bool:
    schema = overload(target)._schema
    takes_text = any("str" in str(argument.type) for argument in schema.arguments)
    makes_tensors = all("Tensor" in str(result.type) for result in schema.returns)
    return bool(schema.returns) and makes_tensors and not takes_text and not schema.is_mutable
