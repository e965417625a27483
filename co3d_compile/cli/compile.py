"""``co3d-compile model.pt --out cont.pt``"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from co3d_compile.api import RATES, STARTS, compile
from co3d_compile.artifact import require_writable
from co3d_compile.capture.clip import ClipArgument
from co3d_compile.capture.source import LoadedModel
from co3d_compile.cli.exit_codes import Exit, exit_code_of
from co3d_compile.cli.models import add_model_options, compile_options, read_given, require_clips
from co3d_compile.cli.pages import add_pages, require_places, write_pages
from co3d_compile.cli.printing import JSON, print_json, print_report, progress, say
from co3d_compile.cli.values import elements, rules
from co3d_compile.network import Network
from co3d_compile.ops.operation import Operation
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
    add_model_options(parser)
    add("--window", type=elements, metavar="W", help="elements that a pool over the whole clip takes in the stream")
    add("--rate", choices=RATES, default="native", help="answers as the strided network gives them, or at every frame")
    add("--start", choices=STARTS, default="zeros", help="what stands before the first frame (default: zeros)")
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
    require_clips(parser, options)
    if os.path.realpath(options.out) == os.path.realpath(options.model):
        parser.error("--out is the model itself")


def _compile(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Exit:
    require_writable(options.out)
    require_places(options)
    # before the model: a file that calls an operator of one's own is read only where that is defined
    ops = rules(options.ops or ())
    loaded, clip = read_given(parser, options.model, options)
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
    return compile(
        loaded.model,
        clip,
        window=options.window,
        rate=options.rate,
        start=options.start,
        strict=options.strict,
        ops=ops,
        **compile_options(options),
    )


def _verification(network: Network, loaded: LoadedModel, options: argparse.Namespace) -> Verification | None:
    if not options.verify:
        return None
    if not network.report.exact:
        with progress("measuring what is approximate"):
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
