"""How a command ends, the same for all of them."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from enum import IntEnum

from co3d_compile.errors import InputError, VerificationError


class Exit(IntEnum):
    """Exit codes, for scripts."""

    DONE = 0
    INPUT = 1  # what was given cannot be used
    USAGE = 2  # the command line is wrong (argparse ends with it by itself)
    DIFFERENCE = 3  # the verification found a difference
    BUG = 4  # anything else


def exit_code_of(command: Callable[[], Exit]) -> int:
    """Run a command; its errors become a text on stderr and an exit code."""
    try:
        return command()
    except InputError as error:
        return _ended(f"error: {error}", Exit.INPUT)
    except VerificationError as error:
        return _ended(f"difference: {error}", Exit.DIFFERENCE)
    except BrokenPipeError:
        # the reader of stdout has seen enough (| head); what is left to flush goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.DONE
    except Exception as error:  # the last line of defence: what gets here is our own mistake
        traceback.print_exc()
        return _ended(
            f"bug in co3d-compile: {type(error).__name__}: {error}\n"
            "  this is not your model's or your input's fault\n"
            "  try: report it with the traceback above and the model's layers",
            Exit.BUG,
        )


def _ended(text: str, code: Exit) -> int:
    print(text, file=sys.stderr)
    return code
