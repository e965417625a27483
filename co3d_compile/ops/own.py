"""What a rule that is not built in must be."""

from __future__ import annotations

from co3d_compile.errors import ExtensionError
from co3d_compile.ops.operation import Operation, overload


def rule_name(rule: object) -> str:
    """Its class, with its module."""
    kind = rule if isinstance(rule, type) else type(rule)
    return f"{kind.__module__}.{kind.__qualname__}"


def require_rule(rule: object) -> None:
    """Refuse what is no rule, or a rule for operators that torch does not know or that write to what they read.

    Raises:
        ExtensionError: says which rule, and which of its targets.
    """
    if isinstance(rule, type):
        raise ExtensionError(f"{rule_name(rule)} is a class, not a rule\n  try: {rule.__name__}()")
    if not isinstance(rule, Operation):
        raise ExtensionError(
            f"an object of type {rule_name(rule)} is no rule\n"
            "  try: one of a class that derives from co3d_compile.ops.operation.Operation"
        )
    if not rule.targets:
        raise ExtensionError(f"{rule_name(rule)} claims no target\n  try: targets = ('namespace.name.default',)")
    for target in rule.targets:
        _require_operator(rule_name(rule), target)


def _require_operator(rule: str, target: str) -> None:
    try:
        schema = overload(target)._schema
    except (AttributeError, ValueError, AssertionError) as missing:
        raise ExtensionError(
            f"{rule} claims {target!r}, which is no operator that torch knows\n"
            "  try: namespace.name.overload, such as aten.unfold.default, and import what defines it first"
        ) from missing
    if schema.is_mutable:
        raise ExtensionError(
            f"{rule} claims {target}, which writes to what it reads; captured graphs hold no such calls\n"
            "  try: the operator that returns its result"
        )
