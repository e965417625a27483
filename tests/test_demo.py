"""The demo's claims, on its own video and on files that are none."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

import demo
import train
from moving_shapes.comparison import Comparison
from moving_shapes.data import MOVEMENTS, labelled_clips, moving_shapes
from moving_shapes.model import FRAMES, SIZE, trained
from moving_shapes.video import RATE, read_video, write_video

EACH = 20
"""Frames of each of the demo's movements: more than a clip has."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, str, Path]:
    """What the demo found, what it printed, where it wrote."""
    folder = tmp_path_factory.mktemp("demo")
    printed = StringIO()
    comparison = demo.run(Console(width=110, file=printed), folder, each=EACH)
    return comparison, printed.getvalue(), folder


@pytest.mark.slow
def test_the_stream_gives_what_the_original_gives_on_the_whole_video(shown: tuple[Comparison, str, Path]) -> None:
    comparison, _, _ = shown
    frames = len(demo.SCRIPT) * EACH

    assert len(comparison.times) == frames
    assert comparison.stream.shape == comparison.whole.shape == ((frames - FRAMES) // 2 + 1, len(MOVEMENTS))
    # the law's tolerance: 1e-4 of how far the original moves between elements
    assert comparison.law_difference < 1e-4 * comparison.movement
    assert comparison.movement > 0.1


@pytest.mark.slow
def test_a_prediction_comes_out_three_frames_after_its_clip(shown: tuple[Comparison, str, Path]) -> None:
    comparison, _, _ = shown

    assert comparison.ticks == tuple(2 * n + FRAMES + 2 for n in range(len(comparison.stream)))


@pytest.mark.slow
def test_clips_by_themselves_get_the_same_class(shown: tuple[Comparison, str, Path]) -> None:
    """Not the same numbers: a clip has padding at its ends, and its gates see all of it."""
    comparison, _, _ = shown

    assert comparison.agreement > 0.9


@pytest.mark.slow
def test_the_demo_prints_predictions_differences_speed_and_report(shown: tuple[Comparison, str, Path]) -> None:
    _, printed, folder = shown

    assert "equal to the original" in printed
    assert "right, then up" in printed
    assert "largest difference of a score" in printed
    assert "times faster" in printed
    assert "blocks.0.gate" in printed
    assert {path.name for path in folder.iterdir()} >= {"cont.pt", "moving_shapes.mp4"}


@pytest.mark.slow
def test_the_demo_takes_a_video_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "own.mp4"
    write_video(own, moving_shapes(["left"] * 24, 96, torch.Generator().manual_seed(3)))

    status = demo.main(["--video", str(own), "--out", str(tmp_path / "out")])

    assert status == 0
    assert "own.mp4: 5 of 5 predictions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"no video at all" * 100, "cannot be read as a video"),
    ],
)
def test_a_file_that_is_no_video_is_named(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "film.mp4"
    if content is not None:
        file.write_bytes(content)

    status = demo.main(["--video", str(file), "--out", str(tmp_path / "out")])

    assert status == 1
    assert f"error: {file}: {message}" in capsys.readouterr().err


def test_a_video_shorter_than_a_clip_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = tmp_path / "short.mp4"
    write_video(short, moving_shapes(["up"] * 5, SIZE, torch.Generator().manual_seed(0)))

    assert demo.main(["--video", str(short), "--out", str(tmp_path / "out")]) == 1
    assert "5 frames, and a clip has 16" in capsys.readouterr().err


def test_a_written_video_is_read_with_its_times_and_pictures(tmp_path: Path) -> None:
    video = moving_shapes(["down"] * 6, SIZE, torch.Generator().manual_seed(1))
    write_video(tmp_path / "video.mp4", video)

    times, frames = zip(*read_video(tmp_path / "video.mp4", SIZE), strict=True)

    assert times == pytest.approx([n / RATE for n in range(6)])
    # the codec blurs colours and noise
    assert (torch.stack(frames, 2)[0] - video).abs().mean() < 0.06


@pytest.mark.slow
def test_the_shipped_weights_know_the_movements() -> None:
    clips, labels = labelled_clips(40, FRAMES, SIZE, torch.Generator().manual_seed(99))

    assert train.accuracy(trained(), clips, labels) >= 0.9


@pytest.mark.slow
def test_training_runs_and_gives_a_network_that_is_ready_for_use() -> None:
    assert not train.train(2).training


def test_videos_are_seeded() -> None:
    one, other = (labelled_clips(2, 3, 32, torch.Generator().manual_seed(4)) for _ in range(2))

    torch.testing.assert_close(one, other, rtol=0, atol=0)
