"""Where time and the batch sit in a tensor's shape, also when they are folded with other axes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from math import prod


class Mark(Enum):
    """A factor of a dimension whose size varies at run time."""

    TIME = "T"
    BATCH = "N"


@dataclass(frozen=True)
class Spread:
    """A dimension of one value repeated ``size`` times, kept at size 1: broadcasting does the rest."""

    size: int


Factor = int | Mark | Spread
Dim = tuple[Factor, ...]


class SplitError(ValueError):
    """A reshape cuts time or the batch into pieces.

    Attributes:
        pieces: elements of time that stay together, where it is time that is cut, evenly; else 1.
    """

    def __init__(self, reason: str, pieces: int = 1) -> None:
        super().__init__(reason)
        self.pieces = pieces


@dataclass(frozen=True)
class Layout:
    """A shape as factors: ``(N*T, C, H, W)`` is ``((BATCH, TIME), (C,), (H,), (W,))``.

    Attributes:
        dims: per dimension its factors, outermost first.
        time: elements along time in the example clip.
        batch: streams in the example clip.
    """

    dims: tuple[Dim, ...]
    time: int
    batch: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", tuple(_merged(dim) for dim in self.dims))

    @property
    def rank(self) -> int:
        return len(self.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape in the example clip."""
        return tuple(prod(self.size(factor) for factor in dim) for dim in self.dims)

    @property
    def time_dim(self) -> int | None:
        return self.dim_of(Mark.TIME)

    @property
    def batch_dim(self) -> int | None:
        return self.dim_of(Mark.BATCH)

    @property
    def time_is_plain(self) -> bool:
        """Time has a dimension of its own."""
        return any(dim == (Mark.TIME,) for dim in self.dims)

    def dim_of(self, mark: Mark) -> int | None:
        return next((place for place, dim in enumerate(self.dims) if mark in dim), None)

    def size(self, factor: Factor) -> int:
        match factor:
            case Mark.TIME:
                return self.time
            case Mark.BATCH:
                return self.batch
            case Spread(size):
                return size
            case int():
                return factor

    def running_shape(self, elements: int, batch: int) -> tuple[int, ...]:
        """The shape at run time: so many elements, so many streams, spread dimensions at size 1."""
        return tuple(prod(self._running(factor, elements, batch) for factor in dim) for dim in self.dims)

    def _running(self, factor: Factor, elements: int, batch: int) -> int:
        match factor:
            case Mark.TIME:
                return elements
            case Mark.BATCH:
                return batch
            case Spread():
                return 1
            case int():
                return factor

    def around(self, mark: Mark, elements: int, batch: int) -> tuple[int, int, int]:
        """The dimension that holds ``mark`` at run time, as sizes (outside it, of it, inside it)."""
        dim = self.dim_of(mark)
        assert dim is not None
        sizes = [self._running(factor, elements, batch) for factor in self.dims[dim]]
        place = self.dims[dim].index(mark)
        return prod(sizes[:place]), sizes[place], prod(sizes[place + 1 :])

    def with_dims(self, dims: Sequence[Dim]) -> Layout:
        return Layout(tuple(dims), self.time, self.batch)

    def with_time(self, elements: int) -> Layout:
        """The same layout for another number of elements in the clip."""
        return Layout(self.dims, elements, self.batch)

    @property
    def burst(self) -> int:
        """The size of what is folded into time's dimension right inside time; 1: nothing."""
        dim = self.time_dim
        if dim is None:
            return 1
        inside = self.dims[dim][self.dims[dim].index(Mark.TIME) + 1 :]
        return inside[0] if inside and isinstance(inside[0], int) else 1

    def unfolded(self) -> Layout:
        """The same shape with the burst taken for elements of time."""
        dims = []
        for dim in self.dims:
            place = dim.index(Mark.TIME) if Mark.TIME in dim else len(dim)
            dims.append(dim[: place + 1] + dim[place + 2 :])
        return self.with_dims(dims).with_time(self.time * self.burst)

    def paired(self, pieces: int) -> Layout:
        """The same shape with every ``pieces`` elements of time taken for one."""
        dims: list[Dim] = []
        for dim in self.dims:
            place = dim.index(Mark.TIME) + 1 if Mark.TIME in dim else len(dim)
            dims.append((*dim[:place], pieces, *dim[place:]) if Mark.TIME in dim else dim)
        return self.with_dims(dims).with_time(self.time // pieces)

    def without(self, mark: Mark) -> Layout:
        return self.with_dims([tuple(factor for factor in dim if factor is not mark) for dim in self.dims])

    def solid(self, places: Collection[int] | None = None) -> Layout:
        """Spread dimensions written out: all, or those at ``places``."""
        return self.with_dims(
            [
                tuple(self.size(f) if isinstance(f, Spread) else f for f in dim)
                if places is None or place in places
                else dim
                for place, dim in enumerate(self.dims)
            ]
        )

    def regroup(self, sizes: Sequence[int]) -> Layout:
        """The layout after a reshape to ``sizes`` (row-major order is kept).

        Raises:
            SplitError: time or the batch would be cut into pieces.
        """
        pending = _merged([factor for dim in self.solid().dims for factor in dim])
        dims: list[Dim] = []
        for size in sizes:
            dim, pending = self._take(size, pending)
            dims.append(dim)
        if dims:
            dims[-1] = dims[-1] + pending
        return self.with_dims(dims)

    def _take(self, size: int, pending: Dim) -> tuple[Dim, Dim]:
        """The leading factors that make up ``size``, and the rest. A size of 1 takes one mark of that size."""
        dim: list[Factor] = []
        while pending and (size > 1 or (not dim and isinstance(pending[0], Mark) and self.size(pending[0]) == 1)):
            factor, rest = pending[0], pending[1:]
            have = self.size(factor)
            if size % have == 0:
                dim.append(factor)
                size //= have
                pending = rest
            elif isinstance(factor, int) and have % size == 0:
                dim.append(size)
                pending = (have // size, *rest)
                size = 1
            else:
                pieces = have // size if factor is Mark.TIME and have % size == 0 else 1
                raise SplitError(f"{_name(factor)} of size {have} is cut into pieces of {size}", pieces)
        return tuple(dim), pending


def constant_layout(shape: Sequence[int]) -> Layout:
    """The layout of a tensor that has neither time nor batch."""
    return Layout(tuple((size,) for size in shape), 1, 1)


def _merged(dim: Sequence[Factor]) -> Dim:
    merged: list[Factor] = []
    for factor in dim:
        if factor == 1 and isinstance(factor, int):
            continue
        if merged and isinstance(factor, int) and isinstance(merged[-1], int):
            merged[-1] *= factor
        else:
            merged.append(factor)
    return tuple(merged)


def _name(factor: Factor) -> str:
    return (
        {Mark.TIME: "time", Mark.BATCH: "the batch"}.get(factor, "an axis") if isinstance(factor, Mark) else "an axis"
    )
