"""Every spelling in which models shift, repeat and pick frames, against the original."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import co3d_compile
from co3d_compile.errors import UnsupportedError
from co3d_compile.testing.law import check_law
from tests.functions import Function

CLIP = (1, 3, 8, 3, 4)


def zeros(x: Tensor, frames: int = 1) -> Tensor:
    return torch.zeros_like(x[:, :, :frames])


def ramp(*values: float) -> Tensor:
    """A mask over the 8 frames of the clip."""
    return torch.tensor(values).reshape(1, 1, 8, 1, 1)


def assigned(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :1, :-1] = x[:, :1, 1:]
    out[:, 1:2, 1:] = x[:, 1:2, :-1]
    out[:, 2:] = x[:, 2:]
    return out


def assigned_to_a_copy(x: Tensor) -> Tensor:
    out = x.clone()
    out[:, :1, :-1] = x[:, :1, 1:]
    out[:, 1:2, 2:] = x[:, 1:2, :-2]
    return out


def assigned_in_folded_frames(x: Tensor) -> Tensor:
    """Temporal shift as its authors write it."""
    frames = x.transpose(1, 2).reshape(-1, 3, 3, 4)
    x = frames.view(x.shape[0], -1, 3, 3, 4)
    out = torch.zeros_like(x)
    out[:, :-1, :1] = x[:, 1:, :1]
    out[:, 1:, 1:2] = x[:, :-1, 1:2]
    out[:, :, 2:] = x[:, :, 2:]
    return out.view(-1, 3, 3, 4).reshape(x.shape).transpose(1, 2)


def written_into_empty(x: Tensor) -> Tensor:
    out = torch.empty_like(x)
    out[:, :, 1:] = x[:, :, :-1]
    out[:, :, 0].zero_()
    return out


def joined_in_folded_frames(x: Tensor) -> Tensor:
    x = x.transpose(1, 2)
    later = torch.cat([torch.zeros_like(x[:, :1, :1]), x[:, :-1, :1]], 1)
    earlier = torch.cat([x[:, 1:, 1:2], torch.zeros_like(x[:, :1, 1:2])], 1)
    return torch.cat([later, earlier, x[:, :, 2:]], 2).flatten(0, 1).reshape(x.shape).transpose(1, 2)


def rolled_and_assigned(x: Tensor) -> Tensor:
    y = torch.roll(x, 1, 2)
    y[:, :, 0] = 0
    return y


def rolled_back_and_assigned(x: Tensor) -> Tensor:
    y = torch.roll(x, -2, 2)
    y[:, :, -2:] = 0.5
    return y


def rolled_by_channel(x: Tensor) -> Tensor:
    one, other = x[:, :1].roll(1, 2), x[:, 1:].roll(-1, 2)
    one[:, :, :1] = 0
    other[:, :, -1] = 0
    return torch.cat([one, other], 1)


def ends_set(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, 0] = 1
    y[:, :, -2:] = -1
    return y


def first_repeated(x: Tensor) -> Tensor:
    d = x[:, :, 1:] - x[:, :, :-1]
    return torch.cat([d[:, :, :1], d], 2)


def differences_in_place(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :, 1:] = x[:, :, 1:] - x[:, :, :-1]
    return out


def first_of_channels_repeated(x: Tensor) -> Tensor:
    x = x.transpose(1, 2)
    return torch.cat([torch.cat([x[:, :1, :2], x[:, :-1, :2]], 1), x[:, :, 2:]], 2)


SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "behind what is less itself": lambda x: torch.cat([(x - x)[:, :, :1], x[:, :, :-1]], 2),
    "behind a frame less itself": lambda x: torch.cat([x[:, :, :1] - x[:, :, :1], x[:, :, :-1]], 2),
    "before no multiple of a frame": lambda x: torch.cat([x[:, :, 1:], x[:, :, :1] * 0], 2),
    "assigned to zeros": assigned,
    "assigned to a copy": assigned_to_a_copy,
    "assigned in folded frames": assigned_in_folded_frames,
    "written into an empty tensor": written_into_empty,
    "later, by cat": lambda x: torch.cat([zeros(x, 2), x[:, :, :-2]], 2),
    "earlier, by cat": lambda x: torch.cat([x[:, :, 1:], zeros(x)], 2),
    "frames of ones around": lambda x: torch.cat([zeros(x) + 1, x, zeros(x, 2) + 1], 2),
    "other values at the ends": lambda x: torch.cat([zeros(x) + 1, x[:, :, 1:-1], zeros(x)], 2),
    "joined in folded frames": joined_in_folded_frames,
    "padded and sliced": lambda x: F.pad(x, (0, 0, 0, 0, 2, 0))[:, :, :-2] - F.pad(x, (0, 0, 0, 0, 0, 1))[:, :, 1:],
    "rolled, then a frame assigned": rolled_and_assigned,
    "rolled back, then frames assigned": rolled_back_and_assigned,
    "rolled by channel": rolled_by_channel,
    "rolled, then sliced": lambda x: x.roll(2, 2)[:, :, 2:],
    "rolled, then joined": lambda x: torch.cat([zeros(x), x.roll(1, 2)[:, :, 1:]], 2),
    "ends set": ends_set,
    "put together as it was": lambda x: (
        torch.cat([x[:, :, :3], x[:, :, 3:]], 2) + torch.cat([x[:, :, :4], x[:, :, 4:]], 2)
    ),
    "first frame repeated": lambda x: torch.cat([x[:, :, :1]] * 2 + [x[:, :, :-2]], 2),
    "first frame expanded": lambda x: torch.cat([x[:, :, :1].expand(-1, -1, 2, -1, -1), x], 2),
    "last frame repeated": lambda x: torch.cat([x, x[:, :, -1:].repeat(1, 1, 3, 1, 1)], 2),
    "ends repeated": lambda x: torch.cat([x[:, :, 0].unsqueeze(2), x, x[:, :, -1].unsqueeze(2)], 2),
    "first of some channels repeated": first_of_channels_repeated,
    "differences": lambda x: x[:, :, 1:] - x[:, :, :-1],
    "differences behind a frame of zeros": lambda x: torch.cat([zeros(x), x[:, :, 1:] - x[:, :, :-1]], 2),
    "differences, the first repeated": first_repeated,
    "differences in place": differences_in_place,
    "torch.diff": lambda x: torch.diff(x, dim=2),
    "torch.diff behind the first frame": lambda x: torch.diff(x, dim=2, prepend=x[:, :, :1]),
    "cut to one less than there are": lambda x: x.narrow(2, 0, x.shape[2] - 1) * x.narrow(2, 1, x.shape[2] - 1),
    "an index of channels": lambda x: x[:, [2, 0]].relu(),
}


def shifted(x: Tensor, before: int, after: int, value: float = 0.0) -> Tensor:
    return F.pad(x, (0, 0, 0, 0, before, after), value=value)


BOUND_TO_THE_CLIP: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "rolled, then chosen": (
        lambda x: torch.where(torch.arange(8).view(1, 1, 8, 1, 1) > 0, x.roll(1, 2), torch.zeros_like(x) + 3),
        lambda x: shifted(x, 1, -1, 3.0),
    ),
    "chosen elsewhere": (
        lambda x: torch.where(torch.arange(8).view(8, 1, 1) > 5, torch.zeros_like(x), x.roll(-2, 2)),
        lambda x: shifted(x, -2, 2),
    ),
    "rolled, then filled": (
        lambda x: x.roll(-1, 2).masked_fill(torch.arange(8).view(8, 1, 1) == 7, 2.0),
        lambda x: shifted(x, -1, 1, 2.0),
    ),
    "split and put together": (lambda x: torch.cat(x.split([2, 6], 2), 2) * 2, lambda x: x * 2),
    "split and cut": (lambda x: x.split([2, 6], 2)[1], lambda x: x[:, :, 2:]),
    "every other frame by index": (lambda x: x[:, :, [1, 3, 5, 7]], lambda x: x[:, :, 1::2]),
    "every third frame by index": (lambda x: x.index_select(2, torch.arange(0, 8, 3)), lambda x: x[:, :, ::3]),
    "the frame before, by index": (
        lambda x: x[:, :, [0, 0, 1, 2, 3, 4, 5, 6]],
        lambda x: torch.cat([x[:, :, :1], x[:, :, :-1]], 2),
    ),
    "the frame two ahead, by index": (
        lambda x: x.index_select(2, (torch.arange(8) + 2).clamp(max=7)),
        lambda x: torch.cat([x[:, :, 2:], x[:, :, -1:], x[:, :, -1:]], 2),
    ),
    "both ends held, by index": (
        lambda x: x[:, :, torch.arange(-2, 9).clamp(0, 7)],
        lambda x: torch.cat([x[:, :, :1], x[:, :, :1], x, x[:, :, -1:]], 2),
    ),
    "every other frame stacked": (
        lambda x: torch.stack([x[:, :, n] for n in range(0, 8, 2)], 2),
        lambda x: x[:, :, ::2],
    ),
    "every frame joined": (lambda x: torch.stack(x.unbind(2), 2).relu(), torch.relu),
}
"""As a model writes it for its clip, and what it means for a video of any length."""


@pytest.mark.parametrize(("spelling", "meant"), BOUND_TO_THE_CLIP.values(), ids=BOUND_TO_THE_CLIP.keys())
def test_what_is_written_for_one_length_streams_for_all(
    spelling: Callable[[Tensor], Tensor], meant: Callable[[Tensor], Tensor]
) -> None:
    clip = torch.randn(CLIP)

    assert torch.equal(spelling(clip), meant(clip))
    check_law(Function(spelling), CLIP, lengths=(5, 8, 13), reference=meant)


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_a_spelling_obeys_the_law(spelling: Callable[[Tensor], Tensor]) -> None:
    # a channel that is shifted less is settled before the others, and so is an end that no frame is read for
    check_law(Function(spelling), CLIP, lengths=(5, 8, 13), least_delay=False)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.roll(1, 2) * ramp(0, 1, 1, 1, 1, 1, 1, 1),
        lambda x: ramp(1, 1, 1, 1, 1, 1, 0, 0) * x.roll(-1, 2),
        lambda x: x * ramp(0, 2, 2, 2, 2, 2, 2, 0),
    ],
    ids=["first", "last two", "ends, of a weighted stream"],
)
def test_frames_multiplied_with_zero_are_zero(function: Callable[[Tensor], Tensor]) -> None:
    model = Function(function)
    video = torch.randn(CLIP)

    torch.testing.assert_close(co3d_compile.compile(model, CLIP)(video), model(video))


REFUSED: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "by linspace": (
        lambda x: x[:, :, torch.linspace(0, 7, 4).long()],
        "takes frames 0, 2, 4, 7 of 8: from 4 to 7 it is 3 frames, from 0 to 2 it is 2",
    ),
    "frames twice, by index": (
        lambda x: x[:, :, [0, 0, 1, 1, 2, 2, 3, 3]],
        "takes frames 0, 0, 1, 1, 2, 2, 3, 3 of 8",
    ),
    "the first frames, with the first twice": (lambda x: x[:, :, [0, 0, 1, 2]], "takes frames 0, 0, 1, 2 of 8"),
    "one frame all along": (lambda x: x[:, :, [3] * 8], "takes frames 3, 3, 3, 3, 3, 3, 3, 3 of 8, by their place"),
    "the last frame by index": (lambda x: x[:, :, [7]], "takes frame 7 of 8"),
    "the first frames by index": (
        lambda x: x[:, :, [0, 1, 2]],
        "takes frames 0, 1, 2 of 8, by their place in the clip",
    ),
    "an unmasked roll": (lambda x: x.roll(1, 2), "brings the last frames of the clip to its start"),
    "half masked": (
        lambda x: torch.where(torch.arange(8).view(8, 1, 1) > 1, x.roll(3, 2), 0.0),
        "brings the last frames of the clip to its start",
    ),
    "weights of frames": (lambda x: x * ramp(1, 2, 3, 4, 5, 6, 7, 8), "an operand of 8 fixed values"),
    "a token": (
        lambda x: torch.cat([torch.arange(12.0).view(1, 1, 1, 3, 4).expand(1, 3, 1, 3, 4), x], 2),
        "a learned one",
    ),
    "flipped": (lambda x: x.flip(2), "begins with the last frame of the clip"),
    "first frames of another": (lambda x: torch.cat([x[:, :, :1] * 2, x], 2), "takes frames by their place"),
}


@pytest.mark.parametrize(("function", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_depends_on_a_place_in_the_clip_is_refused(function: Callable[[Tensor], Tensor], reason: str) -> None:
    with pytest.raises(UnsupportedError) as refused:
        co3d_compile.compile(Function(function), CLIP)

    assert reason in str(refused.value)
