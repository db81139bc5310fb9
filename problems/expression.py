"""A problem that is written as formulas in the spec, for those who do not write Python."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from implicit_cli.core import Condition, fixed_point, kkt, root, stationary
from implicit_cli.errors import InputError
from implicit_cli.formula import CONSTANTS, Formula, Formulas, integer
from implicit_cli.problem import Data, Output, Parameter, Problem, Unknown

Array = jax.Array

OPERATORS: Mapping[type[ast.AST], Callable[..., Any]] = {
    ast.Add: jnp.add,
    ast.Sub: jnp.subtract,
    ast.Mult: jnp.multiply,
    ast.Div: jnp.divide,
    ast.Pow: jnp.power,
    ast.USub: jnp.negative,
    ast.UAdd: jnp.positive,
}
PAIRED = {"minimum": jnp.minimum, "maximum": jnp.maximum, "arctan2": jnp.arctan2}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{name: getattr(jnp, name) for name in ("abs", "sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tan")},
    **{name: getattr(jnp, name) for name in ("arcsin", "arccos", "arctan", "sinh", "cosh", "tanh")},
    **{name: getattr(jnp, name) for name in ("sum", "mean", "prod", "min", "max", "diff", "outer", "diag", "trace")},
    "erf": jax.scipy.special.erf,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "norm": lambda a, axis=None: jnp.sqrt(jnp.sum(a**2, axis=axis)),
    "logsumexp": lambda a, axis=None: jax.nn.logsumexp(a, axis=axis),
    "softmax": lambda a, axis=None: jax.nn.softmax(a, axis=axis),
    "cumsum": lambda a, axis=-1: jnp.cumsum(a, axis=axis),
    "dot": jnp.vdot,
    "det": jnp.linalg.det,
    "logdet": lambda A: jnp.linalg.slogdet(A)[1],
    "inv": jnp.linalg.inv,
    "solve": jnp.linalg.solve,
    **PAIRED,
}


class Expression(Problem):
    """A problem written as formulas: x* = argmin f(x, theta) subject to constraints, a root F(x, theta) = 0, or x = T(x, theta).

    The section `formulas` of the spec declares data, parameters and unknowns, and has one of `minimise` (with `subject_to`, if
    there are constraints), `equations` and `fixed_point`. Formulas are arithmetic over these arrays, shaped as in NumPy.
    """

    example = """\
problem: expression
formulas:
  parameters: {price: {shape: [good], doc: price of each good}, income: {doc: what is spent}}
  data: {taste: {shape: [good], doc: weight of each good}}
  unknowns: {x: {shape: [good], initial: 1.0, doc: amount of each good}}
  minimise: -sum(taste * log(x))
  subject_to: {budget: {formula: price @ x <= income, doc: what one more unit of income is worth}}
  outputs: {spent: {formula: price * x, shape: [good], doc: spent on each good}}
