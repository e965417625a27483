"""The compiled network that a user holds."""

from __future__ import annotations

import os

from co3d_compile.artifact import write_artifact
from co3d_compile.report.build import build_report
from co3d_compile.report.data import Report
from co3d_compile.runtime.module import StreamingModule
from co3d_compile.verification.result import Verification
from co3d_compile.verification.verify import Original, verify


class Network(StreamingModule):
    """A continual network: ``step``, ``stream``, ``forward``, and what is known of it."""

    @property
    def report(self) -> Report:
        """Delay, receptive field, exactness, state and multiply-accumulates, per output, in total and per layer."""
        return build_report(self.plan, [self.weights.find(name) for name in self.plan.weights])

    def verify(self, model: Original, *, frames: int | None = None, seed: int = 0) -> Verification:
        """Compare with the original, element by element, on a random video from its first frame through its end.

        Args:
            model: the original; it is not changed.
            frames: length of the video; None: the clip, two periods of the network, and one frame more unless time
                is cut into pieces or made longer, which originals do with videos of whole periods.

        Raises:
            VerificationError: the model is not the one that this network was compiled from.
            InputError: the video is shorter than the clip.
        """
        return verify(self, model, frames=frames, seed=seed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network as it is, weights included, to one file, which ``co3d_compile.load`` reads.

        Raises:
            ArtifactError: the file cannot be written.
        """
        write_artifact(path, self.plan, self.weights, self.report.to_dict(), self.operations)
