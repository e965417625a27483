"""The accounting of the paper, beside our own, so that numbers can be compared with those it prints.

"The paper" is Hedegaard and Iosifidis, "Continual 3D Convolutional Neural Networks for Real-time Processing of Videos",
ECCV 2022.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from co3d_compile.plan.plan import Plan
from co3d_compile.report.paper_flops import clip_flops, step_flops
from co3d_compile.report.paper_state import KeptPart, clip_numbers, kept_parts


@dataclass(frozen=True)
class PaperAccounting:
    """What the paper would count, for one stream.

    Attributes:
        clip_flops: of the original for the example clip: multiply-accumulates of convolutions and linear layers, 1 per
            number for a bias, ReLU or pool (of what it reads), 2 for a batch norm.
        step_flops_by_phase: of the ticks of a period. Batch norms and ReLUs count twice and the last linear layer as
            one output, as in the tables of the paper.
        state: what is kept between ticks when convolutions keep partial sums and residuals wait at the block's input.
        clip_numbers: what the original holds when it runs on sliding clips: the frames before the newest one, and
            what its first layer makes of the clip.
    """

    clip_flops: int
    step_flops_by_phase: tuple[int, ...]
    state: tuple[KeptPart, ...]
    clip_numbers: int

    @property
    def step_flops(self) -> int:
        """Of the heaviest tick, the one that the paper prints."""
        return max(self.step_flops_by_phase)

    @property
    def state_numbers(self) -> int:
        """All parts together."""
        return sum(part.numbers for part in self.state)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON: the attributes by their names, and the totals."""
        return {"step_flops": self.step_flops, "state_numbers": self.state_numbers, **asdict(self)}


def paper_accounting(plan: Plan) -> PaperAccounting:
    """Count a plan as the paper would, whatever form and firing ticks the plan itself has."""
    return PaperAccounting(
        clip_flops=clip_flops(plan),
        step_flops_by_phase=step_flops(plan),
        state=kept_parts(plan),
        clip_numbers=clip_numbers(plan),
    )
