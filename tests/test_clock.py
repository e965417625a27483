"""Clocks, spans, lengths and index maps against counting by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from co3d_compile.clock.periodic import IDENTITY, Periodic, affine, floor_ratio, maximum, minimum
from co3d_compile.clock.timing import (
    SAME,
    Reading,
    input_timing,
    linear_map,
    pad_map,
    repeat_map,
    sliding_map,
    timing_after,
    transposed_map,
    window_map,
)

SOME = range(-30, 60)

periodics = st.builds(
    lambda step, offsets: Periodic(step, tuple(sorted(offset % step for offset in offsets))),
    st.integers(1, 7),
    st.lists(st.integers(0, 40), min_size=1, max_size=5),
)


def test_a_sequence_repeats_up_to_its_step() -> None:
    burst = Periodic(6, (0, 1, 5))

    assert [burst(n) for n in range(-2, 7)] == [-5, -1, 0, 1, 5, 6, 7, 11, 12]


def test_equal_sequences_are_equal() -> None:
    assert Periodic(6, (0, 2, 4)) == affine(2, 0)
    assert Periodic(6, (0, 1, 3, 4)) == Periodic(3, (0, 1))
    assert affine(2, 0).is_affine
    assert Periodic(3, (0, 1)).rate == affine(3, 0).rate / 2


@given(periodics, periodics)
def test_composition_is_composition(outer: Periodic, inner: Periodic) -> None:
    assert [outer.after(inner)(n) for n in SOME] == [outer(inner(n)) for n in SOME]


@given(periodics, st.integers(-20, 40))
def test_the_count_is_the_first_index_beyond(sequence: Periodic, value: int) -> None:
    count = sequence.count_through(value)

    assert sequence(count) > value >= sequence(count - 1)


@given(st.integers(1, 5), st.integers(-9, 9), st.integers(-9, 9))
def test_bounds_are_taken_index_by_index(stride: int, one: int, other: int) -> None:
    sequences = (affine(stride, one), affine(stride, other))

    assert [maximum(sequences)(n) for n in SOME] == [stride * n + max(one, other) for n in SOME]
    assert [minimum(sequences)(n) for n in SOME] == [stride * n + min(one, other) for n in SOME]


@given(st.integers(-9, 9), st.integers(1, 6))
def test_a_floor_is_a_floor(offset: int, divisor: int) -> None:
    assert [floor_ratio(offset, divisor)(n) for n in SOME] == [(n + offset) // divisor for n in SOME]


@given(st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.integers(0, 4), st.integers(8, 25))
def test_a_convolution_reads_and_counts_as_torch_does(k: int, s: int, d: int, p: int, frames: int) -> None:
    """By which frames carry a gradient, and how many elements come out."""
    index = window_map(k, s, d, p, p)
    x = torch.randn(1, 1, frames, requires_grad=True)
    if frames + 2 * p < d * (k - 1) + 1:
        return
    y = F.conv1d(x, torch.ones(1, 1, k), stride=s, dilation=d, padding=p)

    assert index.length(frames) == y.shape[2]
    for n in range(y.shape[2]):
        (gradient,) = torch.autograd.grad(y[0, 0, n], x, retain_graph=True)
        read = gradient[0, 0].nonzero().flatten().tolist()
        taps = [index.first(n) + d * tap for tap in range(k)]
        assert read == [tap for tap in taps if 0 <= tap < frames]
        assert taps[-1] == index.last(n)


@given(st.integers(1, 5), st.integers(1, 4), st.booleans(), st.integers(5, 25))
def test_a_pool_counts_as_torch_does(k: int, s: int, ceil_mode: bool, frames: int) -> None:
    for p in range(k // 2 + 1):
        pooled = F.avg_pool1d(torch.zeros(1, 1, frames), k, s, p, ceil_mode=ceil_mode)

        assert window_map(k, s, 1, p, p, ceil_mode=ceil_mode).length(frames) == pooled.shape[2]


@pytest.mark.parametrize(("before", "after"), [(2, 0), (0, 3), (1, -1), (-1, 1), (-2, -1)])
def test_padding_renumbers(before: int, after: int) -> None:
    frames = torch.arange(9.0) + 1
    index = pad_map(before, after)
    padded = F.pad(frames, (before, after))

    assert index.length(9) == len(padded)
    read = [index.first(n) for n in range(len(padded))]
    assert [frames[n].item() if 0 <= n < 9 else 0.0 for n in read] == padded.tolist()


def test_the_strided_residual_of_the_design() -> None:
    """design.md, section 3: the add stands at (2, 3), the shortcut, at (2, 0), waits 3 ticks."""
    x = input_timing()
    first = timing_after([Reading(x, window_map(3, 2, 1, 1, 1))])
    second = timing_after([Reading(first, window_map(3, 1, 1, 1, 1))])
    shortcut = timing_after([Reading(x, window_map(1, 2, 1, 0, 0))])
    added = timing_after([Reading(second, SAME), Reading(shortcut, SAME)])

    assert [timing.clock for timing in (first, second, shortcut, added)] == [
        affine(2, 1),
        affine(2, 3),
        affine(2, 0),
        affine(2, 3),
    ]
    assert (added.stride, added.delay, added.receptive_field, added.padding) == (2, 3, 7, 3)
    assert added.steady_tick == 7
    assert added.count(9) == 5


def test_an_element_that_may_be_cut_waits_until_the_video_has_it() -> None:
    """``x[:, :, :-2]`` is two behind; behind a convolution padded by as much on the right, it is not behind at all."""
    cut = timing_after([Reading(input_timing(), pad_map(0, -2))])
    causal = timing_after([Reading(timing_after([Reading(input_timing(), window_map(3, 1, 1, 2, 2))]), pad_map(0, -2))])

    assert cut.clock == affine(1, 2)
    assert cut.hi == IDENTITY
    assert causal.clock == IDENTITY


def test_padding_where_frames_were_cut_off_is_padding() -> None:
    """``x[:, :, 2:]`` into a padded kernel of 3: the first output reads frames 2 and 3, and a zero in place of 1."""
    cut = timing_after([Reading(input_timing(), pad_map(-2, 0))])
    padded = timing_after([Reading(cut, window_map(3, 1, 1, 1, 1))])
    strided = timing_after([Reading(padded, window_map(3, 2, 1, 1, 1))])
    back = timing_after([Reading(padded, pad_map(-1, 0))])

    assert [timing.front for timing in (cut, padded, strided, back)] == [0, 1, 1, 0]
    assert (padded.lo(0), padded.clock(0), padded.steady_tick) == (1, 3, 4)


def test_an_element_that_reads_padding_in_place_of_the_last_frame_has_seen_padding() -> None:
    cut = timing_after([Reading(input_timing(), pad_map(0, -2))])
    padded = timing_after([Reading(cut, window_map(3, 1, 1, 1, 1))])
    strided = timing_after([Reading(padded, window_map(3, 2, 1, 1, 1))])
    back = timing_after([Reading(padded, pad_map(0, -1))])

    assert [timing.back(12) for timing in (cut, padded, strided, back)] == [10, 9, 4, 9]
    assert [timing.back(13) for timing in (cut, padded, strided, back)] == [11, 10, 5, 10]
    assert [timing.unpadded(12) for timing in (padded, strided)] == [range(1, 9), range(1, 4)]


@given(periodics, st.integers(-20, 40))
def test_the_counts_are_a_sequence(sequence: Periodic, value: int) -> None:
    assert sequence.counts(value) == sequence.count_through(value)


def test_a_window_over_strided_elements() -> None:
    window = timing_after([Reading(input_timing(2), sliding_map(4))])

    assert (window.clock, window.lo) == (affine(2, 6), affine(2, 0))
    assert [window.count(frames) for frames in (6, 7, 8, 9)] == [0, 1, 1, 2]


def reads(made: torch.Tensor, given: torch.Tensor) -> list[set[int]]:
    """Per element that was made, which of the given ones it depends on."""
    return [
        set((torch.autograd.grad(element, given, retain_graph=True)[0].flatten() > 1e-5).nonzero().flatten().tolist())
        for element in made.flatten()
    ]


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 4), st.integers(0, 6), st.integers(0, 3), st.integers(1, 9))
def test_a_transposed_window_is_what_torch_reads(k: int, s: int, d: int, p: int, extra: int, count: int) -> None:
    index = transposed_map(k, s, d, p, min(extra, max(s, d) - 1))
    x = torch.ones(1, 1, count, requires_grad=True)
    if index.length(count) < 1:
        return
    made = F.conv_transpose1d(
        x, torch.ones(1, 1, k), stride=s, padding=p, output_padding=min(extra, max(s, d) - 1), dilation=d
    )

    found = reads(made, x)
    assert index.length(count) == len(found)
    assert all(index.first(n) <= index.last(n) for n in range(len(found)))
    for n, seen in enumerate(found):
        around = set(range(index.first(n), index.last(n) + 1)) & set(range(count))
        assert seen <= around
        assert seen == around or d > 1 or s > k


@given(st.integers(2, 6), st.integers(2, 9))
def test_linear_interpolation_reads_the_two_around(factor: int, count: int) -> None:
    index = linear_map(factor)
    x = torch.ones(1, 1, count, requires_grad=True)

    found = reads(F.interpolate(x, scale_factor=factor, mode="linear"), x)
    assert index.length(count) == len(found)
    for n, seen in enumerate(found):
        assert seen == {min(max(place, 0), count - 1) for place in (index.first(n), index.last(n))}


@given(st.integers(1, 5), st.integers(1, 9))
def test_repetition_reads_one_element_several_times(factor: int, count: int) -> None:
    index = repeat_map(factor)

    assert [index.first(n) for n in range(index.length(count))] == torch.arange(count).repeat_interleave(
        factor
    ).tolist()
    assert index.first == index.last
