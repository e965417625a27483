"""The strategies that draw random networks."""

from __future__ import annotations

from hypothesis import assume
from hypothesis import strategies as st

from tests.functions import ACTIVATIONS, HEADS, JOINS, MIXES, SIZE_CHANGING
from tests.layers import (
    Act,
    Branches,
    Conv,
    Dense,
    DownUp,
    Frames,
    Gather,
    Layer,
    Mix,
    Norm,
    Pool,
    RandomNetwork,
    Reindex,
    TimeOnly,
    Twice,
    Up,
)
from tests.shifts import KEEPING, RESIZING

small = st.integers(1, 4)


@st.composite
def convs(draw: st.DrawFn, stride: int = 1, *, keeps_length: bool = False) -> Conv:
    """A temporal convolution; one that ``keeps_length`` gives ``ceil(T / stride)`` elements."""
    k, d = draw(st.integers(1, 4)), draw(st.sampled_from((1, 1, 2, 3)))
    reach = d * (k - 1)
    if keeps_length:
        before = draw(st.integers(0, reach))
        pads: tuple[int, int] | str = (before, reach - before)
    else:
        pads = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    if draw(st.booleans()) and reach % 2 == 0:
        pads = (reach // 2, reach // 2)
    if stride == 1 and draw(st.integers(0, 5)) == 0:
        pads = "same"
    return Conv(
        channels=draw(small),
        k=k,
        s=stride,
        d=d,
        pads=pads,
        value=draw(st.sampled_from((0.0, 0.0, 0.5))) if not isinstance(pads, str) else 0.0,
        space=draw(st.sampled_from((1, 1, 3))),
        space_stride=1 if keeps_length else draw(st.sampled_from((1, 1, 2))),
        groups=draw(st.booleans()),
        bias=draw(st.booleans()),
    )


@st.composite
def pools(draw: st.DrawFn, stride: int = 1, *, keeps_length: bool = False) -> Pool:
    kind = draw(st.sampled_from(("max", "average")))
    if keeps_length:
        k = draw(st.sampled_from((1, 3, 5)))
        p, d, ceil_mode = k // 2, 1, False
    else:
        k = draw(st.integers(1, 4))
        p, d = draw(st.integers(0, k // 2)), draw(st.sampled_from((1, 1, 2)))
        ceil_mode = draw(st.booleans())
    return Pool(
        kind,
        k,
        stride,
        p,
        d,
        ceil_mode,
        count_include_pad=draw(st.booleans()),
        divisor=draw(st.sampled_from((None, None, 3))),
        space=draw(st.sampled_from((1, 3))),
        space_stride=1 if keeps_length else draw(st.sampled_from((1, 2))),
    )


@st.composite
def time_only(draw: st.DrawFn, stride: int = 1, *, keeps_length: bool = False) -> TimeOnly:
    kind = draw(st.sampled_from(("conv1d", "max1d", "avg1d", "conv2d", "avg2d", "max2d")))
    d = draw(st.sampled_from((1, 2))) if kind.startswith("conv") else 1
    k = draw(st.sampled_from((1, 3))) if keeps_length else draw(st.integers(1, 4))
    p = d * (k - 1) // 2 if keeps_length else draw(st.integers(0, k // 2))
    return TimeOnly(kind, draw(small), k, stride, d, p)


alone = st.one_of(
    st.builds(
        Norm, st.sampled_from(("batch", "plain batch", "layer", "space", "folded group", "folded instance", "softmax"))
    ),
    st.builds(Act, st.sampled_from(sorted(ACTIVATIONS))),
    st.builds(Frames, st.sampled_from(("conv", "separable", "pool", "average", "gate", "resize")), small),
    st.builds(Mix, st.sampled_from(sorted(MIXES))),
)


def keeping(stride: int = 1) -> st.SearchStrategy[Layer]:
    """Layers that give ``ceil(T / stride)`` elements and keep the frame's size."""
    over_time = st.one_of(
        convs(stride, keeps_length=True), pools(stride, keeps_length=True), time_only(stride, keeps_length=True)
    )
    if stride > 1:
        return st.one_of(over_time, st.just(Reindex("slice", 0, stride)))
    return st.one_of(
        over_time,
        alone,
        st.builds(Reindex, st.sampled_from(sorted(KEEPING)), small, small),
        st.builds(Twice, convs(keeps_length=True)),
    )


@st.composite
def blocks(draw: st.DrawFn, depth: int, *, strided: bool = True) -> Layer:
    """Branches with one overall stride, nested, or a dense block."""
    if draw(st.integers(0, 3)) == 0:
        return Dense(tuple(draw(st.lists(keeping(), min_size=1, max_size=3))))
    strides = draw(st.sampled_from(((), (), (2,), (3,), (2, 2)))) if strided else ()
    count = draw(st.sampled_from((2, 2, 2, 3)))
    branches = []
    for _ in range(count):
        layers: list[Layer] = list(draw(st.lists(_inner(depth), max_size=2)))
        for stride in strides:
            place = draw(st.integers(0, len(layers)))
            layers.insert(place, draw(keeping(stride)))
        branches.append(tuple(layers))
    return Branches(tuple(branches), draw(st.sampled_from((*sorted(JOINS), "add", "cat", "cat"))))


def _inner(depth: int) -> st.SearchStrategy[Layer]:
    return keeping() if depth == 0 else st.one_of(keeping(), keeping(), blocks(depth - 1, strided=False))


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    stride = draw(st.sampled_from((1, 1, 1, 2, 3)))
    return draw(
        st.one_of(
            convs(stride),
            pools(stride),
            time_only(stride),
            alone,
            blocks(1),
            blocks(0),
            st.builds(
                Reindex,
                st.sampled_from(sorted(KEEPING | RESIZING)),
                st.integers(1, 2),
                st.integers(1, 3),
            ),
            st.builds(Mix, st.sampled_from(sorted(SIZE_CHANGING))),
        )
    )


@st.composite
def networks(draw: st.DrawFn, *, head: bool = False) -> RandomNetwork:
    drawn = tuple(draw(st.lists(layers(), min_size=1, max_size=5)))
    return RandomNetwork(
        layers=drawn,
        channels=draw(st.integers(1, 3)),
        frames=draw(st.integers(6, 20)),
        side=draw(st.sampled_from((4, 5))),
        clip_batch=draw(st.sampled_from((1, 1, 2))),
        batch=draw(st.sampled_from((1, 1, 1, 2))),
        longer=draw(st.integers(-4, 9)),
        taps=draw(st.frozensets(st.integers(0, max(0, len(drawn) - 2)), max_size=2)) if len(drawn) > 1 else frozenset(),
        head=draw(st.sampled_from(sorted(HEADS))) if head else "",
    )


def _rises(factor: int) -> st.SearchStrategy[Up]:
    """Layers that make ``factor`` elements of each, exactly."""
    kinds = ("channels", "repeat", "expand", "nearest", "nearest-exact", "trilinear", "lines linear")
    return st.one_of(
        transposed(factor, keeps_length=True), st.builds(Up, st.sampled_from(kinds), small, st.just(factor))
    )


@st.composite
def transposed(draw: st.DrawFn, factor: int, *, keeps_length: bool = False) -> Up:
    """A transposed convolution; one that ``keeps_length`` gives ``factor * T`` elements."""
    k, d, p = draw(st.integers(1, 5)), draw(st.sampled_from((1, 1, 2, 3))), draw(st.integers(0, 3))
    extra = draw(st.integers(0, 2))
    if keeps_length:
        p = -(-max(0, d * (k - 1) + 1 - factor) // 2)
        extra = factor - 1 + 2 * p - d * (k - 1)
        assume(extra < max(factor, d))
    kind = draw(st.sampled_from(("transposed", "transposed", "lines")))
    return Up(kind, draw(small), factor, k, d, p, extra, draw(st.booleans()), draw(st.sampled_from((1, 3))))


@st.composite
def down_ups(draw: st.DrawFn, depth: int = 1) -> DownUp:
    factor = draw(st.sampled_from((2, 2, 3) if depth else (2,)))
    inner = st.one_of(keeping(), down_ups(depth - 1)) if depth else keeping()
    return DownUp(
        down=draw(st.one_of(keeping(factor), st.just(Gather(factor)))),
        inner=tuple(draw(st.lists(inner, max_size=2))),
        up=draw(_rises(factor)),
        join=draw(st.sampled_from(("cat", "add", "mul"))),
    )


@st.composite
def upward_networks(draw: st.DrawFn) -> RandomNetwork:
    """Networks whose rate goes up; those with skips over it take videos of whole periods."""
    if draw(st.booleans()):
        multiple = 12
        middle = st.one_of(down_ups(), down_ups(), keeping(), alone)
    else:
        multiple = 1
        middle = st.one_of(layers(), st.sampled_from((2, 2, 3)).flatmap(_ups))
    drawn = tuple(draw(st.lists(middle, min_size=1, max_size=3)))
    if multiple > 1 and draw(st.booleans()):
        drawn = (*drawn, draw(st.sampled_from((2, 3)).flatmap(_ups)))
    return RandomNetwork(
        layers=drawn,
        channels=draw(st.integers(1, 3)),
        frames=12 if multiple > 1 else draw(st.integers(5, 12)),
        batch=draw(st.sampled_from((1, 1, 2))),
        longer=multiple if multiple > 1 else draw(st.integers(1, 6)),
        multiple=multiple,
        time_axis=draw(st.sampled_from((2, 2, 1))),
    )


def _ups(factor: int) -> st.SearchStrategy[Layer]:
    return st.one_of(transposed(factor), _rises(factor))
