"""What a user can get wrong between a model and its stream, with the text that says so. Files are in their own test."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

import co3d_compile
from co3d_compile.api import what_if
from co3d_compile.errors import (
    ApproximationError,
    CaptureError,
    Co3dError,
    FrameError,
    InputError,
    RateError,
    StateError,
    UnsupportedError,
    VerificationError,
)
from co3d_compile.network import Network
from tests.small_models import CLIP, Branching, Pair, Unmeeting, residual, trunk

FRAME = (1, 2, 6, 6)
PATTERNS = "try: a dict from patterns of module paths to policies, such as {'*': 'window'}"
RULES = "try: a dict from classes of modules to StepRule(step, begin)"


@pytest.fixture(scope="module")
def network() -> Network:
    return co3d_compile.compile(trunk(), CLIP)


def text_of(kind: type[Co3dError], call: Callable[[], object]) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert type(caught.value) is kind
    return str(caught.value)


def frame(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape or FRAME, dtype=dtype)


def test_clip_of_the_wrong_rank() -> None:
    text = text_of(CaptureError, lambda: co3d_compile.compile(trunk(), (1, 2, 6)))

    assert text.startswith("the model fails on a clip of shape (1, 2, 6): ")
    assert text.endswith("\n  try: give the clip as the model takes it (a list for a model that takes a list)")


def test_clip_whose_time_axis_no_reading_finds() -> None:
    text = text_of(CaptureError, lambda: co3d_compile.compile(nn.Conv2d(2, 2, 3), (6, 2, 6, 6)))

    assert text == (
        "which axis of the clip of shape (6, 2, 6, 6) is time? 5-D clips are taken as (N, C, T, H, W)\n"
        "  axis 1: nothing of the network could be streamed: it would be run anew on every window\n"
        "  try: time_axis=, or --time-axis"
    )


def test_clip_whose_time_axis_two_readings_find() -> None:
    text = text_of(CaptureError, lambda: co3d_compile.compile(nn.Conv2d(2, 2, (3, 1)), (1, 2, 6, 5)))

    assert text == (
        "which axis of the clip of shape (1, 2, 6, 5) is time? 5-D clips are taken as (N, C, T, H, W)\n"
        "  axis 1: nothing of the network could be streamed: it would be run anew on every window\n"
        "  axis 2: it streams\n"
        "  axis 3: it streams\n"
        "  try: time_axis=, or --time-axis"
    )


def test_clip_whose_time_axis_is_refused_everywhere() -> None:
    model = nn.Sequential(nn.Softmax(2), nn.Conv1d(2, 2, 3))
    text = text_of(CaptureError, lambda: co3d_compile.compile(model, (1, 2, 9)))

    assert "\n  axis 1: nothing of the network could be streamed" in text
    assert "\n  axis 2: 1 operation(s) cannot be streamed: 1 x softmax; 0: softmax: it runs along time" in text


def test_time_axis_that_the_clip_has_not() -> None:
    text = text_of(CaptureError, lambda: co3d_compile.compile(trunk(), CLIP, time_axis=7))

    assert text == "time_axis 7 of a clip of shape (1, 2, 6, 6, 6)\n  try: one of its 5 axes"


@pytest.mark.parametrize("given", ["2", [2.0]])
def test_time_axis_that_is_no_number(given: object) -> None:
    text = text_of(CaptureError, lambda: co3d_compile.compile(trunk(), CLIP, time_axis=given))

    assert text == f"time_axis is {given!r}\n  try: the number of an axis, or a list of one for each input"


def test_clip_whose_shape_holds_a_claim() -> None:
    text = text_of(CaptureError, lambda: co3d_compile.compile(trunk(), (True, 2, 6, 6, 6)))

    assert text == "True is neither a tensor nor a shape\n  try: a shape such as (1, 3, 16, 224, 224)"


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("model.pt", "an object of type str"),
        (trunk().state_dict(), "an object of type OrderedDict"),
        (nn.Conv3d, "the class Conv3d"),
        (None, "an object of type NoneType"),
    ],
)
def test_model_that_is_none(network: Network, given: object, kind: str) -> None:
    expected = f"the model is {kind}\n  try: the nn.Module itself, its weights in it, or a program of torch.export"

    assert text_of(InputError, lambda: co3d_compile.compile(given, CLIP)) == expected
    assert text_of(InputError, lambda: what_if(given, CLIP)) == expected
    assert text_of(InputError, lambda: network.verify(given)) == expected
    assert text_of(InputError, lambda: network.deviation(given)) == expected


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"windows": 16}, "windows is 16\n  try: a list, such as [16, 64]"),
        ({"windows": [0]}, "window is 0\n  try: a number of elements from 1 up"),
        ({"sizes": (112, 112)}, "a size is 112\n  try: height and width of a frame, such as (224, 224)"),
        ({"sizes": ["112x112"]}, "a size is '112x112'\n  try: height and width of a frame, such as (224, 224)"),
    ],
)
def test_settings_to_ask_about_that_are_none(network: Network, settings: dict, text: str) -> None:
    assert text_of(InputError, lambda: network.what_if(**settings)) == text
    assert text_of(InputError, lambda: what_if(trunk(), CLIP, **settings)) == text


def test_clip_that_is_none() -> None:
    text = text_of(CaptureError, lambda: co3d_compile.compile(trunk(), "1x2x6x6x6"))

    assert text == "the clip is a str\n  try: give a tensor, a shape such as (1, 3, 16, 224, 224), or several"


def test_model_that_needs_another_input() -> None:
    text = text_of(CaptureError, lambda: co3d_compile.compile(Pair(), CLIP))

    assert text == (
        "the model fails on a clip of shape (1, 2, 6, 6, 6): "
        "Pair.forward() missing 1 required positional argument: 'other'\n"
        "  try: give the clip as the model takes it (a list for a model that takes a list)"
    )


def test_pathways_at_no_common_rate() -> None:
    class Longest(nn.Module):
        def forward(self, one: Tensor, other: Tensor) -> Tensor:
            return one + other[:, :, :1]

    text = text_of(CaptureError, lambda: co3d_compile.compile(Longest(), (CLIP, (1, 2, 4, 6, 6))))

    assert text == (
        "inputs of 6 and 4 frames are not pathways at whole rates of one video\n"
        "  try: lengths of which the longest is a multiple"
    )


def test_data_dependent_control_flow(capfd: pytest.CaptureFixture[str]) -> None:
    text = text_of(CaptureError, lambda: co3d_compile.compile(nn.Sequential(nn.ReLU(), Branching()), CLIP))

    assert text.splitlines()[0] == "1: its control flow depends on the values in the video"
    assert re.fullmatch(r"  .*small_models\.py:\d+: return x \+ 1 if x\.mean\(\) > 0 else x - 1", text.splitlines()[1])
    assert text.splitlines()[2:] == [
        "  try: compute both branches and select with torch.where, or make the part that branches an operator of your "
        "own (docs/policies.md, Whole windows)"
    ]
    assert capfd.readouterr() == ("", "")


def test_assertion_about_the_values() -> None:
    def checked(x: Tensor) -> Tensor:
        assert not x.isnan().any()
        return x

    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return checked(x) + 1

    text = text_of(CaptureError, lambda: co3d_compile.compile(Sure(), CLIP))

    assert text.startswith("(top level): its control flow depends on the values in the video\n")
    assert ": assert not x.isnan().any()\n" in text
    assert text.endswith("\n  try: leave the assertion out, or run python -O, which does")


def test_what_a_model_prints_itself_is_not_swallowed(capfd: pytest.CaptureFixture[str]) -> None:
    class Talking(Branching):
        def forward(self, x: Tensor) -> Tensor:
            print("so far so good", file=sys.stderr)
            return super().forward(x)

    text_of(CaptureError, lambda: co3d_compile.compile(Talking(), CLIP))

    assert set(capfd.readouterr().err.splitlines()) == {"so far so good"}


def test_model_that_changes_between_calls() -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x * self.calls

    text = text_of(CaptureError, lambda: co3d_compile.compile(Counting(), CLIP))

    assert text.startswith("output 0: the captured graph differs from the model by ")
    assert text.endswith("\n  try: remove random or stateful parts from forward")


def test_container_that_only_its_source_can_rebuild() -> None:
    class Defaulting(nn.Module):
        def forward(self, x: Tensor) -> dict:
            return defaultdict(list, x=x + 1)

    assert text_of(CaptureError, lambda: co3d_compile.compile(Defaulting(), CLIP)) == (
        "the model takes or returns a collections.defaultdict, which only its own source can rebuild\n"
        "  try: a wrapper around the model that returns tensors, tuples, lists or dicts"
    )


@dataclass
class Scores:
    scores: Tensor


class Slots:
    def __init__(self, scores: Tensor) -> None:
        self.scores = scores


@pytest.mark.parametrize(
    ("kind", "known"), [(Scores, "torch.export.register_dataclass(Scores), or "), (Slots, "")], ids=str
)
def test_result_that_torch_does_not_take_apart(kind: type, known: str) -> None:
    class Returning(nn.Module):
        def forward(self, x: Tensor) -> list:
            return [kind(x + 1)]

    assert text_of(CaptureError, lambda: co3d_compile.compile(Returning(), CLIP)) == (
        f"the model takes or returns a tests.test_bad_input.{kind.__name__}, which only its own source can rebuild\n"
        f"  try: {known}a wrapper around the model that returns tensors, tuples, lists or dicts"
    )


def test_rates_that_do_not_meet() -> None:
    text = text_of(RateError, lambda: co3d_compile.compile(Unmeeting(), (1, 2, 8, 6, 6)))

    assert text.splitlines()[0].endswith("the branches run at strides 2 and 4, so their elements never meet")
    assert text.splitlines()[-1] == "  try: check the temporal stride of slow.1"


def test_all_unsupported_operations_at_once() -> None:
    class Sorting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sort(dim=2).values + x.cumsum(2).flip(2)

    error = None
    try:
        co3d_compile.compile(Sorting(), CLIP)
    except UnsupportedError as caught:
        error = caught

    assert error is not None
    assert len(error.refusals) > 1
    assert str(error).startswith(f"{len(error.refusals)} operation(s) cannot be streamed: ")
    assert all(refusal.reason and refusal.hint for refusal in error.refusals)


def test_strict_names_what_is_approximate() -> None:
    text = text_of(ApproximationError, lambda: co3d_compile.compile(residual(), CLIP, strict=True))

    assert text == (
        "strict, and 1 part(s) are approximate\n"
        "  mean: a gate on the whole clip, made from each frame instead\n"
        "  try: without strict, and read in the report what that means"
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"start": "ones"}, "start is 'ones'\n  try: one of zeros, valid, replicate"),
        ({"window": 0}, "window is 0\n  try: a number of elements from 1 up"),
        ({"window": "8"}, "window is '8'\n  try: a number of elements from 1 up"),
        ({"window": 2.5}, "window is 2.5\n  try: a number of elements from 1 up"),
        ({"policy": "frame"}, f"policy is 'frame'\n  {PATTERNS}"),
        ({"policy": ["gate"]}, f"policy is ['gate']\n  {PATTERNS}"),
        ({"recurrences": {1: 2}}, f"recurrences is {{1: 2}}\n  {RULES}"),
        ({"recurrences": [nn.GRU]}, f"recurrences is [<class 'torch.nn.modules.rnn.GRU'>]\n  {RULES}"),
        ({"passes": len}, "passes is <built-in function len>\n  try: a list, such as [my_pass]"),
        ({"ops": 3}, "ops is 3\n  try: a list, such as [MyOperation()]"),
        (
            {"policy": {"se": "frame"}},
            "policy 'se' matches nothing that takes a whole clip\n  try: a pattern for one of: mean",
        ),
        (
            {"policy": {"*": "never"}},
            "mean: no policy is called 'never'\n  try: one of frame, window, cumulative, exact",
        ),
    ],
)
def test_option_that_is_none_of_its_values(options: dict, text: str) -> None:
    assert text_of(InputError, lambda: co3d_compile.compile(residual(), CLIP, **options)) == text


@pytest.mark.parametrize("shape", [(1, 2, 6, 7), (1, 3, 6, 6), (2, 2, 6, 6), (2, 6, 6), (1, 2, 1, 6, 6)])
def test_frame_of_the_wrong_shape(network: Network, shape: tuple[int, ...]) -> None:
    assert text_of(FrameError, lambda: network.stream().push(frame(*shape))) == (
        f"the frame has shape {shape}, the network was compiled for (1, 2, 6, 6)\n"
        "  try: resize the frame, or compile with a clip of its size; initial_state(batch) sets the batch"
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_frame_of_the_wrong_dtype(network: Network, dtype: torch.dtype) -> None:
    assert text_of(FrameError, lambda: network.stream().push(frame(dtype=dtype))) == (
        f"the frame is {dtype}, the network takes torch.float32\n  try: frame.to(torch.float32)"
    )


def test_frame_that_is_elsewhere(network: Network) -> None:
    expected = "the {0} is on meta, the network on cpu\n  try: {0}.to('cpu')"

    assert text_of(FrameError, lambda: network.stream().push(frame().to("meta"))) == expected.format("frame")
    assert text_of(FrameError, lambda: network(torch.zeros(CLIP, device="meta"))) == expected.format("video")


def test_frame_that_is_sparse(network: Network) -> None:
    expected = "the {0} has the layout torch.sparse_coo\n  try: {0}.to_dense()"

    assert text_of(FrameError, lambda: network.stream().push(frame().to_sparse())) == expected.format("frame")
    assert text_of(FrameError, lambda: network(torch.zeros(CLIP).to_sparse())) == expected.format("video")


def test_frames_of_the_wrong_number(network: Network) -> None:
    assert text_of(FrameError, lambda: network.stream().push([frame(), frame()])) == (
        "the network takes 1 inputs, not 2\n  try: one frame per input, or one for all"
    )


def test_frame_that_is_no_tensor(network: Network) -> None:
    expected = "the frame is an object of type ndarray\n  try: a tensor, with torch.as_tensor"

    assert text_of(FrameError, lambda: network.stream().push(frame().numpy())) == expected
    assert text_of(FrameError, lambda: network.stream().push([frame().numpy()])) == expected


def test_pathway_without_its_frame() -> None:
    network = co3d_compile.compile(Pair(), (CLIP, CLIP))

    text = text_of(FrameError, lambda: network.stream().push([frame(), None]))

    assert "has a frame at every tick that 1 divides, and tick 0 is one" in text


def test_a_wrong_frame_changes_nothing(network: Network) -> None:
    """The stream goes on with the next right frame as if the wrong one had not come."""
    video = torch.randn(6, *FRAME, generator=torch.Generator().manual_seed(5))
    stream, expected = network.stream(), network.stream()
    for place, part in enumerate(video):
        if place == 3:
            text_of(FrameError, lambda: stream.push(frame(1, 2, 9, 9)))
        out, wanted = stream.push(part), expected.push(part)

        assert (out is None) is (wanted is None)
        assert out is None or torch.equal(out, wanted)


def test_video_of_the_wrong_rank(network: Network) -> None:
    text = text_of(FrameError, lambda: network(frame()))

    assert text.startswith("the video has shape (1, 2, 6, 6), the network was compiled for ")
    assert text.endswith("\n  try: resize the video, or compile with a clip of its size")


def test_nan_frames_pass_through_as_in_the_original(network: Network) -> None:
    """Elements that depend on the spoiled frame are NaN where the original's are, and no others: state recovers."""
    video = torch.randn(1, 2, 14, 6, 6, generator=torch.Generator().manual_seed(6))
    video[:, :, 5] = torch.nan
    with torch.no_grad():
        expected = trunk()(video)

    made = network(video)

    assert expected.isnan().any(dim=(0, 1, 3, 4)).tolist() == [3 <= n <= 7 for n in range(14)]
    torch.testing.assert_close(made, expected, equal_nan=True)


