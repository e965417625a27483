"""The ways in which published networks treat time: each streams as it should, and the original is the oracle."""

from __future__ import annotations

import pytest
import torch

import co3d_compile
from co3d_compile.testing.alive import make_alive, wandering_video
from tests.census import CENSUS

APPROXIMATE = {"squeeze_and_excitation", "gate_by_view", "group_norm_over_time", "instance_norm_over_time"}
"""Made from each frame where the original looks at the whole clip."""

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CENSUS)
def test_a_way_to_treat_time_streams(name: str) -> None:
    torch.manual_seed(0)
    model, clip, options = CENSUS[name]()
    shapes = clip if isinstance(clip, list) else [clip]
    videos = [wandering_video(shape, time_axis=options.get("time_axis", 2)) for shape in shapes]
    make_alive(model, videos if isinstance(clip, list) else videos[0])
    net = co3d_compile.compile(model, clip, **options)

    result = net.verify(model)

    assert result.passed, str(result)
    assert all(output.elements >= 2 and output.movement > 1e-3 for output in result.outputs), str(result)
    assert net.report.exact is (name not in APPROXIMATE)
