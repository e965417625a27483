"""Weights as safetensors, and what safetensors cannot say of them."""

from __future__ import annotations

from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from co3d_compile.errors import ArtifactError
from co3d_compile.runtime.weights import Weights, storage_key


def encode_weights(weights: Weights) -> tuple[bytes, dict[str, Any]]:
    """Every tensor once, and which names are parameters, trained, kept in ``state_dict``, or a second name."""
    parameters = dict(weights.named_parameters(remove_duplicate=False))
    named = dict(weights.named())
    first: dict[object, str] = {}
    for name, tensor in named.items():
        first.setdefault(storage_key(tensor), name)
    same = {name: first[storage_key(tensor)] for name, tensor in named.items() if first[storage_key(tensor)] != name}
    tensors = {name: _plain(tensor) for name, tensor in named.items() if name not in same}
    described = {
        "names": list(named),
        "parameters": list(parameters),
        "trained": [name for name, parameter in parameters.items() if parameter.requires_grad],
        "kept": list(weights.state_dict()),
        "same": same,
    }
    return safetensors.torch.save(tensors), described


def decode_weights(content: bytes, described: Any) -> Weights:
    """The weights that were encoded, on the CPU.

    Raises:
        SafetensorError: the content is not safetensors.
        ArtifactError: the description does not belong to it.
    """
    tensors = safetensors.torch.load(content)
    names, parameters, trained, kept = (_names(described, key) for key in ("names", "parameters", "trained", "kept"))
    same = described.get("same")
    if not isinstance(same, dict) or not all(same.get(name, name) in tensors for name in names):
        raise _foreign("names")
    weights = Weights(
        {name: tensors[same.get(name, name)] for name in names},
        trainable=frozenset(parameters),
        kept=frozenset(kept),
    )
    for name, parameter in weights.named_parameters(remove_duplicate=False):
        parameter.requires_grad_(name in trained)
    return weights


def _plain(tensor: Tensor) -> Tensor:
    """In row-major order, in memory of its own, on the CPU: all that safetensors writes."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _names(described: Any, key: str) -> list[str]:
    found = described.get(key) if isinstance(described, dict) else None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise _foreign(key)
    return found


def _foreign(key: str) -> ArtifactError:
    return ArtifactError(f"the weights' {key} do not belong to their tensors\n  try: compile the model again")
