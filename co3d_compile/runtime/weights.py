"""The original's weights as a module tree, so that ``state_dict`` keeps its keys."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping

import torch
from torch import Tensor, nn


class Weights(nn.Module):
    """Tensors under their dotted names.

    Args:
        tensors: by name; copied. Names of one tensor (tied weights) stay names of one tensor.
        trainable: names of parameters; the others are buffers.
        kept: names that belong into ``state_dict``; other buffers are not persistent.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, trainable: frozenset[str], kept: frozenset[str]) -> None:
        super().__init__()
        trained = {storage_key(tensors[name]) for name in trainable if name in tensors}
        copies: dict[Hashable, Tensor] = {}
        for name, tensor in tensors.items():
            key = storage_key(tensor)
            if key not in copies:
                copies[key] = _own(tensor, trained=key in trained)
            self._place(name, copies[key], kept=name in kept or name in trainable)

    def _place(self, name: str, tensor: Tensor, *, kept: bool) -> None:
        *places, leaf = name.split(".")
        owner = self._owner(places)
        if isinstance(tensor, nn.Parameter) and kept:
            owner._parameters[leaf] = tensor
        else:
            owner.register_buffer(leaf, tensor, persistent=kept)

    def find(self, name: str) -> Tensor:
        """The tensor under a dotted name."""
        *places, leaf = name.split(".")
        owner = self._owner(places)
        tensor = owner._parameters.get(leaf)
        found = owner._buffers[leaf] if tensor is None else tensor
        assert found is not None
        return found

    @property
    def dtype(self) -> torch.dtype:
        """Of the first floating tensor: the dtype that the network computes in."""
        found = (tensor.dtype for _, tensor in self.named() if tensor.is_floating_point())
        return next(found, torch.float32)

    @property
    def devices(self) -> frozenset[torch.device]:
        return frozenset(tensor.device for _, tensor in self.named())

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """All tensors, tied ones under each name, in an order that gives an equal tree back."""
        for prefix, module in self.named_modules():
            for leaf, tensor in (*module._parameters.items(), *module._buffers.items()):
                assert tensor is not None
                yield f"{prefix}.{leaf}" if prefix else leaf, tensor

    def _owner(self, places: list[str]) -> nn.Module:
        owner: nn.Module = self
        for place in places:
            # _modules, not add_module: a model may use names that nn.Module has itself
            found = owner._modules.get(place)
            if found is None:
                found = owner._modules[place] = nn.Module()
            owner = found
        return owner


def _own(tensor: Tensor, *, trained: bool) -> Tensor:
    # a server may load under inference_mode; what is made there can be neither trained nor seen to change
    with torch.inference_mode(False):
        copy = tensor.detach().clone()
        return nn.Parameter(copy, requires_grad=copy.is_floating_point()) if trained else copy


def storage_key(tensor: Tensor) -> Hashable:
    """Equal for two tensors that are one in memory."""
    if not tensor.data_ptr():
        return id(tensor)
    return tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
