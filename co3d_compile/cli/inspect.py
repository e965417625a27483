"""``co3d-inspect cont.pt``"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from co3d_compile.api import load
from co3d_compile.cli.comparison import print_comparison
from co3d_compile.cli.exit_codes import Exit, exit_code_of
from co3d_compile.cli.pages import add_pages, require_places, write_pages
from co3d_compile.cli.printing import JSON, print_json, print_paper, print_report, progress
from co3d_compile.cli.values import OPS, depth, rules
from co3d_compile.network import Network

CONVENTION = "paper: operations and state as Hedegaard and Iosifidis (ECCV 2022) count them, in place of the report"


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is known of a compiled network, or what differs between two; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if len(options.network) > 2:
        parser.error("one network, or two to compare")
    if options.convention == "paper" and (options.depth is not None or len(options.network) > 1):
        parser.error("--convention paper: for one network, without --depth")
    if options.depth is not None and (options.json or len(options.network) > 1):
        parser.error("--depth: for the tables of one network; JSON has every depth")
    if (options.html or options.svg) and len(options.network) > 1:
        parser.error("--html and --svg: for one network")
    return exit_code_of(lambda: _inspect(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="co3d-inspect",
        description="Delay, receptive field, exactness, state and cost of a compiled network; of two: what differs.",
    )
    add = parser.add_argument
    add("network", nargs="+", metavar="FILE", help="a file that co3d-compile wrote; two are compared")
    add("--depth", type=depth, metavar="N", help="modules down to N names in place of layers, with sums")
    add("--ops", action="append", metavar="PACKAGE.MODULE:RULE", help=OPS)
    add("--convention", choices=("own", "paper"), default="own", help=CONVENTION)
    add("--json", action="store_true", help=JSON)
    add_pages(parser)
    return parser


def _inspect(options: argparse.Namespace) -> Exit:
    require_places(options)
    networks = [_read(path, options) for path in options.network]
    if len(networks) == 1:
        write_pages(networks[0].report, options.network[0], options)
    if options.convention == "paper":
        return _inspect_as_the_paper(networks[0], json=options.json)
    reports = [network.report for network in networks]
    match reports:
        case [first, second]:
            print_comparison((first, second), tuple(options.network), json=options.json)
        case [report] if options.json:
            print_json(report.to_dict())
        case [report]:
            print_report(report, options.depth)
    return Exit.DONE


def _inspect_as_the_paper(network: Network, *, json: bool) -> Exit:
    paper = network.accounting("paper")
    if json:
        print_json(paper.to_dict())
    else:
        print_paper(paper)
    return Exit.DONE


def _read(path: str, options: argparse.Namespace) -> Network:
    with progress("reading the network"):
        return load(path, ops=rules(options.ops or ()))
