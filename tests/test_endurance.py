"""A long stream in a process of its own: its memory stays where it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.endurance import Reading, Wide, main
from co3d_compile.runtime.stream import Stream

pytestmark = pytest.mark.slow

FRAMES = 4000
READINGS = 8
BOUND = 16 * 2**20
"""Bytes by which memory may grow after the first reading; one element left behind at every tick
comes to more than three times that."""

LEAKING = """
from tests.test_endurance import leak, measure
leak()
measure()
"""


def measure() -> None:
    main(["--network", "wide", "--frames", str(FRAMES), "--readings", str(READINGS)])


def leak() -> None:
    """Let every push leave one element behind."""
    push, left = Stream.push, []

    def leaving(stream: Stream, frame: object) -> object:
        left.append(frame.clone())  # type: ignore[attr-defined]
        return push(stream, frame)  # type: ignore[arg-type]

    Stream.push = leaving  # type: ignore[method-assign,assignment]


def readings_of(script: str) -> list[Reading]:
    """What a fresh process measures."""
    root = Path(__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    return [Reading(**json.loads(line)) for line in run.stdout.splitlines()]


def test_an_element_is_large_enough_for_the_bound() -> None:
    batch, channels, _, height, width = Wide.shape
    element = 4 * batch * channels * height * width

    assert element * FRAMES * (READINGS - 1) // READINGS > 3 * BOUND


def test_the_peak_is_of_the_process_itself() -> None:
    held = torch.ones(2**30, dtype=torch.uint8)  # 1 GiB in the process that starts it

    first, *_ = readings_of("from tests.test_endurance import measure; measure()")

    assert first.resident <= first.peak < held.nbytes


def test_memory_and_state_of_a_long_stream_stay_as_they_are() -> None:
    first, *later = readings_of("from tests.test_endurance import measure; measure()")

    assert [reading.frames for reading in later] == list(range(2 * FRAMES // READINGS, FRAMES + 1, FRAMES // READINGS))
    assert {reading.state for reading in later} == {first.state}
    assert max(reading.resident for reading in later) < first.resident + BOUND
    assert later[-1].peak < first.peak + BOUND


def test_a_leak_of_one_element_per_tick_would_be_seen() -> None:
    first, *_, last = readings_of(LEAKING)

    assert last.resident > first.resident + 2 * BOUND
    assert last.peak > first.peak + 2 * BOUND
