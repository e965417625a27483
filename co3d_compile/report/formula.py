"""Formulas as text, and back to sympy without running anything of what is read."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache

import sympy

from co3d_compile.errors import ArtifactError, InputError

WINDOW = sympy.Symbol("W", integer=True, positive=True)
"""Elements that each resizable window over the whole clip takes together: ``compile(window=W)``."""
BATCH = sympy.Symbol("B", integer=True, positive=True)
"""Streams in lockstep."""
HEIGHT = sympy.Symbol("H", integer=True, positive=True)
"""Of the input's frames."""
WIDTH = sympy.Symbol("X", integer=True, positive=True)
"""Of the input's frames (W is the window)."""

SYMBOLS: Mapping[str, sympy.Symbol] = {str(symbol): symbol for symbol in (WINDOW, BATCH, HEIGHT, WIDTH)}

FUNCTIONS: Mapping[str, Callable[..., sympy.Expr]] = {
    "Max": sympy.Max,
    "Min": sympy.Min,
    "floor": sympy.floor,
    "ceiling": sympy.ceiling,
}
OPERATORS: Mapping[type[ast.operator], Callable[..., sympy.Expr]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
LONGEST = 1 << 20
"""Characters; a network's longest formula has some thousands."""
LARGEST_POWER = 16


class Formula(str):
    """A number that depends on what a user can turn, as text: a sympy expression in ``W``, ``B``, ``H`` and ``X``.

    ``W``: the window; ``B``: streams in lockstep; ``H``, ``X``: height and width of the frames.
    """

    __slots__ = ()

    @property
    def expression(self) -> sympy.Expr:
        """The formula as sympy has it.

        Raises:
            ArtifactError: the text is no formula.
        """
        return _parsed(str(self))

    @property
    def names(self) -> frozenset[str]:
        """The letters that it depends on."""
        return frozenset(str(symbol) for symbol in self.expression.free_symbols)

    def subs(self, values: Mapping[str | sympy.Symbol, int] | None = None, **named: int) -> Formula:
        """The formula with some letters set: ``subs(W=64)``, or ``subs({"W": 64})``. ``int()`` makes it a number.

        Raises:
            InputError: there is no such letter.
        """
        turned = {str(name): value for name, value in (values or {}).items()} | named
        unknown = sorted(turned.keys() - SYMBOLS.keys())
        if unknown:
            raise InputError(f"a formula has no {', '.join(unknown)}\n  try: one of {', '.join(SYMBOLS)}")
        return Formula(self.expression.subs({SYMBOLS[name]: value for name, value in turned.items()}))

    def __int__(self) -> int:
        return int(self._number())

    def __float__(self) -> float:
        return float(self._number())

    def _number(self) -> sympy.Expr:
        if self.names:
            raise InputError(
                f"{self} is no number\n  try: subs({', '.join(f'{name}=...' for name in sorted(self.names))})"
            )
        return self.expression


@lru_cache(maxsize=256)
def _parsed(text: str) -> sympy.Expr:
    """Never ``sympify``, which evaluates: a formula may come from a file."""
    if len(text) > LONGEST:
        raise _damaged(text, "it is too long")
    try:
        return _expression(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as failure:
        raise _damaged(text, str(failure)) from failure


def _expression(tree: ast.expr) -> sympy.Expr:
    match tree:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            return sympy.Integer(number)
        case ast.Name(id=name) if name in SYMBOLS:
            return SYMBOLS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_expression(operand)
        case ast.BinOp(op=ast.Pow(), right=ast.Constant(value=int() as power)) if abs(power) > LARGEST_POWER:
            raise ValueError(f"a power of {power}")
        case ast.BinOp(left=left, op=ast.Pow() as made, right=ast.Constant(value=int()) as power):
            return OPERATORS[type(made)](_expression(left), _expression(power))
        case ast.BinOp(op=ast.Pow()):
            raise ValueError("a power that is no number")
        case ast.BinOp(left=left, op=made, right=right) if type(made) in OPERATORS:
            return OPERATORS[type(made)](_expression(left), _expression(right))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return FUNCTIONS[name](*(_expression(argument) for argument in arguments))
        case _:
            raise ValueError(f"{ast.dump(tree)[:40]} has no place in a formula")


def _damaged(text: str, reason: str) -> ArtifactError:
    return ArtifactError(f"{text[:40]!r} is no formula: {reason}\n  try: compile the model again")
