"""Options that say which model a file holds and how it is taken, for every command that takes one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from co3d_compile.capture.clip import ClipArgument
from co3d_compile.capture.source import LoadedModel, read_model
from co3d_compile.cli.printing import progress
from co3d_compile.cli.values import OPS, clip_of, count, policy, see_working_folder, shapes
from co3d_compile.passes.state.aims import PREFERENCES
from co3d_compile.passes.state.narrowing import STATE_DTYPES
from co3d_compile.passes.whole_clips.policies import POLICIES


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """``--clip`` and what else a model file needs to become a network."""
    add = parser.add_argument
    add(
        "--clip",
        type=shapes,
        action="append",
        metavar="1x3x16x224x224",
        help="shape of the clip that the model takes; once per argument of the model, with commas for an argument that "
        "is a list; not needed where the file knows it",
    )
    add("--time-axis", type=int, action="append", metavar="N", help="axis of time, for all inputs or once for each")
    add("--model", dest="factory", metavar="PACKAGE.MODULE:FACTORY", help="makes the model that the weights belong to")
    add("--trust-pickle", action="store_true", help="unpickle the file, which runs the code in it")
    add("--prefer", choices=PREFERENCES, default="memory", help="what state is chosen for (default: memory)")
    add("--recompute", action="store_true", help="make elements again where that keeps less, for more MACs")
    add("--balance", action="store_true", help="of a strided network, make the heaviest tick as light as possible")
    add(
        "--extra-delay",
        type=count,
        default=0,
        metavar="N",
        help="ticks that outputs may be later, for that or for state",
    )
    add(
        "--state-dtype",
        choices=tuple(STATE_DTYPES),
        help="round what is held between ticks to it: half the bytes of float32, approximate (default: no rounding)",
    )
    add(
        "--policy",
        type=policy,
        action="append",
        metavar=f"PATTERN={'|'.join(POLICIES)}",
        help="how what looks at the whole clip is made, by path",
    )
    add("--ops", action="append", metavar="PACKAGE.MODULE:RULE", help=OPS)


def require_clips(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if len(options.clip or ()) > 1 and any(len(part) > 1 for part in options.clip):
        parser.error("--clip: either once, with commas for an argument that is a list, or once per argument")


def read_given(
    parser: argparse.ArgumentParser, path: str, options: argparse.Namespace
) -> tuple[LoadedModel, ClipArgument]:
    """The model in a file, and the clip that it takes.

    Raises:
        ModelFileError: there is no model in it.
    """
    if options.factory or options.trust_pickle:
        see_working_folder()
    with progress("reading the model"):
        loaded = read_model(path, factory=options.factory, trust_pickle=options.trust_pickle)
    clip = clip_of(options.clip) if options.clip else loaded.clip
    if clip is None:
        parser.error(f"--clip is needed: the file ({loaded.kind}) does not say which clip the model takes")
    return loaded, clip


def compile_options(options: argparse.Namespace) -> dict[str, Any]:
    """What these options say to ``compile``."""
    axes: Sequence[int] | None = options.time_axis
    return {
        "policy": dict(options.policy or ()),
        "prefer": options.prefer,
        "recompute": options.recompute,
        "state_dtype": options.state_dtype,
        "balance": options.balance,
        "extra_delay": options.extra_delay,
        "time_axis": axes[0] if axes and len(axes) == 1 else axes,
    }
