"""Between the problem's named arrays and the theorem's vectors: x in R^d, lambda in R^n (transformed parameters), y in R^m.

Parameters that are not differentiated travel with the data, so that they too are arguments of the compiled programs.
"""

from __future__ import annotations

import copy
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from implicit_cli.core.implicit import Point, System
from implicit_cli.core.linear.held import Factor
from implicit_cli.core.precision import float32
from implicit_cli.core.solvers import Goal, Limits
from implicit_cli.core.traceable import traced
from implicit_cli.core.transforms import TRANSFORMS
from implicit_cli.engine.bind import BoundProblem
from implicit_cli.engine.declaration import check, condition_of
from implicit_cli.engine.given import Array
from implicit_cli.errors import PluginError, listing
from implicit_cli.problem import Data, Derived, Output, Parameter, Prepared, Unknown


class Layout:
    """Named arrays laid end to end in one vector."""

    def __init__(self, names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.names = tuple(names)
        self.shapes = {name: shapes[name] for name in names}
        ends = list(accumulate((prod(shapes[name]) for name in names), initial=0))
        self.slices = {name: slice(a, b) for name, (a, b) in zip(names, pairwise(ends), strict=True)}
        self.size = ends[-1]

    def split(self, vector: Any) -> dict[str, Any]:
        """The named arrays in a vector (size,)."""
        return {name: vector[where].reshape(self.shapes[name]) for name, where in self.slices.items()}

    def join(self, arrays: Mapping[str, Any]) -> Any:
        """The vector of named arrays; what is missing is zero."""
        given = [arrays.get(name, np.zeros(self.shapes[name])) for name in self.names]
        if not any(isinstance(one, jax.Array) for one in given):
            return jnp.asarray(np.concatenate([np.ravel(np.asarray(one, dtype=float)) for one in given] or [np.zeros(0)]))
        return jnp.concatenate([jnp.ravel(jnp.asarray(one, dtype=float)) for one in given])

    def mask(self, masks: Mapping[str, Any]) -> Array:
        """Boolean vector of named masks; what is missing is False."""
        flat = np.zeros(self.size, dtype=bool)
        for name, where in self.slices.items():
            if name in masks:
                flat[where] = np.broadcast_to(np.asarray(masks[name], dtype=bool), self.shapes[name]).ravel()
        return flat


class Vectors:
    """A bound problem as F(x, lambda, data) and g(x, lambda, data) on vectors, compiled once for all cases of these shapes."""

    def __init__(self, bound: BoundProblem) -> None:
        problem = bound.problem
        self.problem, self.bound = problem, bound
        self.last_factor: list[Factor] = []
        self.data: Any
        self.start: jax.Array
        self.condition = condition_of(problem)
        self.x = Layout(bound.names(Unknown), bound.shapes)
        self.theta = Layout(bound.wrt, bound.shapes)
        self.outputs = list(bound.names(Output))
        self.y = Layout(self.outputs, bound.shapes)
        self._transforms = {name: TRANSFORMS[bound.variables[name].transform] for name in bound.names(Parameter)}
        self._X = _letter("x", bound.names(Unknown))
        self._Theta = _letter("theta", bound.names(Parameter))
        self.derived, self._prepared = tuple(problem.declared(Derived)), tuple(problem.declared(Prepared))
        self._Data = _letter("data", (*bound.names(Data), *self._prepared, *self.derived))
        self._take(bound, {}, dict.fromkeys(self.derived))
        if self.derived:
            self.data = self.refreshed(Point(self.initial(0), self.start, self.data)).data
        check(problem, self.condition, self.arguments, Point(jnp.zeros(self.x.size), self.start, self.data), self.x, self.y)
        self.system = System(self._F, self._g, symmetric=self.condition.symmetric)
        self.goal = self._goal()
        self.entries = self._entries if self.condition.entries is not None else None
        self.precondition = self._precondition if self.condition.precondition is not None else None

    def _take(self, bound: BoundProblem, known: Mapping[int, jax.Array], found: Mapping[str, Any]) -> None:
        """The values of a bound problem as arrays of the device; some are there already, `known` by their identity.

        `found` is what the problem has derived, and prepared unless its data are others than `known`.
        """

        def there(value: Array) -> jax.Array:
            here = known.get(id(value))
            return jnp.asarray(value) if here is None else here

        self.bound = bound
        named = {name: there(value) for name, value in bound.data.items()}
        still = {name: there(value) for name, value in bound.parameters.items() if name not in bound.wrt}
        if not found.keys() >= {*self._prepared} or not known.keys() >= {id(value) for value in bound.data.values()}:
            given = _letter("data", tuple(bound.data))(**bound.data)
            found = {**found, **self._found("prepare", self._prepared, self.problem.prepare(given))}
        self.data = (self._Data(**named, **found), still)
        self.start = jnp.asarray(self.lambda_of(bound))

    def lambda_of(self, bound: BoundProblem) -> Array:
        """lambda (n,) at the values of a bound problem."""
        given = {name: jnp.asarray(bound.parameters[name]) for name in bound.wrt}
        parts = [np.asarray(self._transforms[name].to_lambda(value)).ravel() for name, value in given.items()]
        return np.concatenate([*parts, np.zeros(0)])

    def moved(self, bound: BoundProblem, *, single: bool = False) -> Vectors:
        """The same problem at other values: names and shapes stay, so do the compiled programs, and those in float32 if `single`.

        What the problem derives from x is that of before, until a solver finds it anew.
        """
        # made once, before the copy
        _ = self.at, self.natural, self.margin, self.nothing
        other = copy.copy(self)
        data, still = self.data
        before = {**self.bound.data, **self.bound.parameters}
        there = {id(before[name]): value for name, value in {**data._asdict(), **still}.items() if name in before}
        other._take(bound, there, {name: getattr(data, name) for name in (*self._prepared, *self.derived)})
        if single:
            with float32():
                other.__dict__["single"] = self.single.moved(bound)
        return other

    @cached_property
    def natural(self) -> System:
        """The condition's natural map, where products such as lam g give way to min(lam, -g); else F itself."""
        c = self.condition
        return System(self._vector(c.natural), self._g) if c.natural is not None else self.system

    @cached_property
    def single(self) -> Vectors:
        """The same in float32: its data and its programs; to be used with JAX's x64 mode off only."""
        with float32():
            return Vectors(self.bound)

    @cached_property
    def margin(self) -> Callable[..., jax.Array] | None:
        """The condition's distance to its nearest kink, compiled; None where it has no kinks."""
        return None if self.condition.margin is None else eqx.filter_jit(self.condition.margin)

    @cached_property
    def nothing(self) -> jax.Array:
        """No directions in x (d, 0)."""
        return jnp.zeros((self.x.size, 0))

    # Named views

    def named_x(self, x: Any) -> Any:
        return self._X(**self.x.split(x))

    def named_theta(self, vector: Any, data: Any) -> Any:
        """theta = p(lambda), with the parameters that stay."""
        moved = {name: self._transforms[name].to_theta(value) for name, value in self.theta.split(vector).items()}
        return self._Theta(**data[1], **moved)

    def slope(self, vector: Any) -> Any:
        """dtheta/dlambda of the parameters asked for, entry by entry (n,)."""
        moved = {name: jax.grad(lambda v, f=transform.to_theta: jnp.sum(f(v))) for name, transform in self._transforms.items()}
        return self.theta.join({name: moved[name](value) for name, value in self.theta.split(vector).items()})

    def arguments(self, p: Point) -> tuple[Any, Any, Any]:
        """(x, theta, data) as the problem's methods want them."""
        return self.named_x(p.x), self.named_theta(p.theta, p.data), p.data[0]

    @cached_property
    def at(self) -> Callable[[Point], tuple[Any, Any, Any]]:
        """`arguments` as one compiled call, for what is not compiled itself."""
        return jax.jit(self.arguments)

    def initial(self, seed: int) -> jax.Array:
        """Initial guess: the spec's, else the problem's, else the declared fill value."""
        return self.guess(self.start, self.data, seed, self.bound.initial)

    def guess(self, theta: jax.Array, data: Any, seed: Any, given: Mapping[str, Any]) -> jax.Array:
        """`initial` at other values, with `given` as the spec's; its arguments may be traced."""
        p = Point(jnp.zeros(self.x.size), theta, data)
        _, named, inputs = self.arguments(p) if traced(theta, *jax.tree.leaves(data)) else self.at(p)
        declared = self.problem.declared(Unknown)
        guess: dict[str, Any] = {name: np.full(self.x.shapes[name], declared[name].initial) for name in self.x.names}
        own = dict(self.problem.initial(named, inputs, jax.random.key(seed)))
        for name, value in own.items():
            if name not in guess or jnp.shape(value) != self.x.shapes[name]:
                raise PluginError(
                    f"{type(self.problem).__name__}.initial: '{name}' has shape {jnp.shape(value)}, "
                    f"declared: {self.x.shapes.get(name, 'no such unknown')}"
                )
        return self.x.join(guess | own | dict(given))

    def refreshed(self, p: Point) -> Point:
        """p with what the problem derives from x found anew."""
        if not self.derived:
            return p
        found = self._found("derive", self.derived, self.problem.derive(*self.at(p)))
        return p._replace(data=(p.data[0]._replace(**found), p.data[1]))

    def _found(self, method: str, declared: Sequence[str], found: Mapping[str, Any]) -> dict[str, Any]:
        """What a method of the problem has found, as arrays of the device; raises PluginError where it is not what is declared."""
        if set(found) != set(declared):
            raise PluginError(f"{type(self.problem).__name__}.{method} gives {sorted(found)}, declared: {sorted(declared)}")
        return dict(jax.tree.map(jnp.asarray, dict(found)))

    def settled(self, p: Point) -> Point:
        """p, or an equivalent solution that the problem would rather have differentiated."""
        found = dict(self.problem.settle(*self.at(p)))
        if not found:
            return p
        return p._replace(x=self.x.join(self.x.split(np.asarray(p.x)) | found))

    # Vector functions

    def _F(self, x: Any, theta: Any, data: Any) -> Any:
        return self._vector(self.condition.F)(x, theta, data)

    def _vector(self, f: Any) -> Any:
        return lambda x, theta, data: self.x.join(f(*self.arguments(Point(x, theta, data)))._asdict())

    def _scalar(self, f: Any) -> Any:
        return lambda x, theta, data: f(*self.arguments(Point(x, theta, data)))

    def _g(self, x: Any, theta: Any, data: Any) -> Any:
        return self.y.join(self.problem.outputs(*self.arguments(Point(x, theta, data)))) if self.outputs else jnp.zeros(0)

    def _entries(self, p: Point) -> Any:
        """Values of A at the condition's pattern."""
        assert self.condition.entries is not None
        return self.condition.entries(*self.arguments(p))

    def _precondition(self, p: Point, U: Any) -> Any:
        """`M^-1 U`, column by column (d, k)."""
        apply, arguments = self.condition.precondition, self.arguments(p)
        assert apply is not None
        return jax.vmap(lambda r: self.x.join(apply(self.named_x(r), *arguments)._asdict()), in_axes=1, out_axes=1)(U)

    def _goal(self) -> Goal:
        """What the forward solvers see of the condition."""
        c = self.condition

        def flat(f: Any) -> Any:
            return lambda x, theta, data: ravel_pytree(f(*self.arguments(Point(x, theta, data))))[0]

        def operator(f: Any) -> Any:
            return lambda v, eta, theta, data: self.x.join(
                f(self.named_x(v), eta, self.named_theta(theta, data), data[0])._asdict()
            )

        def mirror(x: Any, g: Any, theta: Any, data: Any) -> Any:
            assert c.mirror is not None
            return self.x.join(c.mirror(self.named_x(x), self.named_x(g), self.named_theta(theta, data), data[0])._asdict())

        def bounds(theta: Any, data: Any) -> Any:
            assert c.bounds is not None
            blank = self.named_x(jnp.zeros(self.x.size))
            return tuple(self.x.join(side._asdict()) for side in c.bounds(blank, self.named_theta(theta, data), data[0]))

        def program(theta: Any, data: Any) -> Any:
            assert c.program is not None
            return c.program.data(self.named_theta(theta, data), data[0])

        ranges = {name: (where.start, where.stop) for name, where in self.x.slices.items()}
        limits = None
        if c.constraints is not None:
            nu, lam = c.constraints.nu, c.constraints.lam
            h, g = c.constraints.equality, c.constraints.inequality
            primal = tuple(part for name, part in ranges.items() if name not in (*nu, *lam))
            limits = Limits(flat(h) if h else None, flat(g) if g else None, primal, self._joined(nu), self._joined(lam))
        return Goal(
            self.system.F,
            f=self._scalar(c.objective) if c.objective else None,
            T=self._vector(c.mapping) if c.mapping else None,
            r=flat(c.residuals) if c.residuals else None,
            prox=operator(c.prox) if c.prox else None,
            mirror=mirror if c.mirror else None,
            blocks=tuple(ranges.values()) if c.blocks else (),
            bounds=bounds if c.bounds else None,
            limits=limits,
            program=program if c.program else None,
            refresh=self.refreshed if self.derived else None,
            stale=self._scalar(self.problem.stale) if self.derived else None,
            cones=c.program.cones if c.program else (),
        )

    def _joined(self, names: Sequence[str]) -> tuple[int, int]:
        """Where the multipliers of one kind of constraints begin and end in x."""
        parts = [self.x.slices[name] for name in names if name in self.x.slices] or [slice(0, 0)]
        if any(one.stop != other.start for one, other in pairwise(parts)):
            raise PluginError(f"{type(self.problem).__name__} declares other unknowns between {listing(names)}, its multipliers")
        return parts[0].start, parts[-1].stop


def _letter(name: str, fields: Sequence[str]) -> Any:
    """The named tuple in which a problem's methods receive one of the theorem's letters."""
    return namedtuple(name, fields)
