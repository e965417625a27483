"""Which operators a plan from a file may call: pure ones of torch's own, those with a rule of the user's, no others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch

from co3d_compile.errors import ArtifactError
from co3d_compile.ops.bodies import ARITHMETIC, Body
from co3d_compile.ops.operation import overload
from co3d_compile.ops.table import BUILT_IN, OperationTable, Origin

TARGET = re.compile(r"(aten|co3d_compile)\.(\w+)\.(\w+)")
NUMBERS = ("int", "SymInt", "float", "bool", "number")
"""What calls in a body may make besides tensors: sizes, and numbers made of them."""


def require_callable(target: str, operations: OperationTable = BUILT_IN) -> None:
    """Refuse a target that is not one of torch's pure operators, and has no rule of the user's own.

    A rule's operators pass; so do those that only make tensors from tensors and numbers, which constants are computed
    with. A text argument could name a file (``aten.from_file``), so an operator that takes one needs a rule.

    Raises:
        ArtifactError: the operator is unknown, or not pure.
    """
    if not _is_callable(target, operations):
        _refuse(target)


def may_be_in_body(target: str, operations: OperationTable) -> bool:
    """A body may call it: what a plan may call, and what makes sizes."""
    return target in ARITHMETIC or _measures(target) or _is_callable(target, operations)


def require_callable_body(text: str, operations: OperationTable = BUILT_IN) -> None:
    """Refuse a body that calls anything but what a plan may call, also in bodies within it.

    Raises:
        ArtifactError: it does, or the text is no body.
    """
    for call in Body.from_text(text).calls:
        if not may_be_in_body(call.target, operations):
            _refuse(call.target)
        for inner in bodies_in(call.target, call.arguments):
            require_callable_body(inner, operations)


def bodies_in(target: str, arguments: Mapping[str, Any]) -> list[str]:
    """The bodies among the arguments of one of our own operators: its texts, by the operator's own definition."""
    if not target.startswith("co3d_compile."):
        return []
    return [value for value in arguments.values() if isinstance(value, str) and value]


def _is_callable(target: str, operations: OperationTable) -> bool:
    return operations.is_own(target) or (_is_torch_operator(target) and (_has_rule(target) or _is_pure(target)))


def _refuse(target: str) -> None:
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
    space, name, variant = named.groups()
    return f"{space}::{name}" + ("" if variant == "default" else f".{variant}") in _operators()


def _has_rule(target: str) -> bool:
    return BUILT_IN.rule_for(target) is not None and not overload(target)._schema.is_mutable


def _is_pure(target: str) -> bool:
    makes_tensors = all("Tensor" in str(result.type) for result in overload(target)._schema.returns)
    return makes_tensors and _only_computes(target)


def _measures(target: str) -> bool:
    """The operator makes numbers of tensors, such as ``aten.sym_size.int``."""
    if not _is_torch_operator(target):
        return False
    makes_numbers = all(str(result.type) in NUMBERS for result in overload(target)._schema.returns)
    return makes_numbers and _only_computes(target)


def _only_computes(target: str) -> bool:
    schema = overload(target)._schema
    takes_text = any("str" in str(argument.type) for argument in schema.arguments)
    return bool(schema.returns) and not takes_text and not schema.is_mutable
