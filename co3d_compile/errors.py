"""Every error that co3d-compile raises.

    Co3dError
    |-- InputError             what was given cannot be used
    |   |-- ModelFileError     a model file is missing, damaged, not a model, or not trusted
    |   |-- CaptureError       the model cannot be captured as a graph, or the graph is not the model
    |   |-- UnsupportedError   operations that cannot be streamed (all of them, in one error)
    |   |-- RateError          branches that run at different strides meet
    |   |-- ApproximationError ``strict`` was asked for, and something is only approximate
    |   |-- FrameError         a frame or video of the wrong shape, dtype or number
    |   |-- StateError         a state of another network, or a stream used after its end
    |   |-- ExtensionError     a rule or a pass of one's own, or of an installed package, cannot be used
    |   `-- ArtifactError      a compiled file is damaged, or newer than this version
    |-- VerificationError      the compiled network's numbers differ from the original's
    `-- InternalError          our own bug

A message has three parts: where (the module path), why (with the numbers that decide), what to do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


class Co3dError(Exception):
    """The root of the tree; catch it to catch everything of ours."""


class InputError(Co3dError):
    """What was given cannot be used."""


class ModelFileError(InputError):
    """A model file is missing, damaged, not a model, or not trusted."""


class CaptureError(InputError):
    """The model cannot be captured as a graph, or the captured graph does not compute what the model does."""


class RateError(InputError):
    """Branches that run at different strides meet."""


class ApproximationError(InputError):
    """An exact network was asked for, and something is only approximate."""


class FrameError(InputError):
    """A frame or video has the wrong shape, dtype or number of tensors."""


class StateError(InputError):
    """A state belongs to another network, or a stream is used after its end."""


class ExtensionError(InputError):
    """A rule or a pass of one's own, or of an installed package, cannot be used."""


class ArtifactError(InputError):
    """A compiled file is damaged, truncated, or newer than this version reads."""


class VerificationError(Co3dError):
    """The compiled network's numbers differ from the original's."""


class InternalError(Co3dError):
    """Our own bug."""


@dataclass(frozen=True)
class Refusal:
    """Why one node cannot be streamed."""

    path: str
    operation: str
    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.path or '(top level)'}: {self.operation}: {self.reason}\n    try: {self.hint}"


class UnsupportedError(InputError):
    """Operations that cannot be streamed.

    Attributes:
        refusals: one per node, sorted by reason, then by where they stand in the model.

    Args:
        remark: what else there is to say of them together.
    """

    def __init__(self, refusals: Sequence[Refusal], remark: str = "") -> None:
        self.refusals = tuple(sorted(refusals, key=lambda r: (r.operation, r.reason)))
        kinds = Counter(refusal.operation for refusal in self.refusals)
        counted = ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
        lines = [f"{len(self.refusals)} operation(s) cannot be streamed: {counted}"]
        lines += [*(str(refusal) for refusal in self.refusals), *([remark] if remark else [])]
        super().__init__("\n  ".join(lines))


def first_line(failure: Exception) -> str:
    """What a failure says first; of one that says nothing its type."""
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    return lines[0] if lines else type(failure).__name__
