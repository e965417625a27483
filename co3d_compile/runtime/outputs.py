"""What comes out, put back into the original's structure."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from co3d_compile.layout import Layout
from co3d_compile.plan.plan import Plan, Value
from co3d_compile.runtime.elements import at_full_size, joined_elements
from co3d_compile.runtime.runner import Lookup
from co3d_compile.runtime.state import Emitted


class OutputStructure:
    """The original's output structure around the elements that are due."""

    def __init__(self, plan: Plan) -> None:
        self._structure = plan.structure
        self._layouts = {name: plan.values[name].layout for node in plan.statics for name in node.outputs}
        self._values = [plan.values[output.value] for output in plan.outputs]

    def of_tick(self, emitted: list[Emitted], batch: int, constants: Lookup) -> Any:
        """One tick's outputs, with those that are fixed; None where nothing is due."""
        leaves = [self._due(value, came, batch) for value, came in zip(self._values, emitted, strict=True)]
        if all(leaf is None for leaf in leaves):
            return None
        return self._structure.filled(leaves, self._fixed(constants))

    def of_video(self, emitted: list[Emitted], batch: int, constants: Lookup) -> Any:
        """All outputs of a video: along time, collapsed ones stacked on a new axis 1."""
        leaves = [self._all(value, came, batch) for value, came in zip(self._values, emitted, strict=True)]
        return self._structure.filled(leaves, self._fixed(constants))

    def _fixed(self, constants: Lookup) -> Lookup:
        """Finds a fixed output, as the original has it."""

        def find(name: str) -> Tensor:
            layout = self._layouts.get(name)
            return constants(name) if layout is None else constants(name).expand(layout.shape)

        return find

    def _due(self, value: Value, came: Emitted, batch: int) -> Tensor | None:
        if not came:
            return None
        elements = [at_full_size(element, value.layout, batch) for _, element in came]
        if not value.has_time:
            return elements[0] if len(elements) == 1 else torch.stack(elements, _stacking_axis(value.layout))
        return joined_elements(elements, value.layout, batch)

    def _all(self, value: Value, came: Emitted, batch: int) -> Tensor:
        elements = [at_full_size(element, value.layout, batch) for _, element in came]
        if value.has_time:
            empty = torch.empty(value.layout.solid().running_shape(0, batch), dtype=value.dtype)
            return joined_elements(elements, value.layout, batch) if elements else empty
        axis = _stacking_axis(value.layout)
        if elements:
            return torch.stack(elements, axis)
        shape = list(value.layout.solid().running_shape(1, batch))
        return torch.empty([*shape[:axis], 0, *shape[axis:]], dtype=value.dtype)


def _stacking_axis(layout: Layout) -> int:
    return min(1, layout.rank)
