"""The compiled network that a user holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

from co3d_compile.artifact import write_artifact
from co3d_compile.capture.original import Original
from co3d_compile.capture.step_rules import StepRules
from co3d_compile.errors import InputError
from co3d_compile.ops.table import BUILT_IN, OperationTable
from co3d_compile.options import require_settings
from co3d_compile.passes.own import ProgramPass
from co3d_compile.plan.plan import Plan
from co3d_compile.report.build import build_report
from co3d_compile.report.data import Deviation, Report
from co3d_compile.report.frame_sizes import FrameSizes, settled_sizes
from co3d_compile.report.paper import PaperAccounting, paper_accounting
from co3d_compile.report.what_if import Scenario, Size, scenarios
from co3d_compile.runtime.module import StreamingModule
from co3d_compile.runtime.weights import Weights
from co3d_compile.verification.deviation import measure_deviation
from co3d_compile.verification.result import Verification
from co3d_compile.verification.verify import verify


class Network(StreamingModule):
    """A continual network: ``step``, ``stream``, ``forward``, and what is known of it."""

    def __init__(
        self,
        plan: Plan,
        weights: Weights,
        operations: OperationTable = BUILT_IN,
        passes: Sequence[ProgramPass] = (),
        recurrences: StepRules | None = None,
    ) -> None:
        super().__init__(plan, weights, operations)
        self._passes = tuple(passes)
        self._recurrences = dict(recurrences or {})
        self._deviations: tuple[Deviation, ...] = ()

    @property
    def report(self) -> Report:
        """Delay, receptive field, exactness, state and multiply-accumulates, per output, in total and per layer."""
        report = build_report(self.plan, [self.weights.find(name) for name in self.plan.weights], self._sizes)
        if not self._deviations:
            return report
        measured = zip(report.outputs, self._deviations, strict=True)
        return replace(report, outputs=tuple(replace(output, deviation=one) for output, one in measured))

    def accounting(self, convention: Literal["paper"] = "paper") -> PaperAccounting:
        """Operations and state as others count them, for comparison with what they print; ``report`` has our numbers.

        Args:
            convention: ``paper``: that of Hedegaard and Iosifidis, ECCV 2022 (docs/state.md).

        Raises:
            InputError: no such convention.
        """
        if convention != "paper":
            raise InputError(f"convention is {convention!r}\n  try: 'paper', or report for the compiler's own numbers")
        return paper_accounting(self.plan)

    @cached_property
    def _sizes(self) -> FrameSizes:
        return settled_sizes(self.plan, self.weights.find, self.operations)

    def what_if(
        self, *, windows: Sequence[int | None] = (None,), sizes: Sequence[Size | None] = (None,)
    ) -> tuple[Scenario, ...]:
        """Delay, receptive field, cost and state for each window and frame size, from the formulas; None: as compiled.

        The rate stays: another one needs the model (``co3d_compile.api.what_if``).
        """
        require_settings(windows, sizes)
        return tuple(scenarios(self.plan, self._sizes, windows, sizes))

    def deviation(self, model: Original, *, seed: int = 0) -> tuple[Deviation, ...]:
        """Measure, per output, how far the stream is from the original on a random clip; the report shows it then.

        Policies make a difference, and a rounded state: ``verify`` holds everything else to the original's numbers.

        Raises:
            ApproximationError: the network's numbers are beyond the range of the state's dtype.
        """
        self._deviations = measure_deviation(self, model, seed=seed)
        return self._deviations

    def verify(
        self,
        model: Original,
        *,
        frames: int | None = None,
        seed: int = 0,
        passes: Sequence[ProgramPass] | None = None,
        recurrences: StepRules | None = None,
    ) -> Verification:
        """Compare with the original, element by element, on a random video from its first frame through its end.

        A network whose state is rounded is compared with its state in full; then what the rounding changes is held
        against what noise of its size changes (docs/state-dtype.md).

        Args:
            model: the original; it is not changed.
            frames: length of the video; None: the clip and two periods of the network.
            passes: those that ``compile`` was given; a file holds only their names, so after ``load`` they are needed.
            recurrences: those that ``compile`` was given; needed after ``load``, too.

        Raises:
            VerificationError: the model is not the one that this network was compiled from.
            InputError: the video is shorter than the clip, or these are not the passes.
        """
        return verify(
            self,
            model,
            frames=frames,
            seed=seed,
            passes=self._passes if passes is None else passes,
            recurrences=self._recurrences if recurrences is None else recurrences,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network as it is, weights included, to one file, which ``co3d_compile.load`` reads.

        Raises:
            ArtifactError: the file cannot be written.
        """
        write_artifact(path, self.plan, self.weights, self.report.to_dict(), self.operations)
