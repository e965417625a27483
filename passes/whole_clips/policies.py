"""What a user chooses for parts of a model that look at the whole clip, by module path."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Literal, get_args

from torch import fx

from co3d_compile.errors import InputError
from co3d_compile.program.program import path_of

GatePolicy = Literal["frame", "window", "cumulative", "exact", "uniform"]
STATISTIC: tuple[str, ...] = ("frame", "window", "cumulative", "exact")
"""For what is made of all frames of a clip."""
OF_TIME: tuple[str, ...] = ("window", "cumulative", "exact")
"""For a statistic of all frames of a clip that tells nothing of one."""
CHOICE: tuple[str, ...] = ("exact", "uniform")
"""For what takes some frames of a clip by their place in it."""
POLICIES: tuple[str, ...] = get_args(GatePolicy)


class Places:
    """All that a policy can be chosen for, noted as it is found: module path, and which policies fit there."""

    def __init__(self, policy: Mapping[str, GatePolicy]) -> None:
        self._policy = policy
        self._fitting: dict[str, set[str]] = {}

    def chosen(self, place: str, fitting: Collection[str] = STATISTIC) -> str | None:
        """What the user chose for a place, of the policies that fit it; None: nothing. Notes the place.

        Raises:
            InputError: the policy's name is unknown.
        """
        self.note([place], fitting)
        matching = [name for pattern, name in self._policy.items() if _matches(pattern, place)]
        for name in matching:
            if name not in POLICIES:
                raise InputError(f"{place}: no policy is called {name!r}\n  try: one of {', '.join(fitting)}")
        return next((name for name in matching if name in fitting), None)

    def note(self, places: Iterable[str], fitting: Collection[str] = STATISTIC) -> None:
        """There are such places."""
        for place in places:
            self._fitting.setdefault(place, set()).update(fitting)

    def require_all_used(self) -> None:
        """Refuse a policy that nothing is made under.

        Raises:
            InputError: a pattern matches none of the places, or none that its policy fits.
        """
        for pattern, name in self._policy.items():
            matched = [place for place in self._fitting if _matches(pattern, place)]
            if not matched:
                listed = ", ".join(sorted(self._fitting)) or "none"
                raise InputError(
                    f"policy {pattern!r} matches nothing that takes a whole clip\n  try: a pattern for one of: {listed}"
                )
            if not any(name in self._fitting[place] for place in matched):
                fitting = [one for one in POLICIES if any(one in self._fitting[place] for place in matched)]
                raise InputError(
                    f"{matched[0]}: the policy {name!r} has no meaning for it\n  try: one of {', '.join(fitting)}"
                )


def place_of(node: fx.Node) -> str:
    """The module path; at the top level, which has none, the node's own name."""
    return path_of(node) or node.name


def _matches(pattern: str, path: str) -> bool:
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}.*")
