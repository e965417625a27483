"""The original's weights as a module tree, so that ``state_dict`` keeps its keys."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


class Weights(nn.Module):
    """Tensors under their dotted names.

    Args:
        tensors: by name; copied.
        trainable: names of parameters; the others are buffers.
        kept: names that belong into ``state_dict``; other buffers are not persistent.
    """

    def __init__(self, tensors: Mapping[str, Tensor], *, trainable: frozenset[str], kept: frozenset[str]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            *places, leaf = name.split(".")
            owner = self._owner(places)
            copy = tensor.detach().clone()
            if name in trainable:
                owner._parameters[leaf] = nn.Parameter(copy, requires_grad=copy.is_floating_point())
            else:
                owner.register_buffer(leaf, copy, persistent=name in kept)

    def find(self, name: str) -> Tensor:
        """The tensor under a dotted name."""
        *places, leaf = name.split(".")
        owner = self._owner(places)
        tensor = owner._parameters.get(leaf)
        found = owner._buffers[leaf] if tensor is None else tensor
        assert found is not None
        return found

    def _owner(self, places: list[str]) -> nn.Module:
        owner: nn.Module = self
        for place in places:
            # _modules, not add_module: a model may use names that nn.Module has itself
            found = owner._modules.get(place)
            if found is None:
                found = owner._modules[place] = nn.Module()
            owner = found
        return owner

    @property
    def version(self) -> int:
        """Grows when any tensor is written to."""
        return sum(tensor._version for tensor in (*self.parameters(), *self.buffers()))
