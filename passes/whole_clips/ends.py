"""Where time ends: a pool as wide as the clip is a head, but for one behind which neighbours are read again."""

from __future__ import annotations

from collections.abc import Collection

from torch import fx

from co3d_compile.ops.flow import Way
from co3d_compile.passes.propagation import Choices, Unmet, annotate_time
from co3d_compile.program.program import Program, facts_of, flow_of, is_getitem


def settle_time_ends(program: Program) -> None:
    """Let time go on behind pools as wide as their stride and the clip, where something reads neighbours there.

    On the whole video the original gives one element for each stride of it, and what follows reads several of them.

    Law: no value of the clip changes.
    """
    annotate_time(program, Choices())
    for node in [one for one in program.calls if one.meta["facts"] and flow_of(one).ends]:
        node.meta["goes_on"] = True
        refused = annotate_time(program, Choices())
        apart = {one for one, reason in refused.items() if isinstance(reason, Unmet)}
        if not _reads_neighbours_behind(node, apart):
            del node.meta["goes_on"]
            annotate_time(program, Choices())


def _reads_neighbours_behind(node: fx.Node, apart: Collection[fx.Node]) -> bool:
    """Something behind the node reads several elements of it; False where it meets a stream at another rate."""
    seen: set[fx.Node] = set()
    pending, found = [*node.users], False
    while pending:
        user = pending.pop()
        if user in seen or user.op != "call_function" or not user.meta["facts"]:
            continue
        seen.add(user)
        if user in apart:
            return False
        found = found or (not is_getitem(user) and flow_of(user).way in (Way.WINDOW, Way.REINDEX, Way.RECURRENT))
        if facts_of(user).has_time:
            pending.extend(user.users)
    return found
