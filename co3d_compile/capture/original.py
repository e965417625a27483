"""What a user calls the model: a module, or a program of ``torch.export``."""

from __future__ import annotations

from torch import nn
from torch.export import ExportedProgram

from co3d_compile.errors import InputError

Original = nn.Module | ExportedProgram


def require_model(given: object) -> None:
    """Refuse what is none.

    Raises:
        InputError: it is none.
    """
    if not isinstance(given, Original):
        kind = f"the class {given.__name__}" if isinstance(given, type) else f"an object of type {type(given).__name__}"
        raise InputError(
            f"the model is {kind}\n  try: the nn.Module itself, its weights in it, or a program of torch.export"
        )