data: {taste: [1.0, 2.0, 1.0]}
parameters: {price: [1.0, 0.5, 2.0], income: 10.0}
"""

    @classmethod
    def from_formulas(cls, formulas: Formulas | None) -> type[Problem]:
        if formulas is None:
            raise InputError("missing, allowed: a mapping with 'unknowns' and one of 'minimise', 'equations' and 'fixed_point'")
        kinds = (formulas.data, formulas.parameters, formulas.unknowns, formulas.subject_to, formulas.outputs)
        taken = [name for kind in kinds for name in kind if hasattr(cls, name)]
        if taken:
            raise InputError([f"found the name '{name}', which problems use themselves, allowed: another one" for name in taken])
        declared: dict[str, Any] = {"__doc__": _summary(formulas), "__module__": cls.__module__, "formulas": formulas}
        for name, one in formulas.data.items():
            declared[name] = Data(shape=one.shape, unit=one.unit, doc=one.doc, dtype=one.dtype)
        for name, one in formulas.parameters.items():
            declared[name] = Parameter(shape=one.shape, unit=one.unit, doc=one.doc, bounds=one.bounds, default=one.fill)
        for name, one in formulas.unknowns.items():
            declared[name] = Unknown(shape=one.shape, unit=one.unit, doc=one.doc, bounds=one.bounds, initial=one.fill or 0.0)
        # multipliers of one kind stand together
        for name, one in sorted(formulas.subject_to.items(), key=lambda item: _sense(item[1].formula) != "=="):
            bounds = (None, None) if _sense(one.formula) == "==" else (0.0, None)
            declared[name] = Unknown(shape=one.shape, unit=one.unit, doc=one.doc or "multiplier of the constraint", bounds=bounds)
        for name, one in formulas.outputs.items():
            declared[name] = Output(shape=one.shape, unit=one.unit, doc=one.doc or str(one.formula and one.formula.text))
        return type(cls.__name__, (cls,), declared)

    def condition(self) -> Condition:
        f = self.formulas
        assert f is not None
        if f.minimise is not None:
            objective = self._scalar("minimise", f.minimise)
            if not f.subject_to:
                return stationary(objective)
            equal = tuple(name for name, one in f.subject_to.items() if _sense(one.formula) == "==")
            below = tuple(name for name in f.subject_to if name not in equal)
            return kkt(
                objective,
                self._constraints(equal) if equal else None,
                self._constraints(below) if below else None,
                nu=equal or "nu",
                lam=below or "lam",
            )
        if f.equations:
            return root(self._replaced("equations", f.equations))
        return fixed_point(self._replaced("fixed_point", f.fixed_point))

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        outputs = self.formulas.outputs if self.formulas is not None else {}
        return {name: self._value(("outputs", name), one.formula, x, theta, data).value for name, one in outputs.items()}

    def _value(self, keys: tuple[str, ...], formula: Formula | None, x: Any, theta: Any, data: Any) -> _Evaluation:
        assert self.formulas is not None
        assert formula is not None
        return _Evaluation(self.formulas.at("formulas", *keys), formula, x, theta, data)

    def _scalar(self, key: str, formula: Formula) -> Callable[..., Array]:
        return lambda x, theta, data: self._value((key,), formula, x, theta, data).shaped(())

    def _replaced(self, key: str, formulas: Mapping[str, Formula]) -> Callable[..., Any]:
        """x with each unknown replaced by the value of its formula."""

        def F(x: Any, theta: Any, data: Any) -> Any:
            values = {name: self._value((key, name), formula, x, theta, data) for name, formula in formulas.items()}
            return x._replace(**{name: value.shaped(getattr(x, name).shape) for name, value in values.items()})

        return F

    def _constraints(self, names: tuple[str, ...]) -> Callable[..., Any]:
        """The values of some constraints, each shaped like its multiplier."""
        constraints = self.formulas.subject_to if self.formulas is not None else {}

        def values(x: Any, theta: Any, data: Any) -> tuple[Array, ...]:
            found = ((name, self._value(("subject_to", name), constraints[name].formula, x, theta, data)) for name in names)
            return tuple(value.shaped(getattr(x, name).shape) for name, value in found)

        return values


def _sense(formula: Formula | None) -> str:
    return formula.sense if formula is not None else ""


def _summary(formulas: Formulas) -> str:
    """The problem on one line."""
    if formulas.minimise is not None:
        under = ", ".join(one.formula.text for one in formulas.subject_to.values() if one.formula is not None)
        text = f"argmin of {formulas.minimise.text}{f' subject to {under}' if under else ''}"
    elif formulas.equations:
        texts = [f.text if f.sense else f"{f.text} == 0" for f in formulas.equations.values()]
        text = f"root of {', '.join(texts)}"
    else:
        text = f"fixed point of {', '.join(f'{name} = {f.text}' for name, f in formulas.fixed_point.items())}"
    return f"{', '.join(formulas.unknowns)}* = {text}"


class _Evaluation:
    """The value of a formula at x, theta and data; of a comparison the difference that is zero, or at most zero.

    Raises InputError, with the place and the part of the formula, where shapes do not fit.
    """

    def __init__(self, place: str, formula: Formula, x: Any, theta: Any, data: Any) -> None:
        self.place, self.formula = place, formula
        self.named = {**CONSTANTS, **data._asdict(), **theta._asdict(), **x._asdict()}
        left = self._of(formula.left)
        if formula.right is not None:
            right = self._of(formula.right)
            sides = (right, left) if formula.sense == ">=" else (left, right)
            left = self._do(jnp.subtract, formula.left, *_aligned(*sides))
        self.value = left

    def shaped(self, shape: tuple[int, ...]) -> Array:
        """The value, which must have this shape."""
        if self.value.shape != shape:
            found, allowed = ("a single number" if not s else f"shape {s}" for s in (self.value.shape, shape))
            raise InputError(f"{self.place}: '{self.formula.text}' gives {found}, allowed: {allowed}")
        return self.value

    def _of(self, node: ast.expr) -> Array:
        match node:
            case ast.Constant(value=value):
                return jnp.asarray(float(value))
            case ast.Name(id=name):
                value = jnp.asarray(self.named[name])
                return value if jnp.issubdtype(value.dtype, jnp.floating) else value.astype(jnp.result_type(float))
            case ast.BinOp(left=left, op=ast.Pow(), right=right) if (power := integer(right)) is not None:
                return self._of(left) ** power
            case ast.BinOp(left=left, op=ast.MatMult(), right=right):
                return self._do(jnp.matmul, node, self._of(left), self._of(right))
            case ast.BinOp(left=left, op=op, right=right):
                return self._do(OPERATORS[type(op)], node, *_aligned(self._of(left), self._of(right)))
            case ast.UnaryOp(op=op, operand=operand):
                return self._do(OPERATORS[type(op)], node, self._of(operand))
            case ast.Attribute(value=value):
                return self._of(value).T
            case ast.Subscript(value=value, slice=where):
                entries = where.elts if isinstance(where, ast.Tuple) else [where]
                index = tuple(self._index(entry, node) for entry in entries)
                return self._do(_entries, node, self._of(value), index=index)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=keywords):
                arrays = [self._of(argument) for argument in arguments]
                more = {"axis": integer(keywords[0].value)} if keywords else {}
                return self._do(FUNCTIONS[name], node, *(_aligned(*arrays) if name in PAIRED else arrays), **more)
            case _:
                raise AssertionError(ast.dump(node))

    def _index(self, node: ast.expr, whole: ast.expr) -> Any:
        match node:
            case ast.Slice(lower=lower, upper=upper, step=step):
                return slice(*(integer(bound) for bound in (lower, upper, step)))
            case ast.Constant(value=None):
                return None
            case ast.Name(id=name):
                value = jnp.asarray(self.named[name])
                if not jnp.issubdtype(value.dtype, jnp.integer):
                    raise self._refused(whole, f"'{name}' is an index, allowed: data with dtype: int")
                return value
            case _:
                return integer(node)

    def _do(self, function: Callable[..., Any], node: ast.expr, *arrays: Array, **more: Any) -> Array:
        try:
            return jnp.asarray(function(*arrays, **more))
        except InputError:
            raise
        except (TypeError, ValueError, IndexError) as error:
            shapes = " and ".join(str(array.shape) for array in arrays)
            first = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise self._refused(node, f"found shape{'s' if len(arrays) > 1 else ''} {shapes}: {first}") from None

    def _refused(self, node: ast.expr, text: str) -> InputError:
        return InputError(f"{self.place}: {self.formula.at(node)}: {text}")


def _entries(array: Array, index: tuple[Any, ...]) -> Array:
    """array[index]; an entry that data ask for and that does not exist is NaN, and the case says so. Raises IndexError."""
    known = tuple(np.zeros(entry.shape, dtype=int) if isinstance(entry, jax.Array) else entry for entry in index)
    _ = np.broadcast_to(0.0, array.shape)[known]  # JAX would take the nearest entry instead
    return array.at[index].get(mode="fill", fill_value=jnp.nan)


def _aligned(*arrays: Array) -> tuple[Array, ...]:
    """Arrays with as many axes each: new ones come first, as in NumPy; single numbers stay as they are."""
    rank = max(array.ndim for array in arrays)
    return tuple(array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim else array for array in arrays)
