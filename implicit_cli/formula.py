"""Formulas as text: arithmetic over named arrays, for problems that are written in a spec (`problem: expression`).

A formula is parsed, never executed: Python's own parser makes a tree of it, and each node must be one of those that are allowed
here: numbers, names, + - * / ** @, functions of `FUNCTIONS`, indices, `.T`. Nothing in it can name a module, an attribute or an
object of Python, and its length and depth are bounded before it is parsed. A problem gives the tree its numbers.

This module imports no JAX: a wrong formula is refused before anything heavy is loaded.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from implicit_cli.errors import listing, nearest

LONGEST, DEEPEST, LARGEST_INTEGER = 2000, 40, 2**53
"""Characters of a formula, how deep it may be nested, and the largest integer in it."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
CONSTANTS = {"pi": math.pi}
SENSES = {ast.Eq: "==", ast.LtE: "<=", ast.GtE: ">="}
OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.MatMult, ast.USub, ast.UAdd)


@dataclass(frozen=True)
class Signature:
    """How many arrays a function takes, whether `axis=N` may follow, and what it is."""

    arrays: int
    axis: bool
    doc: str


def _signatures() -> Iterator[tuple[str, Signature]]:
    for name in ("abs", "sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "arcsin", "arccos", "arctan"):
        yield name, Signature(1, False, "entry by entry")
    for name in ("sinh", "cosh", "tanh", "erf"):
        yield name, Signature(1, False, "entry by entry")
    yield "sigmoid", Signature(1, False, "1 / (1 + exp(-x)), entry by entry")
    yield "softplus", Signature(1, False, "log(1 + exp(x)), entry by entry")
    for name in ("minimum", "maximum"):
        yield name, Signature(2, False, f"the {'smaller' if name == 'minimum' else 'larger'} of two, entry by entry")
    yield "arctan2", Signature(2, False, "the angle of the point (second, first), entry by entry")
    for name in ("sum", "mean", "prod", "min", "max"):
        yield name, Signature(1, True, "over all entries, or along `axis`")
    yield "norm", Signature(1, True, "square root of the sum of squares, over all entries or along `axis`")
    yield "logsumexp", Signature(1, True, "log(sum(exp(x))), over all entries or along `axis`")
    yield "softmax", Signature(1, True, "exp(x) / sum(exp(x)), over all entries or along `axis`")
    yield "cumsum", Signature(1, True, "running sums, along `axis` (the last one if left out)")
    yield "diff", Signature(1, True, "differences of neighbours, along `axis` (the last one if left out)")
    yield "dot", Signature(2, False, "sum of the products of all entries of two arrays of one shape")
    yield "outer", Signature(2, False, "matrix of all products of two vectors")
    yield "diag", Signature(1, False, "diagonal of a matrix, or the diagonal matrix of a vector")
    yield "trace", Signature(1, False, "of a square matrix")
    yield "det", Signature(1, False, "of a square matrix")
    yield "logdet", Signature(1, False, "log |det A|")
    yield "inv", Signature(1, False, "inverse of a square matrix")
    yield "solve", Signature(2, False, "A^-1 b, for solve(A, b)")


FUNCTIONS: Mapping[str, Signature] = MappingProxyType(dict(_signatures()))
"""What a formula may call."""

_ALLOWED = "numbers, names, + - * / ** @, NAME(...), NAME[...], .T"


class FormulaFault(ValueError):
    """What is wrong with a formula, and where in it."""


@dataclass(frozen=True)
class Formula:
    """A formula that is well formed: an expression, or two with a comparison (`sense`) between them."""

    text: str
    sense: str = ""
    left: ast.expr = field(default_factory=lambda: ast.Constant(0.0), compare=False, repr=False)
    right: ast.expr | None = field(default=None, compare=False, repr=False)

    def names(self) -> Iterator[ast.Name]:
        """Each mention of a quantity."""
        for side in (self.left, self.right):
            for node in ast.walk(side) if side is not None else ():
                if isinstance(node, ast.Name) and not getattr(node, "called", False):
                    yield node

    def at(self, node: ast.expr) -> str:
        """`'exp(x)', character 5`: a part of the formula, in a message."""
        return f"'{_cut(ast.get_source_segment(self.text, node) or '')}', character {_character(self.text, node)}"


@dataclass(frozen=True)
class Named:
    """A quantity of an expression problem, as declared in a spec; `fill` is a parameter's default or an unknown's initial value."""

    shape: tuple[str | int, ...] = ()
    unit: str = "1"
    doc: str = ""
    bounds: tuple[float | None, float | None] = (None, None)
    fill: float | None = None
    dtype: str = "float"
    formula: Formula | None = None


@dataclass(frozen=True)
class Formulas:
    """A problem in formulas: quantities by name, and one of `minimise`, `equations` and `fixed_point` (formulas by unknown).

    Those of `outputs` and `subject_to` have a formula each; a constraint's name is that of its multiplier.
    """

    data: Mapping[str, Named]
    parameters: Mapping[str, Named]
    unknowns: Mapping[str, Named]
    outputs: Mapping[str, Named]
    subject_to: Mapping[str, Named]
    minimise: Formula | None
    equations: Mapping[str, Formula]
    fixed_point: Mapping[str, Formula]
    at: Callable[..., str] = field(default=lambda *keys: ".".join(keys), compare=False, repr=False)
    """Where in the spec some keys stand, for messages."""


def parse(text: str, *, comparison: str = "none") -> Formula:
    """The formula in `text`; with `comparison` "allowed" it may compare two sides by ==, with "needed" by ==, <= or >=.

    Raises FormulaFault.
    """
    if len(text) > LONGEST:
        raise FormulaFault(f"found {len(text)} characters, allowed: at most {LONGEST}")
    line = " ".join(text.split())
    for index, letter in enumerate(line):
        if letter in "#;\\\"'`{}$" or not letter.isascii() or not letter.isprintable():
            raise FormulaFault(f"found {letter!r}, character {index + 1}, allowed: {_ALLOWED}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(line, mode="eval").body
    except SyntaxError as error:
        hint = "; a product is written with *" if "decimal literal" in (error.msg or "") else ""
        hint = hint or ("; did you mean '=='?" if re.search(r"[^=<>!]=[^=]", line) and comparison != "none" else "")
        raise FormulaFault(f"found '{_cut(line)}', not a formula from character {error.offset or 1} on{hint}") from None
    except (MemoryError, RecursionError, ValueError):
        raise FormulaFault(f"found '{_cut(line)}', allowed: a formula that is nested at most {DEEPEST} deep") from None
    sense, sides = "", [tree]
    if isinstance(tree, ast.Compare):
        allowed = {"none": (), "allowed": ("==",), "needed": ("==", "<=", ">=")}[comparison]
        found = SENSES.get(type(tree.ops[0]), "")
        if len(tree.ops) > 1 or found not in allowed:
            wanted = f"one comparison by {listing(allowed)}" if allowed else "no comparison"
            raise FormulaFault(f"found '{_cut(line)}', allowed: {wanted}")
        sense, sides = found, [tree.left, tree.comparators[0]]
    elif comparison == "needed":
        raise FormulaFault(f"found '{_cut(line)}', allowed: a comparison such as 'sum(x) == 1' or 'x >= 0'")
    for side in sides:
        _check(side, line, 0)
    return Formula(line, sense, sides[0], sides[1] if sense else None)


def _check(node: ast.AST, text: str, depth: int) -> None:
    """Raise for the first node that is not allowed."""

    def refuse(what: str, allowed: str = _ALLOWED) -> FormulaFault:
        return FormulaFault(f"found {what}, character {_character(text, node)}, allowed: {allowed}")

    if depth > DEEPEST:
        raise refuse(f"a formula that is nested {depth} deep", f"at most {DEEPEST}")
    inner: list[ast.AST] = []
    match node:
        case ast.Constant(value=bool(value)):
            raise refuse(str(value))
        case ast.Constant(value=int(value)):
            if abs(value) > LARGEST_INTEGER:
                raise refuse("a large integer", "at most 2**53; write 1e20 for a number with a fraction")
        case ast.Constant(value=float(value)):
            if not math.isfinite(value):
                raise refuse("a number that is not finite")
        case ast.Name():
            pass
        case ast.BinOp(op=op) if isinstance(op, OPERATORS):
            inner = [node.left, node.right]
        case ast.BinOp(op=ast.BitXor()):
            raise refuse("^", f"{_ALLOWED}; did you mean **?")
        case ast.UnaryOp(op=op, operand=operand) if isinstance(op, OPERATORS):
            inner = [operand]
        case ast.Attribute(value=value, attr="T"):
            inner = [value]
        case ast.Subscript(value=value, slice=where):
            for entry in where.elts if isinstance(where, ast.Tuple) else [where]:
                _check_index(entry, text)
            inner = [value]
        case ast.Call():
            _check_call(node, text)
            inner = list(node.args)
        case ast.Compare():
            raise refuse("a comparison", f"{_ALLOWED}; a constraint compares two formulas once")
        case _:
            raise refuse(f"'{_cut(ast.get_source_segment(text, node) or '')}'")
    for part in inner:
        _check(part, text, depth + 1)


def _check_index(node: ast.AST, text: str) -> None:
    """An entry between brackets: an integer, a name of integer data, a slice, or None for a new axis."""
    match node:
        case ast.Slice():
            bounds = [bound for bound in (node.lower, node.upper, node.step) if bound is not None]
            if all(integer(bound) is not None for bound in bounds):
                return
        case ast.Constant(value=None) | ast.Name():
            return
        case _ if integer(node) is not None:
            return
    found = _cut(ast.get_source_segment(text, node) or "")
    raise FormulaFault(
        f"found '{found}', character {_character(text, node)}, allowed: an integer, a slice, None or a name of integer data"
    )


def _check_call(node: ast.Call, text: str) -> None:
    if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
        name = ast.get_source_segment(text, node.func) or ""
        hint = nearest(name.rpartition(".")[2], FUNCTIONS)
        raise FormulaFault(f"no function '{_cut(name)}', character {_character(text, node)}, allowed: {listing(FUNCTIONS)}{hint}")
    node.func.called = True  # type: ignore[attr-defined]
    signature, name = FUNCTIONS[node.func.id], node.func.id
    count = f"{signature.arrays} array{'s' if signature.arrays > 1 else ''}" + (" and axis=N" if signature.axis else "")
    axes = [keyword for keyword in node.keywords if keyword.arg == "axis" and integer(keyword.value) is not None]
    starred = any(isinstance(argument, ast.Starred) for argument in node.args)
    more = len(axes) != len(node.keywords) or len(axes) > signature.axis
    if len(node.args) != signature.arrays or more or starred:
        raise FormulaFault(f"found '{_cut(ast.get_source_segment(text, node) or '')}', allowed: {name} of {count}")


def integer(node: ast.AST | None) -> int | None:
    """The integer that a node is, or None."""
    match node:
        case ast.Constant(value=int(value)) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int(value))) if not isinstance(value, bool):
            return -value
        case _:
            return None


def _character(text: str, node: ast.AST) -> int:
    """Where a node begins, from 1: formulas are ASCII and on one line."""
    return getattr(node, "col_offset", 0) + 1


def _cut(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "..."
