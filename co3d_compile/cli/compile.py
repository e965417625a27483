"""``co3d-compile model.pt --out cont.pt``"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from co3d_compile.api import RATES, STARTS, compile
from co3d_compile.artifact import require_writable
from co3d_compile.capture.clip import ClipArgument
from co3d_compile.capture.source import LoadedModel, read_model
from co3d_compile.cli.exit_codes import Exit, exit_code_of
from co3d_compile.cli.pages import add_pages, require_places, write_pages
from co3d_compile.cli.printing import JSON, print_json, print_report, progress, say
from co3d_compile.cli.values import OPS, clip_of, elements, policy, rules, see_working_folder, shapes
from co3d_compile.network import Network
from co3d_compile.ops.operation import Operation
from co3d_compile.passes.state.aims import PREFERENCES
from co3d_compile.passes.whole_clips.policies import POLICIES
from co3d_compile.verification.result import Verification

CODES = (
    "exit codes: 0 done; 1 what was given cannot be used; 2 wrong usage; "
    "3 the verification found a difference, and no file is written; 4 a bug of ours"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Compile a model file; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    _require_usable(parser, options)
    return exit_code_of(lambda: _compile(parser, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="co3d-compile",
        description="Turn a trained 3D CNN into a network that takes one frame at a time and answers the same.",
        epilog=CODES,
    )
    add = parser.add_argument
    add("model", help="a torch.export archive, TorchScript, or weights (with --model)")
    add("--out", required=True, metavar="FILE", help="where the compiled network goes")
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
    add("--window", type=elements, metavar="W", help="elements that a pool over the whole clip takes in the stream")
    add("--rate", choices=RATES, default="native", help="answers as the strided network gives them, or at every frame")
    add("--start", choices=STARTS, default="zeros", help="what stands before the first frame (default: zeros)")
    add("--prefer", choices=PREFERENCES, default="memory", help="what state is chosen for (default: memory)")
    add(
        "--policy",
        type=policy,
        action="append",
        metavar=f"PATTERN={'|'.join(POLICIES)}",
        help="how what looks at the whole clip is made, by path",
    )
    add("--ops", action="append", metavar="PACKAGE.MODULE:RULE", help=OPS)
    add("--strict", action="store_true", help="refuse whatever is only approximate")
    add(
        "--verify",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="compare with the model on a random video before writing (default: yes)",
    )
    add("--json", action="store_true", help=JSON)
    add_pages(parser)
    return parser


def _require_usable(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if len(options.clip or ()) > 1 and any(len(part) > 1 for part in options.clip):
        parser.error("--clip: either once, with commas for an argument that is a list, or once per argument")
    if os.path.realpath(options.out) == os.path.realpath(options.model):
        parser.error("--out is the model itself")


def _compile(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Exit:
    require_writable(options.out)
    require_places(options)
    if options.factory or options.trust_pickle:
        see_working_folder()
    # before the model: a file that calls an operator of one's own is read only where that is defined
    ops = rules(options.ops or ())
    with progress("reading the model"):
        loaded = read_model(options.model, factory=options.factory, trust_pickle=options.trust_pickle)
    clip = clip_of(options.clip) if options.clip else loaded.clip
    if clip is None:
        parser.error(f"--clip is needed: the file ({loaded.kind}) does not say which clip the model takes")
    with progress("compiling"):
        network = _network(loaded, clip, ops, options)
    verification = _verification(network, loaded, options)
    _print(network, verification, options)
    if verification is not None and not verification.passed:
        say(f"difference: {options.out} is not written\n  try: report it with the model; --no-verify writes it anyway")
        return Exit.DIFFERENCE
    network.save(options.out)
    say(f"{options.out}: written, {os.path.getsize(options.out):,} bytes, from {loaded.kind}")
    write_pages(network.report, options.out, options)
    return Exit.DONE


def _network(loaded: LoadedModel, clip: ClipArgument, ops: Sequence[Operation], options: argparse.Namespace) -> Network:
    axes = options.time_axis
    return compile(
        loaded.model,
        clip,
        window=options.window,
        rate=options.rate,
        start=options.start,
        policy=dict(options.policy or ()),
        prefer=options.prefer,
        strict=options.strict,
        time_axis=axes[0] if axes and len(axes) == 1 else axes,
        ops=ops,
    )


def _verification(network: Network, loaded: LoadedModel, options: argparse.Namespace) -> Verification | None:
    if not options.verify:
        return None
    if not network.report.exact:
        with progress("measuring what the policies change"):
            network.deviation(loaded.model)
    with progress("comparing with the original, frame by frame"):
        return network.verify(loaded.model)


def _print(network: Network, verification: Verification | None, options: argparse.Namespace) -> None:
    if options.json:
        found: dict[str, Any] | None = None if verification is None else verification.to_dict()
        print_json({"report": network.report.to_dict(), "verification": found})
        return
    print_report(network.report)
    print("not verified" if verification is None else str(verification))
