"""Watch a model's calls of torch operators, keep some results, put others in their place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Replacement = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
"""From operator and arguments to the result that takes the place of its own."""


class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the calls of one run of a model.

    Args:
        note: told of each call's number, operator and first output tensor, while it holds that call's values.
        replacements: by number of the call.
        expected: the operators of a former run; the watch ends where this run leaves that path.

    Attributes:
        operators: names of the operators called, in order.
        literals: of each call, its arguments without tensors.
        views: numbers of the calls that give a part of other memory, which the model may go on to write to.
        astray: the run has left the expected path.
    """

    def __init__(
        self,
        note: Callable[[int, str, Tensor], None],
        replacements: Mapping[int, Replacement] | None = None,
        expected: list[str] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._note = note
        self._replacements = replacements or {}
        self._expected = expected
        self.astray = False
        self.operators: list[str] = []
        self.literals: list[tuple[Any, ...]] = []
        self.views: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        number, name = len(self.operators), str(func)
        self.operators.append(name)
        if is_view(func) and not writes_in_place(func):
            self.views.add(number)
        self.literals.append(tuple(value for value in args if not _holds_tensors(value)))
        if self._expected is not None and (number >= len(self._expected) or self._expected[number] != name):
            self.astray = True
        replacement = None if self.astray else self._replacements.get(number)
        result = func(*args, **(kwargs or {})) if replacement is None else replacement(func, args, kwargs or {})
        first = result[0] if isinstance(result, (tuple, list)) and result else result
        if isinstance(first, Tensor) and not self.astray:
            self._note(number, name, first)
        return result


def _holds_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, (list, tuple)) and any(map(_holds_tensors, value)))


def writes_in_place(func: Any) -> bool:
    """The operator changes its first argument and returns it."""
    arguments = func._schema.arguments
    return bool(arguments) and arguments[0].alias_info is not None and arguments[0].alias_info.is_write


def is_view(func: Any) -> bool:
    """The operator returns a part or another shape of its first argument's memory."""
    returns = func._schema.returns
    return len(returns) == 1 and returns[0].alias_info is not None


def laid_out_like(view: Tensor, result: Tensor) -> Tensor:
    """The result with the strides of the view: a model that asks for contiguous memory must copy it, as it did."""
    if view.shape != result.shape or 0 in view.stride():
        return result
    return torch.empty_strided(view.shape, view.stride(), dtype=result.dtype, device=result.device).copy_(result)


def put_in_place(func: Any, args: tuple[Any, ...], result: Tensor, *, since_start: bool = False) -> Any:
    """The result as the operator would have returned it: written into its first argument if that is what it does.

    Args:
        since_start: the operator sees all frames since the start of the video, so that its other results, such as
            the last states of a recurrent layer, are those of the video.
    """
    if writes_in_place(func):
        if torch.Tag.inplace_view in func.tags:
            func(*args)  # its argument has the result's shape only then
        return args[0].copy_(result)
    if is_view(func):
        return laid_out_like(func(*args), result)
    if len(func._schema.returns) == 1:
        return result
    others = func(*args)[1:]
    return (result, *others) if since_start else (result, *[_unknown(other) for other in others])


def _unknown(other: Any) -> Any:
    """In the place of a result that the video may have otherwise: nothing that is made of it can agree."""
    floating = isinstance(other, Tensor) and other.is_floating_point()
    return torch.full_like(other, torch.nan) if floating else torch.empty(0)


def fingerprint(tensor: Tensor) -> tuple[tuple[int, ...], torch.dtype, tuple[float, ...]]:
    """Shape, dtype and a few sums that tell tensors apart."""
    values = tensor.detach().double().flatten()
    ramp = torch.linspace(0.5, 1.5, max(1, values.numel()), dtype=torch.float64, device=values.device)
    sums = (values.sum().item(), values.abs().sum().item(), (values * ramp[: values.numel()]).sum().item())
    return tuple(tensor.shape), tensor.dtype, sums
