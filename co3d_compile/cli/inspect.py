"""``co3d-inspect cont.pt``"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from co3d_compile.api import load
from co3d_compile.cli.exit_codes import Exit, exit_code_of
from co3d_compile.cli.printing import print_json, print_report, progress
from co3d_compile.cli.values import OPS, rules


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is known of a compiled network; returns the exit code."""
    options = _parser().parse_args(argv)
    return exit_code_of(lambda: _inspect(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="co3d-inspect",
        description="Delay, receptive field, exactness, state and cost of a compiled network.",
    )
    parser.add_argument("network", help="a file that co3d-compile wrote")
    parser.add_argument("--ops", action="append", metavar="PACKAGE.MODULE:RULE", help=OPS)
    parser.add_argument("--report", choices=("text", "json"), default="text", help="tables or JSON (default: text)")
    return parser


def _inspect(options: argparse.Namespace) -> Exit:
    with progress("reading the network"):
        network = load(options.network, ops=rules(options.ops or ()))
    if options.report == "json":
        print_json(network.report.to_dict())
    else:
        print_report(network.report)
    return Exit.DONE
