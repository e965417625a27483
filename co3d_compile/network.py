"""The compiled network that a user holds."""

from __future__ import annotations

import os
from functools import cached_property

from co3d_compile.artifact import write_artifact
from co3d_compile.report.build import build_report
from co3d_compile.report.data import Report
from co3d_compile.runtime.module import StreamingModule


class Network(StreamingModule):
    """A continual network: ``step``, ``stream``, ``forward``, and what is known of it."""

    @cached_property
    def report(self) -> Report:
        """Delay, receptive field, exactness, state and multiply-accumulates, per output, in total and per layer."""
        return build_report(self.plan, [self.weights.find(name) for name in self.plan.weights])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network as it is, weights included, to one file, which ``co3d_compile.load`` reads.

        Raises:
            ArtifactError: the file cannot be written.
        """
        write_artifact(path, self.plan, self.weights, self.report.to_dict())
