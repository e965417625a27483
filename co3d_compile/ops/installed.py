"""Rules that installed packages bring, through an entry-point group: each entry point is named like its target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

from co3d_compile.errors import ExtensionError
from co3d_compile.ops.operation import Operation
from co3d_compile.ops.own import require_rule, rule_name

GROUP = "co3d_compile.operations"


def installed_points() -> Mapping[str, Sequence[EntryPoint]]:
    """The entry points by the target that they are named after; nothing is imported."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, []).append(point)
    return found


def installed_rule(target: str, points: Sequence[EntryPoint]) -> Operation:
    """The rule that an installed package brings for a target.

    Raises:
        ExtensionError: it cannot be imported or is no rule for the target, or several packages bring one.
    """
    if len(points) > 1:
        raise ExtensionError(
            f"{target} is claimed by several packages: {', '.join(sorted(package_of(point) for point in points))}\n"
            "  try: uninstall all but one, or give the rule: ops=[...]"
        )
    (point,) = points
    try:
        made = point.load()()
        require_rule(made)
    except Exception as failure:  # a package's code may raise anything
        first = str(failure).partition("\n")[0]
        raise ExtensionError(
            f"{target}: the rule {point.value} of the package {package_of(point)} cannot be used: "
            f"{type(failure).__name__}: {first}\n"
            f"  try: mend or uninstall that package, or give a rule in its place: ops=[...]"
        ) from failure
    assert isinstance(made, Operation)
    if target not in made.targets:
        raise ExtensionError(
            f"{target}: the package {package_of(point)} names {rule_name(made)} for it, which is a rule for "
            f"{', '.join(made.targets)}\n  try: tell its authors: an entry point is named like its target"
        )
    return made


def package_of(point: EntryPoint) -> str:
    """Name and version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value
