"""Small models of the ways in which published video networks treat time, written as people write them.

Each function takes no argument and gives a model, its clip and what ``compile`` is told beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Entry = tuple[nn.Module, Any, dict[str, Any]]
CENSUS: dict[str, Callable[[], Entry]] = {}
CLIP = (1, 3, 8, 8, 8)


def entry(make: Callable[[], Entry]) -> Callable[[], Entry]:
    CENSUS[make.__name__] = make
    return make


class Head(nn.Module):
    def __init__(self, channels: int, classes: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mean((2, 3, 4)))


def conv(i: int, o: int, k: int = 3, s: int = 1) -> nn.Conv3d:
    return nn.Conv3d(i, o, (k, 3, 3), (s, 1, 1), (k // 2, 1, 1))


class Net(nn.Module):
    """Layers by name and a forward written as a function of them."""

    def __init__(self, run: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: Any) -> Any:
        return self.run(self, *inputs)


def net(run: Callable[..., Any], clip: Any = CLIP, options: dict[str, Any] | None = None, **layers: nn.Module) -> Entry:
    return Net(run, **layers), clip, options or {}


# --- index maps


@entry
def shift_by_slice_assignment() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        n, c, t, h, w = x.shape
        frames = x.transpose(1, 2).reshape(n * t, c, h, w)
        y = frames.view(n, t, c, h, w)
        fold = c // 4
        out = torch.zeros_like(y)
        out[:, :-1, :fold] = y[:, 1:, :fold]
        out[:, 1:, fold : 2 * fold] = y[:, :-1, fold : 2 * fold]
        out[:, :, 2 * fold :] = y[:, :, 2 * fold :]
        return m.head(m.conv(out.view(n * t, c, h, w)).view(n, t, -1, h, w).transpose(1, 2))

    return net(run, stem=conv(3, 8), conv=nn.Conv2d(8, 8, 3, padding=1), head=Head(8))


@entry
def shift_by_cat() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        left, right, rest = x[:, :2], x[:, 2:4], x[:, 4:]
        left = torch.cat([left[:, :, 1:], torch.zeros_like(left[:, :, :1])], 2)
        right = torch.cat([torch.zeros_like(right[:, :, :1]), right[:, :, :-1]], 2)
        return m.conv(torch.cat([left, right, rest], 1))

    return net(run, stem=conv(3, 8), conv=conv(8, 4))


@entry
def shift_by_pad() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        t = x.shape[2]
        padded = F.pad(x, (0, 0, 0, 0, 1, 1))
        return m.conv(torch.cat([padded[:, :2, :t], padded[:, 2:4, 2 : t + 2], padded[:, 4:, 1 : t + 1]], 1))

    return net(run, stem=conv(3, 8), conv=conv(8, 4))


@entry
def shift_by_roll_and_mask() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        later = torch.roll(x[:, :4], 1, 2)
        later[:, :, 0] = 0
        return m.conv(torch.cat([later, x[:, 4:]], 1))

    return net(run, stem=conv(3, 8), conv=conv(8, 4))


@entry
def differences_of_frames() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        d = x[:, :, 1:] - x[:, :, :-1]
        d = torch.cat([d, torch.zeros_like(d[:, :, :1])], 2)
        return m.head(m.conv(torch.cat([x, d], 1)))

    return net(run, stem=conv(3, 4), conv=conv(8, 4), head=Head(4))


@entry
def differences_in_front_of_everything() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.conv(x[:, :, 1:] - x[:, :, :-1])

    return net(run, conv=conv(3, 4))


@entry
def every_second_frame_of_a_pathway() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        slow, fast = m.slow(x[:, :, ::4]), m.fast(x)
        return m.linear(torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))

    return net(run, slow=conv(3, 8), fast=conv(3, 2), linear=nn.Linear(10, 4))


@entry
def uniform_index_select() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(m.conv(x.index_select(2, torch.arange(0, 8, 2))))

    return net(run, conv=conv(3, 4), head=Head(4))


@entry
def linspace_sampling() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        slow = torch.index_select(x, 2, torch.linspace(0, 7, 3).long())
        return m.head(m.conv(slow))

    return net(run, stem=conv(3, 4), conv=conv(4, 4), head=Head(4))


@entry
def the_last_frame() -> Entry:
    return net(lambda m, x: m.linear(m.stem(x)[:, :, -1].mean((2, 3))), stem=conv(3, 4), linear=nn.Linear(4, 3))


@entry
def the_middle_frame_against_all() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.linear(torch.cat([x[:, :, 4].mean((2, 3)), x.amax((2, 3, 4))], 1))

    return net(run, stem=conv(3, 4), linear=nn.Linear(8, 3))


@entry
def replicate_padding() -> Entry:
    layer = nn.Conv3d(3, 4, 3, padding=1, padding_mode="replicate")
    return net(lambda m, x: m.conv(m.stem(x).relu()), stem=layer, conv=conv(4, 4))


@entry
def reflect_padding() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.conv(F.pad(m.stem(x), (1, 1, 1, 1, 2, 2), mode="reflect"))

    return net(run, stem=conv(3, 4), conv=nn.Conv3d(4, 4, (5, 3, 3)))


@entry
def causal_padding_by_the_first_frame() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = torch.cat([x[:, :, :1].repeat(1, 1, 2, 1, 1), x], 2)
        return m.head(m.conv(x))

    return net(run, conv=nn.Conv3d(3, 4, (3, 3, 3), padding=(0, 1, 1)), head=Head(4))


@entry
def flipped_time() -> Entry:
    return net(lambda m, x: m.conv(m.stem(x).flip(2)), stem=conv(3, 4), conv=conv(4, 4))


@entry
def halves_of_the_clip() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        first, second = m.stem(x).chunk(2, 2)
        return m.linear((second - first).mean((2, 3, 4)))

    return net(run, stem=conv(3, 4), linear=nn.Linear(4, 3))


@entry
def segments_with_consensus() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        y = m.conv(x.transpose(1, 2).reshape(-1, c, h, w)).mean((2, 3))
        return m.linear(y).view(n, t, -1).mean(1)

    return net(run, conv=nn.Conv2d(3, 8, 3), linear=nn.Linear(8, 4))


# --- rates that go up


@entry
def encoder_decoder() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.out(m.up(m.pool(m.stem(x)).relu()))

    up = nn.ConvTranspose3d(4, 4, (4, 2, 2), stride=2, padding=(1, 0, 0))
    return net(run, stem=conv(3, 4), pool=nn.MaxPool3d(2), up=up, out=conv(4, 2))


@entry
def transposed_with_every_option() -> Entry:
    up = nn.ConvTranspose3d(
        4, 4, 3, stride=(3, 1, 1), padding=(2, 1, 1), output_padding=(1, 0, 0), dilation=(2, 1, 1), groups=2
    )
    return net(lambda m, x: m.out(m.up(m.stem(x))), stem=conv(3, 4), up=up, out=conv(4, 2))


@entry
def unet_with_trilinear_upsampling() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        a = m.one(x).relu()
        b = m.two(F.max_pool3d(a, 2)).relu()
        up = F.interpolate(b, scale_factor=2, mode="trilinear", align_corners=False)
        return m.out(torch.cat([a, up], 1))

    return net(run, one=conv(3, 4), two=conv(4, 4), out=conv(8, 2))


@entry
def unet_to_the_size_of_the_skip() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        a = m.one(x).relu()
        b = m.two(F.avg_pool3d(a, (4, 2, 2))).relu()
        return m.out(F.interpolate(b, size=a.shape[2:]) + a)

    return net(run, one=conv(3, 4), two=conv(4, 4), out=conv(4, 2))


@entry
def aligned_corners() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.out(F.interpolate(m.one(x), scale_factor=2, mode="trilinear", align_corners=True))

    return net(run, one=conv(3, 4), out=conv(4, 2))


@entry
def max_unpooling() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        y, places = F.max_pool3d(m.one(x), 2, return_indices=True)
        return m.out(F.max_unpool3d(m.two(y), places, 2))

    return net(run, one=conv(3, 4), two=conv(4, 4), out=conv(4, 2))


@entry
def adaptive_to_four() -> Entry:
    return net(
        lambda m, x: m.linear(m.pool(m.one(x)).flatten(1)),
        one=conv(3, 4),
        pool=nn.AdaptiveAvgPool3d((4, 1, 1)),
        linear=nn.Linear(16, 3),
    )


@entry
def adaptive_to_three() -> Entry:
    return net(
        lambda m, x: m.linear(m.pool(m.one(x)).flatten(1)),
        one=conv(3, 4),
        pool=nn.AdaptiveAvgPool3d((3, 1, 1)),
        linear=nn.Linear(12, 3),
    )


@entry
def time_into_channels_and_back() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        n, c, t, h, w = x.shape
        y = x.view(n, c, t // 2, 2, h, w).permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * c, t // 2, h, w)
        y = m.conv(y)
        y = y.view(n, c, 2, t // 2, h, w).permute(0, 1, 3, 2, 4, 5).reshape(n, c, t, h, w)
        return m.out(y + x)

    return net(run, stem=conv(3, 4), conv=conv(8, 8), out=conv(4, 2))


# --- layouts


@entry
def frames_before_channels() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        n, t, c, h, w = x.shape
        y = m.conv2d(x.view(-1, c, h, w))
        return m.conv(y.view(n, t, -1, h, w).permute(0, 2, 1, 3, 4))

    return net(run, (1, 8, 3, 8, 8), conv2d=nn.Conv2d(3, 4, 3, padding=1), conv=conv(4, 2))


@entry
def channels_last() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(m.conv(x.permute(0, 4, 1, 2, 3)))

    return net(run, (1, 8, 8, 8, 3), {"time_axis": 1}, conv=conv(3, 4), head=Head(4))


@entry
def time_folded_into_channels() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        return m.linear(m.conv(x.transpose(1, 2).flatten(1, 2)).mean((2, 3)))

    return net(run, stem=conv(3, 4), conv=nn.Conv2d(32, 8, 3), linear=nn.Linear(8, 3))


@entry
def conv1d_over_time_of_every_pixel() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        n, c, t, h, w = x.shape
        y = m.conv1d(x.permute(0, 3, 4, 1, 2).reshape(64, 4, 8))
        return m.head(y.view(n, h, w, c, t).permute(0, 3, 4, 1, 2))

    return net(run, stem=conv(3, 4), conv1d=nn.Conv1d(4, 4, 3, padding=1, groups=4), head=Head(4))


@entry
def skeletons() -> Entry:
    adjacency = torch.rand(5, 5)

    def run(m: Any, x: Tensor) -> Tensor:
        x = m.mix(x)
        x = torch.einsum("nctv,vw->nctw", x, adjacency)
        return m.linear(m.tcn(x).mean((2, 3)))

    return net(
        run,
        (2, 3, 12, 5),
        {"time_axis": 2},
        mix=nn.Conv2d(3, 4, 1),
        tcn=nn.Conv2d(4, 4, (5, 1), padding=(2, 0)),
        linear=nn.Linear(4, 3),
    )


@entry
def features_of_a_video() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.three(m.two(m.one(x).relu()).relu()).transpose(1, 2)

    return net(
        run,
        (1, 6, 16),
        {"time_axis": 2},
        one=nn.Conv1d(6, 4, 3, padding=1),
        two=nn.Conv1d(4, 4, 3, padding=2, dilation=2),
        three=nn.Conv1d(4, 2, 1),
    )


# --- whole-clip operations


@entry
def squeeze_and_excitation() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        gate = m.up(F.relu(m.down(x.mean((2, 3, 4), keepdim=True)))).sigmoid()
        return m.head(m.conv(x * gate))

    return net(run, stem=conv(3, 4), down=nn.Conv3d(4, 2, 1), up=nn.Conv3d(2, 4, 1), conv=conv(4, 4), head=Head(4))


@entry
def gate_by_view() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        n, c, *_ = x.size()
        y = m.fc(F.adaptive_avg_pool3d(x, 1).view(n, c)).view(n, c, 1, 1, 1)
        return m.head(x * y.expand_as(x))

    fc = nn.Sequential(nn.Linear(4, 2), nn.ReLU(), nn.Linear(2, 4), nn.Sigmoid())
    return net(run, stem=conv(3, 4), fc=fc, head=Head(4))


@entry
def group_norm_over_time() -> Entry:
    return net(lambda m, x: m.conv(m.norm(m.stem(x)).relu()), stem=conv(3, 4), norm=nn.GroupNorm(2, 4), conv=conv(4, 2))


@entry
def instance_norm_over_time() -> Entry:
    return net(
        lambda m, x: m.conv(m.norm(m.stem(x))), stem=conv(3, 4), norm=nn.InstanceNorm3d(4, affine=True), conv=conv(4, 2)
    )


@entry
def non_local_block() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        n, _c, t, h, w = x.shape
        theta, phi, g = (layer(x).view(n, 2, -1) for layer in (m.theta, m.phi, m.g))
        attention = torch.softmax(torch.matmul(theta.transpose(1, 2), phi), -1)
        y = torch.matmul(attention, g.transpose(1, 2)).transpose(1, 2).reshape(n, 2, t, h, w)
        return m.head(x + m.w(y))

    pointwise = {name: nn.Conv3d(4, 2, 1) for name in ("theta", "phi", "g")}
    return net(run, (1, 3, 8, 4, 4), stem=conv(3, 4), w=nn.Conv3d(2, 4, 1), head=Head(4), **pointwise)


@entry
def temporal_attention_pooling() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.stem(x).mean((3, 4)).transpose(1, 2)
        weight = torch.softmax(m.score(y), 1)
        return m.linear((weight * y).sum(1))

    return net(run, stem=conv(3, 4), score=nn.Linear(4, 1), linear=nn.Linear(4, 3))


@entry
def transformer_over_frames() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        y = m.conv(x.transpose(1, 2).reshape(n * t, c, h, w)).mean((2, 3)).view(n, t, -1)
        y = torch.cat([m.token.weight[None], y], 1)
        return m.linear(m.encoder(y)[:, 0])

    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0)
    return net(
        run,
        conv=nn.Conv2d(3, 8, 3),
        token=nn.Embedding(1, 8),
        encoder=nn.TransformerEncoder(layer, 2),
        linear=nn.Linear(8, 3),
    )


@entry
def multihead_attention_then_mean() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.stem(x).mean((3, 4)).transpose(1, 2)
        y = y + m.attention(y, y, y, need_weights=False)[0]
        return m.linear(y.mean(1))

    return net(run, stem=conv(3, 8), attention=nn.MultiheadAttention(8, 2, batch_first=True), linear=nn.Linear(8, 3))


@entry
def dynamic_temporal_kernel() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        n, c, t, h, w = x.shape
        kernel = m.make(x.mean((2, 3, 4))).softmax(-1).view(n * c, 1, 3, 1, 1)
        y = F.conv3d(x.reshape(1, n * c, t, h, w), kernel, padding=(1, 0, 0), groups=n * c)
        return m.head(y.view(n, c, t, h, w))

    return net(run, stem=conv(3, 4), make=nn.Linear(4, 12), head=Head(4))


@entry
def c3d_head() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.pool(m.stem(x).relu())
        return m.fc7(m.fc6(x.view(-1, 4 * 4 * 4 * 4)).relu())

    return net(run, stem=conv(3, 4), pool=nn.MaxPool3d(2), fc6=nn.Linear(256, 8), fc7=nn.Linear(8, 3))


@entry
def features_of_two_stages() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        a = m.one(x)
        b = m.two(a.relu())
        return m.linear(torch.cat([a.mean((2, 3, 4)), b.mean((2, 3, 4))], 1))

    return net(run, one=conv(3, 4, 3, 2), two=conv(4, 4, 3, 2), linear=nn.Linear(8, 3))


# --- recurrence


@entry
def cnn_lstm() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        n, c, t, h, w = x.shape
        y = m.conv(x.transpose(1, 2).reshape(n * t, c, h, w)).relu().mean((2, 3)).view(n, t, -1)
        out, _ = m.lstm(y)
        return m.linear(out[:, -1])

    return net(run, conv=nn.Conv2d(3, 6, 3), lstm=nn.LSTM(6, 5, 2, batch_first=True), linear=nn.Linear(5, 3))


@entry
def gru_with_its_last_state() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.stem(x).mean((3, 4)).permute(2, 0, 1)
        _, h = m.gru(y)
        return m.linear(h[-1])

    return net(run, stem=conv(3, 6), gru=nn.GRU(6, 5), linear=nn.Linear(5, 3))


@entry
def bidirectional_gru() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.stem(x).mean((3, 4)).transpose(1, 2)
        return m.linear(m.gru(y)[0].mean(1))

    return net(run, stem=conv(3, 6), gru=nn.GRU(6, 5, batch_first=True, bidirectional=True), linear=nn.Linear(10, 3))


@entry
def recurrent_loop() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        states = [x[:, :, 0]]
        for t in range(1, x.shape[2]):
            states.append((m.w(states[-1]) + x[:, :, t]) / 2)
        return m.head(torch.stack(states, 2))

    return net(run, stem=conv(3, 4), w=nn.Conv2d(4, 4, 1), head=Head(4))


@entry
def convolutional_gru_loop() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        state = torch.zeros(x.shape[0], 4, *x.shape[3:])
        for t in range(x.size(2)):
            both = torch.cat([x[:, :, t], state], 1)
            update, reset = m.gates(both).sigmoid().chunk(2, 1)
            new = m.candidate(torch.cat([x[:, :, t], reset * state], 1)).tanh()
            state = (1 - update) * state + update * new
        return m.linear(state.mean((2, 3)))

    gates, candidate = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1)
    return net(run, stem=conv(3, 4), gates=gates, candidate=candidate, linear=nn.Linear(4, 3))


@entry
def frames_one_by_one() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.conv(torch.stack([m.frame(x[:, :, t]).relu() for t in range(x.shape[2])], 2))

    return net(run, frame=nn.Conv2d(3, 4, 3, padding=1), conv=conv(4, 2))


@entry
def cumulative_mean() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        count = torch.arange(1, x.shape[2] + 1, dtype=x.dtype).view(1, 1, -1, 1, 1)
        return m.conv(x * (x.mean((3, 4), keepdim=True).cumsum(2) / count).sigmoid())

    return net(run, stem=conv(3, 4), conv=conv(4, 2))


@entry
def cumulative_sum() -> Entry:
    return net(
        lambda m, x: m.conv(m.stem(x).mean((3, 4), keepdim=True).cumsum(2)), stem=conv(3, 4), conv=nn.Conv3d(4, 2, 1)
    )


# --- several inputs and outputs, and what people do in Python


@entry
def two_pathways() -> Entry:
    def run(m: Any, pathways: list[Tensor]) -> Tensor:
        slow, fast = m.slow(pathways[0]), m.fast(pathways[1])
        slow = torch.cat([slow, m.lateral(fast)], 1)
        return m.linear(torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], 1))

    lateral = nn.Conv3d(2, 2, (5, 1, 1), (4, 1, 1), (2, 0, 0))
    return net(
        run,
        [(1, 3, 2, 8, 8), (1, 3, 8, 8, 8)],
        slow=conv(3, 4, 1),
        fast=conv(3, 2, 5),
        lateral=lateral,
        linear=nn.Linear(8, 3),
    )


@entry
def outputs_of_every_stage() -> Entry:
    def run(m: Any, x: Tensor) -> dict[str, Any]:
        a = m.one(x)
        b = m.two(a.relu())
        return {"fine": a, "coarse": [b, m.head(b)]}

    return net(run, one=conv(3, 4), two=conv(4, 4, 3, 2), head=Head(4))


@entry
def in_place_and_edited_lists() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        x[:, 0] = x[:, 1] * 2
        x += 1
        parts = [x]
        for _ in range(2):
            parts.append(m.conv(torch.cat(parts, 1)[:, -4:]).relu_())
        return torch.cat(parts, 1)

    return net(run, stem=conv(3, 4), conv=conv(4, 4))


@entry
def same_padding_from_sizes() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        pads: list[int] = []
        for size, k, s in zip(x.shape[2:], (5, 3, 3), (2, 1, 1), strict=True):
            total = max(k - s, 0) if size % s == 0 else max(k - size % s, 0)
            pads = [total // 2, total - total // 2, *pads]
        return m.conv(F.pad(x, pads))

    return net(run, conv=nn.Conv3d(3, 4, (5, 3, 3), (2, 1, 1)))


@entry
def shortcut_without_parameters() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        x = m.stem(x)
        y = m.two(m.one(x).relu())
        short = F.avg_pool3d(x, 1, (2, 1, 1))
        zeros = torch.Tensor(short.size(0), 4, *short.shape[2:]).zero_()
        return (y + torch.cat([short.data, zeros], 1)).relu()

    return net(run, stem=conv(3, 4), one=conv(4, 8, 3, 2), two=conv(8, 8))


@entry
def position_embedding_over_time() -> Entry:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.stem(x).mean((3, 4)).transpose(1, 2) + m.position.weight
        return m.linear(y.mean(1))

    return net(run, stem=conv(3, 4), position=nn.Embedding(8, 4), linear=nn.Linear(4, 3))
