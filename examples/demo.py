"""Compile the embedded model, stream a real video file through it, and compare with the original: ``make demo``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.table import Table
from torch import Generator, Tensor

import co3d_compile
from co3d_compile import Network
from co3d_compile.errors import VerificationError
from co3d_compile.report.text import render_report
from moving_shapes.comparison import STRIDE, Comparison, compare
from moving_shapes.data import MOVEMENTS, moving_shapes
from moving_shapes.model import FRAMES, SIZE, MovementNet, trained
from moving_shapes.video import CODEC, RATE, VideoError, read_video, write_video

SCRIPT = ("right", "up", "still", "left", "down", "right")
FRAMES_EACH = 40
PICTURE = 2 * SIZE
"""The video that the demo writes: its movements, the frames of each, its height and width."""

FRAMES_AT_MOST = 600
"""The original sees the whole video at once for comparison, and that must fit in memory."""

ROWS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 1 if the video cannot be read, 3 if the compiled network's numbers are not the original's."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 110)
    try:
        run(console, options.out, options.video)
    except (VideoError, VerificationError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, VideoError) else 3
    return 0


def run(console: Console, folder: Path, video: Path | None = None, *, each: int = FRAMES_EACH) -> Comparison:
    """Print the whole story; files go to ``folder``.

    Raises:
        VideoError: the video cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = video or folder / "moving_shapes.mp4"
    if video is None:
        _write_own(console, given, each)
    frames = _frames(given)
    model = trained()
    network = _compiled(console, model, folder / "cont.pt")
    comparison = compare(model, network, frames)
    _print_predictions(console, comparison, given, None if video else each)
    _print_differences(console, comparison)
    _print_speed(console, comparison)
    console.rule("the report")
    console.print(render_report(network.report))
    return comparison


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, help="a video file of yours instead of the one that the demo writes")
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for what the demo writes")
    return parser


def _write_own(console: Console, path: Path, each: int) -> None:
    console.rule("a video")
    movements = [movement for movement in SCRIPT for _ in range(each)]
    write_video(path, moving_shapes(movements, PICTURE, Generator().manual_seed(7)))
    console.print(f"{path}: {len(movements)} frames of moving shapes and noise, {RATE} a second, encoded by {CODEC}")


def _frames(path: Path) -> list[tuple[float, Tensor]]:
    frames = list(islice(read_video(path, SIZE), FRAMES_AT_MOST))
    if len(frames) < FRAMES:
        raise VideoError(f"{path}: {len(frames)} frames, and a clip has {FRAMES}\n  try: a longer video")
    return frames


def _compiled(console: Console, model: MovementNet, path: Path) -> Network:
    """The network as it comes out of its file."""
    console.rule("compile")
    begin = perf_counter()
    compiled = co3d_compile.compile(model, (1, 3, FRAMES, SIZE, SIZE))
    console.print(f"compiled in {perf_counter() - begin:.1f} s")
    verification = compiled.verify(model)
    if not verification.passed:
        raise VerificationError(str(verification))
    console.print(str(verification))
    compiled.save(path)
    console.print(f"saved to {path} ({path.stat().st_size / 1000:.0f} kB), loaded from there")
    return co3d_compile.load(path)


def _print_predictions(console: Console, comparison: Comparison, path: Path, each: int | None) -> None:
    console.rule("predictions")
    rows = range(0, len(comparison.clips), -(-len(comparison.clips) // ROWS))
    table = Table(
        title=f"{path.name}: {len(rows)} of {len(comparison.stream)} predictions",
        caption="clip by clip: the original as it is, on a sliding window\n"
        "true neighbours: the original's layers on the whole video, its head on each window; gates per frame",
    )
    headers = ("clip", "came out at", "in the video", "clip by clip", "true neighbours", "stream")
    for header in headers if each else (*headers[:2], *headers[3:]):
        table.add_column(header)
    for n in rows:
        table.add_row(*_row(comparison, n, each))
    console.print(table)


def _row(comparison: Comparison, n: int, each: int | None) -> Iterator[str]:
    times = comparison.times
    first, last = STRIDE * n, STRIDE * n + FRAMES - 1
    yield f"{times[first]:6.2f} to {times[last]:.2f} s"
    yield f"{times[comparison.ticks[n]]:6.2f} s" if comparison.ticks[n] < len(times) else "after the end"
    if each:
        shown = dict.fromkeys(SCRIPT[frame // each] for frame in (first, last))
        yield ", then ".join(shown)
    for scores in (comparison.clips, comparison.whole, comparison.stream):
        best, movement = scores[n].softmax(0).max(0)
        yield f"{MOVEMENTS[movement]} {best:.3f}"


def _print_differences(console: Console, comparison: Comparison) -> None:
    console.print(
        f"stream and original with true neighbours: largest difference of a score {comparison.law_difference:.1e}, "
        f"while scores move by up to {comparison.movement:.2f} from one prediction to the next"
    )
    console.print(
        f"stream and original clip by clip: same class for {comparison.agreement:.1%} of "
        f"{len(comparison.clips)} clips, largest difference of a score {comparison.clip_difference:.2f}"
    )
    console.print(
        "The second is no error: a clip by itself has zeros where its neighbours are, its gates see the whole clip.\n"
        "In the stream the neighbours are there, and each gate sees one frame (the report says: approximate)."
    )


def _print_speed(console: Console, comparison: Comparison) -> None:
    console.rule("speed")
    original, stream = comparison.original_ms, comparison.stream_ms
    console.print(
        f"one prediction, median, one thread: original {original:.1f} ms for its clip of "
        f"{FRAMES} frames, stream {stream:.1f} ms for {STRIDE} new frames: {original / stream:.1f} times faster"
    )


if __name__ == "__main__":
    sys.exit(main())
