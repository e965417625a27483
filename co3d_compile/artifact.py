"""The compiled file, ``cont.pt``: a zip of data that is read without running anything of the model's.

plan.json             what runs (co3d_compile.plan.encoding)
weights.safetensors   every tensor once, under its original name
weights.json          which are parameters, which are kept in state_dict, which are another's under a second name
report.json           the report, for other programs
meta.json             format and compiler versions, and a SHA-256 of each file above
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError

from co3d_compile.errors import ArtifactError
from co3d_compile.files import replacing
from co3d_compile.ops.table import BUILT_IN, OperationTable
from co3d_compile.plan.encoding import PLAN_FILE, decode_plan, encode_plan
from co3d_compile.plan.plan import Plan
from co3d_compile.runtime.weight_files import decode_weights, encode_weights
from co3d_compile.runtime.weights import Weights

FORMAT = 1
WEIGHTS, TENSORS, REPORT, META = "weights.json", "weights.safetensors", "report.json", "meta.json"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""One network gives one file, byte for byte, whenever it is written (the earliest time that a zip can hold)."""


def write_artifact(
    path: str | os.PathLike[str],
    plan: Plan,
    weights: Weights,
    report: Mapping[str, Any],
    operations: OperationTable = BUILT_IN,
) -> None:
    """Write a compiled file, whole or not at all.

    Raises:
        ArtifactError: the folder cannot be written to, or the network holds what a file cannot.
    """
    tensors, described = encode_weights(weights)
    members = {
        PLAN_FILE: _json(encode_plan(plan, operations)),
        WEIGHTS: _json(described),
        TENSORS: tensors,
        REPORT: _json(report),
    }
    members[META] = _json(_meta(members))
    try:
        with replacing(path) as file:
            _write_members(file, members)
    except OSError as failure:
        raise ArtifactError(
            f"{path}: cannot be written: {failure.strerror or failure}\n  try: a folder that exists and has room"
        ) from failure


def is_artifact(path: str | os.PathLike[str]) -> bool:
    """The file is a compiled one, whole or not."""
    try:
        with zipfile.ZipFile(path) as archive:
            return PLAN_FILE in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def require_writable(path: str | os.PathLike[str]) -> None:
    """Find out before the long work that its result has no place to go.

    Raises:
        ArtifactError: the path is a folder, or lies in none that can be written to.
    """
    folder = Path(path).absolute().parent
    if Path(path).is_dir() or not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ArtifactError(f"{path}: cannot be written\n  try: a file in a folder that exists and may be written to")


def read_artifact(path: str | os.PathLike[str], operations: OperationTable = BUILT_IN) -> tuple[Plan, Weights]:
    """The plan and weights of a compiled file.

    Raises:
        ArtifactError: there is no such file, it is damaged, truncated, not one of ours, or of a later format, or it was
            compiled with rules that are not in the table.
    """
    members = _checked(path, _read_members(path))
    plan = decode_plan(_parsed(path, members[PLAN_FILE]), operations)
    try:
        weights = decode_weights(members[TENSORS], _parsed(path, members[WEIGHTS]))
    except SafetensorError as failure:
        raise _damaged(path, f"its weights cannot be read ({failure})") from failure
    return plan, weights


def compiler_version() -> str:
    try:
        return version("co3d-compile")
    except PackageNotFoundError:
        return "checkout"


def _meta(members: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "compiler": compiler_version(),
        "torch": torch.__version__,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in members.items()},
    }


def _json(value: object) -> bytes:
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode()


def _write_members(file: BinaryIO, members: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            packed = zipfile.ZIP_STORED if name == TENSORS else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name, EPOCH), content, compress_type=packed)


def _read_members(path: str | os.PathLike[str]) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(path) as archive:
            if META not in archive.namelist():
                raise ArtifactError(
                    f"{path}: not a compiled file: it holds no {META}\n  try: a file that co3d-compile wrote"
                )
            return {name: archive.read(name) for name in archive.namelist()}
    except FileNotFoundError as failure:
        raise ArtifactError(f"{path}: no such file\n  try: a file that co3d-compile wrote") from failure
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as failure:
        raise _damaged(path, f"it is no whole zip ({failure})") from failure
    except OSError as failure:
        raise ArtifactError(
            f"{path}: cannot be read: {failure.strerror or failure}\n  try: a file that co3d-compile wrote"
        ) from failure


def _checked(path: str | os.PathLike[str], members: dict[str, bytes]) -> dict[str, bytes]:
    meta = _parsed(path, members[META])
    found = meta.get("format") if isinstance(meta, dict) else None
    if not isinstance(found, int) or found < 1:
        raise _damaged(path, "it does not say which format it has")
    if found > FORMAT:
        raise ArtifactError(
            f"{path}: written in format {found}, by version {meta.get('compiler')}; this is version "
            f"{compiler_version()}, which reads up to format {FORMAT}\n"
            "  try: a later co3d-compile, or compile the model again with this one"
        )
    sums = meta.get("sha256")
    if not isinstance(sums, dict):
        raise _damaged(path, "it has no checksums")
    for name in (PLAN_FILE, WEIGHTS, TENSORS, REPORT):
        if name not in members:
            raise _damaged(path, f"{name} is missing")
        if hashlib.sha256(members[name]).hexdigest() != sums.get(name):
            raise _damaged(path, f"{name} does not match its checksum")
    return members


def _parsed(path: str | os.PathLike[str], content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError as failure:
        raise _damaged(path, f"it holds JSON that cannot be read ({failure})") from failure


def _damaged(path: str | os.PathLike[str], reason: str) -> ArtifactError:
    return ArtifactError(f"{path}: the file is damaged: {reason}\n  try: copy it again, or compile the model again")
