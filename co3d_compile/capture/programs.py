"""Models that come as programs: ``torch.export`` programs and TorchScript, made ready for one clip."""

from __future__ import annotations

import torch
from torch import Tensor, fx
from torch._export.converter import TS2EPConverter
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from co3d_compile.capture.clip import Clip
from co3d_compile.capture.export import evaluating, hushed, quiet
from co3d_compile.errors import CaptureError

ModelProgram = ExportedProgram | torch.jit.ScriptModule


def exported_for(model: ModelProgram, clip: Clip) -> ExportedProgram:
    """The model as a ``torch.export`` program of the clip's very shape.

    Raises:
        CaptureError: the program was exported for another shape, or cannot be converted.
    """
    try:
        exported = _converted(model, clip) if isinstance(model, torch.jit.ScriptModule) else model
        if _has_open_sizes(exported):
            with quiet():
                return torch.export.export(exported.module(), _arguments(clip), strict=False)
    except Exception as failure:  # torch's converter and tracer raise whatever they meet
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in clip.tensors)
        raise CaptureError(
            f"the file's model fails on a clip of shape {shapes}: {_last_line(failure)}\n"
            "  try: the clip as the model takes it, or the model's source in place of the file"
        ) from failure
    _require_shapes(exported, clip.tensors)
    return exported


def _converted(model: torch.jit.ScriptModule, clip: Clip) -> ExportedProgram:
    # the converter asks for open sizes that it then closes, and logs each
    with evaluating(model), quiet(), hushed("torch._export.non_strict_utils"):
        return TS2EPConverter(model, _arguments(clip), None).convert()


def _arguments(clip: Clip) -> tuple[Tensor | list[Tensor], ...]:
    return clip.with_tensors(clip.tensors).arguments


def _has_open_sizes(exported: ExportedProgram) -> bool:
    return any(isinstance(size, torch.SymInt) for node in _inputs(exported) for size in node.meta["val"].shape)


def _require_shapes(exported: ExportedProgram, tensors: list[Tensor]) -> None:
    for node, tensor in zip(_inputs(exported), tensors, strict=False):
        wanted = tuple(node.meta["val"].shape)
        if wanted != tuple(tensor.shape):
            raise CaptureError(
                f"{node.name}: the clip has shape {tuple(tensor.shape)}, the program was exported for {wanted}\n"
                "  try: a clip of that shape, or export the model again for yours"
            )


def _inputs(exported: ExportedProgram) -> list[fx.Node]:
    places = [node for node in exported.graph.nodes if node.op == "placeholder"]
    specs = exported.graph_signature.input_specs
    return [node for node, spec in zip(places, specs, strict=True) if spec.kind is InputKind.USER_INPUT]


def _last_line(failure: Exception) -> str:
    """TorchScript's errors begin with a traceback and end with what went wrong."""
    lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
    return lines[-1] if lines else type(failure).__name__
