"""Where what the totals tell comes from: who sets the depth of a history, what saw padding, what is approximate."""

from __future__ import annotations

from co3d_compile.ops.flow import Way
from co3d_compile.passes.state.histories import kept_for, lasting_reads
from co3d_compile.passes.state.narrowing import rounded_for
from co3d_compile.plan.plan import Plan, PlanNode
from co3d_compile.report.data import Law


def neediest_readers(plan: Plan) -> dict[str, PlanNode]:
    """Per value with a history, the node for which the most elements of it are kept; the first among equals."""
    found: dict[str, tuple[int, PlanNode]] = {}
    for name, taps, node in lasting_reads(plan.nodes):
        kept = kept_for(plan.timing(name), taps, plan.timing(node.outputs[0]), plan.period, node.form)
        if kept > found.get(name, (0, node))[0]:
            found[name] = kept, node
    return {name: node for name, (_, node) in found.items()}


def padded_share(plan: Plan, value: str) -> float:
    """Of the elements that the example clip gives, those that have seen padding before or after it.

    Of a window that is wider than the clip, which gives none, the first one.
    """
    timing, frames = plan.timing(value), max(given.clip_ticks for given in plan.inputs)
    elements = range(plan.length(value, frames) or 1)
    return sum(n not in timing.unpadded(frames) for n in elements) / len(elements)


def laws(plan: Plan) -> dict[str, Law]:
    """Per value, whether it is exact."""
    found: dict[str, Law] = {given.value: "exact" for given in plan.inputs}
    for node in plan.nodes:
        law: Law = "exact"
        if node.way in (Way.GATE, Way.MIXING):
            law = "approximate"
        elif any(found.get(name, "exact") != "exact" for name in node.reads) or any(rounded_for(plan, node)):
            law = "affected"
        found.update(dict.fromkeys(node.outputs, law))
    return found
