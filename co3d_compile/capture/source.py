"""Model files: which kind a file is, told by its content, and the model in it."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.export import ExportedProgram

from co3d_compile.capture.archives import code_in_archive
from co3d_compile.capture.clip import ClipArgument
from co3d_compile.capture.export import quiet
from co3d_compile.capture.factories import build_model, fill_weights
from co3d_compile.capture.own_operators import define_operators, require_operators
from co3d_compile.errors import ModelFileError, first_line
from co3d_compile.plan.encoding import PLAN_FILE

KINDS = (
    "a torch.export archive, TorchScript, or weights together with the model's factory (--model package.module:factory)"
)
NESTED = ("state_dict", "model_state_dict", "model_state", "model")
"""Where training scripts put the weights in a checkpoint that holds more."""


@dataclass(frozen=True)
class LoadedModel:
    """A model from a file.

    Attributes:
        model: a module, a ``torch.export`` program, or TorchScript (which is a module too).
        clip: the example input that the file knows, or None.
        kind: of file, for messages.
    """

    model: nn.Module | ExportedProgram
    clip: ClipArgument | None
    kind: str


def read_model(path: str | os.PathLike[str], *, factory: str | None = None, trust_pickle: bool = False) -> LoadedModel:
    """The model in a file.

    Args:
        factory: ``package.module:factory`` of the model that the file has the weights of.
        trust_pickle: unpickle, which runs whatever code the file's author put into it.

    Raises:
        ModelFileError: there is no such file, it is damaged, no model, not trusted, or does not fit the factory.
    """
    place = Path(path)
    _require_file(place)
    read = _reader(place)
    if factory is not None and read in (_read_exported, _read_torchscript):
        raise ModelFileError(f"{place}: the file holds a whole model, which needs no {factory}\n  try: without --model")
    return read(place, factory, trust_pickle)


Reader = Callable[[Path, str | None, bool], LoadedModel]


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise ModelFileError(f"{path}: a folder, not a model file\n  try: one of {KINDS}")
    if not path.exists():
        raise ModelFileError(f"{path}: no such file\n  try: one of {KINDS}")
    if path.stat().st_size == 0:
        raise ModelFileError(f"{path}: the file is empty\n  try: copy it again")


def _reader(path: Path) -> Reader:
    """By content: file names say little, and every kind is found as .pt."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError as failure:
        raise ModelFileError(
            f"{path}: cannot be read: {failure.strerror}\n  try: a file that you may read"
        ) from failure
    if start.startswith(b"PK"):
        return _zip_reader(path)
    if start[8:9] == b"{":
        return _read_safetensors
    if start.startswith(b"\x80"):
        return _read_pickle
    raise ModelFileError(f"{path}: not a model file\n  try: one of {KINDS}")


def _zip_reader(path: Path) -> Reader:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile as failure:
        raise _damaged(path, failure) from failure
    if PLAN_FILE in names:
        raise ModelFileError(
            f"{path}: compiled already; co3d-compile takes the original model\n  try: co3d-inspect {path}"
        )
    inner = {name.partition("/")[2] for name in names}
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return _read_exported
    if "constants.pkl" in inner:
        return _read_torchscript
    if "data.pkl" in inner:
        return _read_pickle
    raise ModelFileError(f"{path}: a zip, but not a model file\n  try: one of {KINDS}")


def _read_exported(path: Path, factory: str | None, trust_pickle: bool) -> LoadedModel:
    if not trust_pickle:
        _require_data(path)
    define_operators(path)
    try:
        with quiet():
            exported = torch.export.load(path)
    except Exception as failure:  # torch raises whatever a damaged archive leads it to
        require_operators(path)
        raise _damaged(path, failure) from failure
    return LoadedModel(exported, _known_clip(exported), "a torch.export archive")


def _require_data(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            code = code_in_archive(archive)
    except (zipfile.BadZipFile, ValueError) as failure:
        raise _damaged(path, failure) from failure
    if code:
        raise _untrusted(path, code)


def _known_clip(exported: ExportedProgram) -> ClipArgument | None:
    if exported.example_inputs is None:
        return None
    arguments, keywords = exported.example_inputs
    match arguments:
        case _ if keywords:
            return None
        case (Tensor() as one,):
            return one
        case (list() as several,) if all(isinstance(entry, Tensor) for entry in several):
            return list(several)
        case _ if arguments and all(isinstance(entry, Tensor) for entry in arguments):
            return tuple(arguments)
        case _:
            return None


def _read_torchscript(path: Path, factory: str | None, trust_pickle: bool) -> LoadedModel:
    define_operators(path)
    try:
        with quiet():
            model = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as failure:
        if "Unknown builtin op" in str(failure):
            require_operators(path)
        raise _damaged(path, failure) from failure
    return LoadedModel(model, None, "TorchScript")


def _read_safetensors(path: Path, factory: str | None, trust_pickle: bool) -> LoadedModel:
    try:
        weights = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as failure:
        raise _damaged(path, failure) from failure
    return _with_factory(path, weights, factory)


def _read_pickle(path: Path, factory: str | None, trust_pickle: bool) -> LoadedModel:
    content = _unpickled(path, trust_pickle)
    if isinstance(content, nn.Module):
        if factory is not None:
            raise ModelFileError(
                f"{path}: the file holds a whole model, which needs no {factory}\n  try: without --model"
            )
        return LoadedModel(content, None, "a pickled module")
    return _with_factory(path, _weights_in(path, content), factory)


def _unpickled(path: Path, trust_pickle: bool) -> Any:
    try:
        with quiet():
            return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as failure:
        if not trust_pickle:
            raise _untrusted(path, "it holds pickled objects besides tensors") from failure
    except (RuntimeError, EOFError, ValueError) as failure:
        raise _damaged(path, failure) from failure
    try:
        with quiet():
            return torch.load(path, weights_only=False, map_location="cpu")
    except Exception as failure:  # unpickling runs the file's code and imports the model's
        raise ModelFileError(
            f"{path}: cannot be unpickled: {type(failure).__name__}: {first_line(failure)}\n"
            "  try: run where the model's own package can be imported, or give weights and --model"
        ) from failure


def _weights_in(path: Path, content: Any) -> dict[str, Tensor]:
    if isinstance(content, dict):
        nested = (content[name] for name in NESTED if isinstance(content.get(name), dict))
        candidates: list[dict[str, Tensor]] = [content, *nested]
        for candidate in candidates:
            if candidate and all(isinstance(entry, Tensor) for entry in candidate.values()):
                return candidate
    raise ModelFileError(
        f"{path}: holds an object of type {type(content).__name__}, neither a model nor weights\n  try: one of {KINDS}"
    )


def _with_factory(path: Path, weights: Mapping[str, Tensor], factory: str | None) -> LoadedModel:
    if factory is None:
        raise ModelFileError(
            f"{path}: holds {len(weights)} weights and no model to put them into\n"
            "  try: --model package.module:factory, which makes the model"
        )
    model = build_model(factory)
    fill_weights(model, weights, path=str(path), factory=factory)
    return LoadedModel(model, None, "weights")


def _damaged(path: Path, failure: Exception) -> ModelFileError:
    return ModelFileError(f"{path}: the file is damaged or cut short: {first_line(failure)}\n  try: copy it again")


def _untrusted(path: Path, reason: str) -> ModelFileError:
    return ModelFileError(
        f"{path}: {reason}; loading those runs whatever code the file's author put in\n"
        "  try: --trust-pickle if you know where it comes from; else torch.export.save(...), or weights and --model"
    )
