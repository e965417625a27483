"""Layouts follow time and the batch through reshapes as torch moves the values."""

from __future__ import annotations

from math import prod

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from co3d_compile.layout import Layout, Mark, SplitError, Spread

TIME, BATCH = Mark.TIME, Mark.BATCH


def clip(time: int = 5, batch: int = 2) -> Layout:
    """``(N, C, T, H, W)``."""
    return Layout(((BATCH,), (3,), (TIME,), (4,), (6,)), time, batch)


def numbers(layout: Layout, mark: Mark) -> torch.Tensor:
    """At every place of the clip, the number of its element or stream."""
    count = layout.time if mark is TIME else layout.batch
    outer, _, inner = layout.around(mark, layout.time, layout.batch)
    dim = layout.dim_of(mark)
    assert dim is not None
    line = torch.arange(count).repeat_interleave(inner).repeat(outer)
    shape = [1] * layout.rank
    shape[dim] = -1
    return line.reshape(shape).expand(layout.shape)


@given(st.permutations(range(5)), st.data())
def test_regrouping_moves_the_marks_as_a_reshape_moves_values(order: list[int], data: st.DataObject) -> None:
    permuted = clip().with_dims([clip().dims[place] for place in order])
    total = prod(permuted.shape)
    sizes: list[int] = []
    while prod(sizes) < total:
        left = total // prod(sizes)
        sizes.append(data.draw(st.sampled_from([size for size in range(1, left + 1) if left % size == 0])))
        assume(len(sizes) < 8)
    try:
        regrouped = permuted.regroup(sizes)
    except SplitError:
        return

    assert list(regrouped.shape) == sizes
    for mark in Mark:
        assert torch.equal(numbers(permuted, mark).reshape(sizes), numbers(regrouped, mark))


def test_time_folds_into_the_batch_and_comes_back() -> None:
    frames = Layout(((BATCH,), (TIME,), (3,), (4,)), 5, 2)
    folded = frames.regroup((10, 3, 4))

    assert folded.dims == ((BATCH, TIME), (3,), (4,))
    assert folded.running_shape(7, 4) == (28, 3, 4)
    assert folded.around(TIME, 7, 4) == (4, 7, 1)
    assert folded.regroup((2, 5, 3, 4)) == frames


def test_even_time_is_halved_by_those_who_ask_for_pairs() -> None:
    with pytest.raises(SplitError, match="time of size 8 is cut into pieces of 4") as split:
        clip(time=8).regroup((2, 3, 4, 2, 4, 6))

    paired = clip(time=8).paired(split.value.pieces)
    assert paired.regroup((2, 3, 4, 2, 4, 6)).dims == ((BATCH,), (3,), (TIME,), (2,), (4,), (6,))
    assert paired.time == 4


def test_time_in_other_pieces_is_not_cut() -> None:
    with pytest.raises(SplitError, match="time of size 8 is cut into pieces of 5") as split:
        clip(time=8).regroup((2, 3, 5, -1))

    assert split.value.pieces == 1


def test_what_lies_inside_time_becomes_part_of_it() -> None:
    folded = Layout(((BATCH,), (3,), (TIME, 2), (4,)), 5, 2)

    assert folded.burst == 2
    assert folded.unfolded() == Layout(((BATCH,), (3,), (TIME,), (4,)), 10, 2)
    assert folded.unfolded().burst == clip().burst == 1


def test_a_spread_dimension_runs_at_size_one() -> None:
    layout = Layout(((BATCH,), (Spread(4),), (TIME,)), 5, 2)

    assert layout.shape == (2, 4, 5)
    assert layout.running_shape(3, 7) == (7, 1, 3)
    assert layout.solid().running_shape(3, 7) == (7, 4, 3)
