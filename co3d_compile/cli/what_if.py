"""``co3d-inspect model.pt --window 16,64 --size 160,224 --rate native,dense``: what each would cost."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import cast

from rich.console import Console

from co3d_compile.api import Rate, load, what_if
from co3d_compile.artifact import is_artifact
from co3d_compile.cli.exit_codes import Exit
from co3d_compile.cli.models import compile_options, read_given
from co3d_compile.cli.printing import print_json, progress
from co3d_compile.cli.values import frame_sizes, rates, rules, several_elements
from co3d_compile.errors import InputError
from co3d_compile.report.what_if import Scenario, to_dict
from co3d_compile.report.what_if_text import render_scenarios


def add_what_if_options(parser: argparse.ArgumentParser) -> None:
    """Lists of windows, sizes and rates."""
    group = parser.add_argument_group("what if", "a table of every combination, in place of the report")
    add = group.add_argument
    add("--window", type=several_elements, metavar="16,64", help="elements that a pool over the whole clip takes")
    add("--size", type=frame_sizes, metavar="160,128x171", help="height and width of the frames")
    add(
        "--rate",
        type=rates,
        metavar="native,dense",
        help="answers as the strided network gives them, or at every frame",
    )


def asks_what_if(options: argparse.Namespace) -> bool:
    return any((options.window, options.size, options.rate))


def print_what_if(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Exit:
    """One table for all files; an exit code that says whether there is every network that was asked for."""
    found = {path: _scenarios(parser, path, options) for path in options.network}
    if options.json:
        print_json(to_dict(found))
    else:
        Console(file=sys.stdout).print(render_scenarios(found))
    return Exit.DONE


def _scenarios(parser: argparse.ArgumentParser, path: str, options: argparse.Namespace) -> Sequence[Scenario]:
    windows, sizes = options.window or (None,), options.size or (None,)
    ops = rules(options.ops or ())
    if is_artifact(path):
        with progress("reading the network"):
            network = load(path, ops=ops)
        if options.rate and set(options.rate) != {network.report.rate}:
            raise InputError(
                f"{path}: compiled at the rate {network.report.rate!r}, which a compiled file keeps\n"
                "  try: --rate on the model file"
            )
        return network.what_if(windows=windows, sizes=sizes)
    loaded, clip = read_given(parser, path, options)
    asked = [cast(Rate, rate) for rate in options.rate or ("native",)]
    with progress("analysing"):
        return what_if(
            loaded.model, clip, windows=windows, sizes=sizes, rates=asked, ops=ops, **compile_options(options)
        )
