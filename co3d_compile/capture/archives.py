"""What a ``torch.export`` archive holds besides data: ``torch.export.load`` would unpickle or evaluate it."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from typing import Any

import torch

from co3d_compile.capture.export import quiet

SIZE = re.compile(r"[\w\s(),='+\-*/<>]*")
SIZE_WORDS = re.compile(
    r"[su]\d+|\d+|Symbol|Integer|Rational|Add|Mul|Pow|Max|Min|Mod|FloorDiv|CeilDiv|CleanDiv|PythonMod"
    r"|positive|nonnegative|integer|True|False"
)


def code_in_archive(archive: zipfile.ZipFile) -> str:
    """What would run when the archive is loaded, or empty."""
    for name in archive.namelist():
        if name.endswith(".pt") and not _is_plain(archive.read(name)):
            return f"{name} holds pickled objects"
        if name.endswith(".json"):
            found = next(_code_in(json.loads(archive.read(name))), "")
            if found:
                return f"{name}: {found}"
    return ""


def _is_plain(content: bytes) -> bool:
    try:
        with quiet():
            torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        return not content
    return True


def _code_in(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, entry in value.items():
                yield from _code_under(key, entry)
                yield from _code_in(entry)
        case list():
            for entry in value:
                yield from _code_in(entry)


def _code_under(key: str, entry: Any) -> Iterator[str]:
    match key, entry:
        case "use_pickle", True:
            yield "a pickled tensor"
        case "path_name", str(name) if name.startswith(("custom_obj", "opaque_obj")):
            yield f"a pickled object {name}"
        case "expr_str", str(text) if not _is_size(text):
            yield f"{text!r} is no size"
        case "target", str(name) if name.startswith("torch") and not name.startswith(("torch.ops.", "torch.sym_")):
            yield f"a call of {name}"
        case "guards_code", [first, *_]:
            yield f"a guard {first!r}"


def _is_size(text: str) -> bool:
    """Arithmetic on sizes and nothing else: torch evaluates this text."""
    return bool(SIZE.fullmatch(text)) and all(SIZE_WORDS.fullmatch(word) for word in re.findall(r"\w+", text))