def test_infinite_frames_do_not_raise(network: Network) -> None:
    stream = network.stream()
    for _ in range(4):
        stream.push(torch.full(FRAME, torch.inf))


def test_pushing_after_flush(network: Network) -> None:
    stream = network.stream()
    stream.push(frame())
    stream.flush()

    assert text_of(StateError, lambda: stream.push(frame())) == (
        "the stream has been flushed\n  try: reset() before the next video"
    )
    assert text_of(StateError, stream.flush) == (
        "the stream has been flushed already\n  try: reset() before the next video"
    )
    stream.reset()
    stream.push(frame())


def test_stepping_after_the_end(network: Network) -> None:
    state = network.end(network.initial_state())

    assert text_of(StateError, lambda: network.step(frame(), state)).startswith("a frame after the end of the stream\n")


def test_no_frame_before_the_end(network: Network) -> None:
    assert text_of(StateError, lambda: network.step(None, network.initial_state())) == (
        "no frame, and the stream has not ended\n  try: end(state) after the last frame"
    )


def test_state_of_another_network(network: Network) -> None:
    other = co3d_compile.compile(residual(), CLIP)

    assert text_of(StateError, lambda: network.step(frame(), other.initial_state())) == (
        "the state belongs to another network\n  try: initial_state() of this one, or the network it came from"
    )


