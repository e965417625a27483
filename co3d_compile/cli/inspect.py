"""``co3d-inspect cont.pt``, or a model file"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from co3d_compile.api import compile, load
from co3d_compile.artifact import is_artifact
from co3d_compile.cli.comparison import print_comparison
from co3d_compile.cli.exit_codes import Exit, exit_code_of
from co3d_compile.cli.models import add_model_options, compile_options, read_given, require_clips
from co3d_compile.cli.pages import add_pages, require_places, write_pages
from co3d_compile.cli.printing import JSON, print_json, print_paper, print_report, progress
from co3d_compile.cli.values import count, rules
from co3d_compile.cli.what_if import add_what_if_options, asks_what_if, print_what_if
from co3d_compile.network import Network

CONVENTION = "paper: operations and state as Hedegaard and Iosifidis (ECCV 2022) count them, in place of the report"


def main(argv: Sequence[str] | None = None) -> int:
    """Print what is known of a network, what differs between two, or what others would be; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    require_clips(parser, options)
    pages = options.html or options.svg
    if asks_what_if(options) and (options.convention == "paper" or options.depth is not None or pages):
        parser.error("--window, --size and --rate: a table of its own, without --convention, --depth, --html and --svg")
    if asks_what_if(options):
        return exit_code_of(lambda: print_what_if(parser, options))
    if len(options.network) > 2:
        parser.error("one network, or two to compare; more with --window, --size or --rate")
    if options.convention == "paper" and (options.depth is not None or len(options.network) > 1):
        parser.error("--convention paper: for one network, without --depth")
    if options.depth is not None and (options.json or len(options.network) > 1):
        parser.error("--depth: for the tables of one network; JSON has every depth")
    if pages and len(options.network) > 1:
        parser.error("--html and --svg: for one network")
    return exit_code_of(lambda: _inspect(parser, options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="co3d-inspect",
        description="Delay, receptive field, exactness, state and cost of a network; of two: what differs.",
    )
    add = parser.add_argument
    add(
        "network",
        nargs="+",
        metavar="FILE",
        help="what co3d-compile wrote, or a model file as co3d-compile takes it; two are compared",
    )
    add("--depth", type=count, metavar="N", help="modules down to N names in place of layers, with sums")
    add("--convention", choices=("own", "paper"), default="own", help=CONVENTION)
    add("--json", action="store_true", help=JSON)
    add_pages(parser)
    add_model_options(parser)
    add_what_if_options(parser)
    return parser


def _inspect(parser: argparse.ArgumentParser, options: argparse.Namespace) -> Exit:
    require_places(options)
    networks = [_read(parser, path, options) for path in options.network]
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


def _read(parser: argparse.ArgumentParser, path: str, options: argparse.Namespace) -> Network:
    """A compiled file's network, or what a model file's would be, not compared with the model."""
    ops = rules(options.ops or ())
    if is_artifact(path):
        with progress("reading the network"):
            return load(path, ops=ops)
    loaded, clip = read_given(parser, path, options)
    with progress("compiling"):
        return compile(loaded.model, clip, ops=ops, **compile_options(options))
