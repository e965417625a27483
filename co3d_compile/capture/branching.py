"""Control flow that depends on the values in the video: where it stands, and what to do about it."""

from __future__ import annotations

import linecache
import re
import traceback
from pathlib import Path

import torch
from torch import nn

from co3d_compile.errors import CaptureError, first_line

SIGNS = ("data-dependent", "DataDependent", "Could not guard", "Could not extract specialized", "local_scalar")

TORCH = str(Path(torch.__file__).parent)


def is_branching(refusal: Exception) -> bool:
    """torch gave up because a value in the video decides."""
    return any(sign in f"{type(refusal).__name__} {refusal}" for sign in SIGNS)


def branching_error(model: nn.Module, refusal: Exception) -> CaptureError:
    """What to tell of it: module path, line of code, and a way out."""
    path, line, code = _place(model, refusal)
    return CaptureError(
        f"{path or '(top level)'}: its control flow depends on the values in the video\n"
        f"  {line}{code or first_line(refusal)}\n"
        f"  try: {_hint(code)}"
    )


def _place(model: nn.Module, refusal: Exception) -> tuple[str, str, str]:
    """The path of the innermost module that was running, the file and line of its code, and what stands there."""
    names = {module: name for name, module in model.named_modules()}
    inside, path, line, code = False, "", "", ""
    for frame, number in traceback.walk_tb(refusal.__traceback__):
        running, file = frame.f_locals.get("self"), frame.f_code.co_filename
        if isinstance(running, nn.Module) and running in names:
            inside, path = True, names[running]
        elif not inside or file.startswith(TORCH):
            continue
        line, code = f"{file}:{number}: ", linecache.getline(file, number).strip()
    return path, line, code


def _hint(code: str) -> str:
    if re.search(r"\bassert\b", code):
        return "leave the assertion out, or run python -O, which does"
    return (
        "compute both branches and select with torch.where, or make the part that branches an operator of your own "
        "(docs/policies.md, Whole windows)"
    )