def test_state_that_is_none(network: Network) -> None:
    text = text_of(StateError, lambda: network.step(frame(), None))

    assert text == "the state is an object of type NoneType\n  try: initial_state()"


@pytest.mark.parametrize("batch", [None, -1, 1.5, "2"])
def test_batch_that_is_no_number_of_streams(network: Network, batch: object) -> None:
    text = text_of(InputError, lambda: network.stream(batch))

    assert text == f"batch is {batch!r}\n  try: a number of streams from 0 up"


def test_an_empty_batch_gives_nothing(network: Network) -> None:
    assert network(torch.zeros(0, *CLIP[1:])).shape[0] == 0


def test_verifying_on_no_number_of_frames(network: Network) -> None:
    text = text_of(InputError, lambda: network.verify(trunk(), frames="9"))

    assert text == "frames is '9'\n  try: a number of frames from 1 up"


def test_verifying_with_another_model(network: Network) -> None:
    text = text_of(VerificationError, lambda: network.verify(residual()))

    assert text.endswith("  try: the same model, or compile this one")


def test_an_empty_stream_flushes_to_nothing(network: Network) -> None:
    """No frames, no elements: as the original, which takes no clip of length 0."""
    out = network.stream().flush()

    assert all(element is None for element in out)


def test_a_batch_whose_place_a_clip_of_one_stream_does_not_tell() -> None:
    class Folding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x).mean(4)
            n, c, t, h = y.shape
            return y.permute(1, 2, 3, 0).reshape(c, t * h * n).exp().reshape(n, c, t, h)

    net = co3d_compile.compile(Folding().eval(), (1, 2, 8, 6, 6))

    assert text_of(StateError, lambda: net.stream(2)) == (
        "reshape_1: of two clips the model makes (2, 4, 8, 6), read from one clip it would be (1, 4, 8, 12), so the "
        "batch stays at 1, not 2\n  try: compile with a clip of that batch"
    )
