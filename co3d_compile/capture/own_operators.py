"""Operators of one's own in a model file: torch reads the file only where they are defined."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

from co3d_compile.errors import ModelFileError
from co3d_compile.ops.operation import overload
from co3d_compile.ops.table import table_with

CALLED = re.compile(rb"\bops\.(\w+)\.(\w+)(?:\.(\w+))?")
"""As ``torch.export`` (torch.ops.aten.relu.default) and TorchScript (ops.torchvision.nms) write calls."""


def define_operators(path: Path) -> None:
    """Import the installed packages that bring rules for operators which the file calls and torch does not know.

    Raises:
        ExtensionError: one of these rules cannot be used.
    """
    table_with(()).only(_undefined(path))


def require_operators(path: Path) -> None:
    """Refuse a file that calls operators which no one here defines.

    Raises:
        ModelFileError: names them.
    """
    unknown = _undefined(path)
    if unknown:
        raise ModelFileError(
            f"{path}: the model calls {', '.join(unknown)}, which no one here defines\n"
            "  try: install the package that defines it and its rule, or name the rule: --ops package.module:Rule"
        )


def _undefined(path: Path) -> list[str]:
    """The targets that the file's text names and torch does not know."""
    try:
        with zipfile.ZipFile(path) as archive:
            texts = [archive.read(name) for name in archive.namelist() if name.endswith((".json", ".py"))]
    except zipfile.BadZipFile:
        return []  # whoever reads the model says what is damaged
    called = {_target(*found) for text in texts for found in CALLED.findall(text)}
    return sorted(target for target in called if not _is_defined(target))


def _target(namespace: bytes, name: bytes, variant: bytes) -> str:
    return f"{namespace.decode()}.{name.decode()}.{variant.decode() or 'default'}"


def _is_defined(target: str) -> bool:
    try:
        overload(target)
    except AttributeError:
        return False
    return True
