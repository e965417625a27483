"""Video files, written and read frame by frame with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

CODEC = "libx264" if "libx264" in av.codecs_available else "mpeg4"
RATE = 25
"""Frames per second of what is written."""


class VideoError(Exception):
    """A file that cannot be read as a video."""


def write_video(path: Path, video: Tensor) -> None:
    """Encode ``(3, frames, height, width)`` of values from 0 to 1; height and width are even."""
    pictures = (video * 255).round().byte().permute(1, 2, 3, 0).contiguous().numpy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODEC, rate=RATE)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def read_video(path: Path, size: int) -> Iterator[tuple[float, Tensor]]:
    """The frames of any video file with their times in seconds: ``(1, 3, size, size)``, values from 0 to 1.

    Raises:
        VideoError: there is no such file, or it is no video.
    """
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise VideoError(f"{path}: no video in this file\n  try: a video file that ffmpeg can play")
            for place, frame in enumerate(container.decode(video=0)):
                picture = frame.reformat(width=size, height=size, format="rgb24").to_ndarray()
                yield _seconds(frame, place), _tensor(picture)
    except FileNotFoundError as failure:
        raise VideoError(f"{path}: no such file\n  try: the path of a video file") from failure
    except (av.FFmpegError, OSError) as failure:
        raise VideoError(f"{path}: cannot be read as a video: {failure.strerror}\n  try: another file") from failure


def _seconds(frame: av.VideoFrame, place: int) -> float:
    return place / RATE if frame.time is None else float(frame.time)


def _tensor(picture: np.ndarray) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
