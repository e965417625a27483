"""One contender in a process of its own: builds its network, then takes turns.

``python -m benchmarks.worker step x3d_m 2`` prints ``ready``, then the milliseconds of one turn for each line it reads.
"""

from __future__ import annotations

import sys
import time
import warnings

import torch

from benchmarks.contenders import CONTENDERS


def main() -> None:
    contender, network, threads = sys.argv[1:4]
    warnings.simplefilter("ignore")
    torch.set_num_threads(int(threads))
    with torch.no_grad():
        predict = CONTENDERS[contender](network)
        predict()
        print("ready", flush=True)
        for line in sys.stdin:
            print(_milliseconds(predict, int(line)), flush=True)


def _milliseconds(predict: object, repetitions: int) -> float:
    """The mean of so many predictions in a row, after one to warm the caches."""
    assert callable(predict)
    predict()
    begin = time.perf_counter()
    for _ in range(repetitions):
        predict()
    return (time.perf_counter() - begin) / repetitions * 1e3


if __name__ == "__main__":
    main()
