"""The contract between `implicit` and a problem: what the author of a plug-in writes, and all that they need to know.

A problem is a class. It declares its quantities as class attributes, gives one optimality condition, and may say more:

    class Ridge(Problem):
        '''Ridge regression: w*(theta) = argmin_w |X w - y|^2 / (2 m) + theta/2 |w|^2.'''

        penalty = Parameter(bounds=(0, None), doc="regularisation")
        X = Data(shape=("sample", "feature"))
        y = Data(shape=("sample",))
        w = Unknown(shape=("feature",))

        def loss(self, x, theta, data):
            return jnp.mean((data.X @ x.w - data.y) ** 2) / 2 + theta.penalty / 2 * (x.w @ x.w)

        def condition(self):
            return stationary(self.loss)

Every method receives the theorem's letters: `x` (the unknowns), `theta` (the parameters) and `data`, each a named tuple of arrays
with the declared names. Dimension names in `shape` are the names of the axes in the result file; equal names mean equal sizes.

This module imports no JAX: declarations can be read, listed and checked without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, overload

from implicit_cli.errors import InputError, PluginError, listing, nearest

if TYPE_CHECKING:
    import jax

    from implicit_cli.core.conditions import Condition
    from implicit_cli.formula import Formulas

Shape = tuple[str | int, ...]
Bounds = tuple[float | None, float | None]
Q = TypeVar("Q")
TRANSFORMS = ("identity", "log", "log10", "logit", "softplus")


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A named array of a problem.

    `shape` names each axis (or gives its length), `unit` is a symbol ("1" where there is none), `bounds` are inclusive limits that
    every entry must keep, `doc` says what it means and `source` where the number or formula comes from.
    """

    shape: Shape = ()
    unit: str = "1"
    doc: str = ""
    source: str = ""
    bounds: Bounds = (None, None)
    name: str = field(default="", init=False)

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)


@dataclass(frozen=True, kw_only=True)
class Parameter(Quantity):
    """What the solution is differentiated with respect to (theta). `default` makes it optional in a spec.

    `transform` is the pre-processing map p of `theta = p(lambda)`: derivatives are then taken with respect to lambda.
    """

    default: float | None = None
    transform: str = "identity"


@dataclass(frozen=True, kw_only=True)
class Data(Quantity):
    """What the problem is given and not differentiated with respect to. `dtype` is "float" or "int".

    What is `optional` may be left out: it is then an array of no entries, and so is what has an axis of it.
    """

    dtype: str = "float"
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Unknown(Quantity):
    """What is solved for (x). `initial` fills the initial guess unless `Problem.initial` or the spec gives one."""

    initial: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Output(Quantity):
    """A post-processing quantity `y = g(x, theta)`, computed by `Problem.outputs`."""


@dataclass(frozen=True, kw_only=True)
class Derived:
    """What a problem finds for itself from x, such as a list of neighbours: a pytree of arrays, `data.NAME` in every method.

    `Problem.derive` computes it on the host, at the start and wherever `Problem.stale` says that the last one no longer serves. F
    must not depend on which x it was found at, as long as it is not stale.
    """

    doc: str = ""
    name: str = field(default="", init=False)

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)


@dataclass(frozen=True)
class Prepared:
    """What a problem finds for itself from its data alone, such as a norm: a pytree of arrays, `data.NAME` in every method.

    `Problem.prepare` computes it on the host, once for the same data, before anything else.
    """

    doc: str = ""
    name: str = field(default="", init=False)

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)


@dataclass(frozen=True)
class Option:
    """A fixed choice about the problem: a size, a variant, a mode. Inside the problem, `self.NAME` is the chosen value.

    The type is the default's; `choices` lists what is allowed, `minimum` bounds a number from below.
    An integer option also sizes the axis that bears its name.
    """

    default: Any
    doc: str = ""
    choices: tuple[Any, ...] | None = None
    minimum: float | None = None
    name: str = field(default="", init=False)

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)

    @overload
    def __get__(self, instance: None, owner: type) -> Option: ...
    @overload
    def __get__(self, instance: Problem, owner: type) -> Any: ...
    def __get__(self, instance: Problem | None, owner: type) -> Any:
        return self if instance is None else instance._options[self.name]

    def accept(self, value: Any) -> Any:
        """`value` as this option's type; raises ValueError with what was found and what is allowed."""
        kind = type(self.default)
        allowed = (int, float) if kind is float else (kind,)
        if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"found {value!r}, allowed: {_KINDS.get(kind, kind.__name__)}")
        value = kind(value)
        if self.choices is not None and value not in self.choices:
            raise ValueError(
                f"found {value!r}, allowed: {listing(map(str, self.choices))}{nearest(str(value), map(str, self.choices))}"
            )
        if self.minimum is not None and value < self.minimum:
            raise ValueError(f"found {value!r}, allowed: at least {self.minimum}")
        return value


_KINDS = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


class Constants(NamedTuple):
    """Constants of Theorem 1 that the problem can prove; None where it cannot.

    `alpha` bounds sigma_min(A) from below, `gamma` is a Lipschitz constant of A = dF/dx in x, `beta` one of B = dF/dtheta in x,
    all in the 2-norm and valid between the computed and the exact solution.
    """

    alpha: float | jax.Array | None = None
    gamma: float | jax.Array | None = None
    beta: float | jax.Array | None = None


class Problem:
    """Base of all problems; see the module docstring for the shape of one. Only `condition` must be written."""

    solver: ClassVar[str] = "auto"
    """Forward solver used when the spec does not name one."""

    example: ClassVar[str] = ""
    """An example spec, printed by `implicit problems show`."""

    formulas: ClassVar[Formulas | None] = None
    """What the spec's section `formulas` says, for a problem that is made of it."""

    def __init__(self, **options: Any) -> None:
        declared = self.declared(Option)
        for name in options:
            if name not in declared:
                raise PluginError(
                    f"{type(self).__name__}: no option '{name}', allowed: {listing(declared)}{nearest(name, declared)}"
                )
        self._options = {name: options.get(name, option.default) for name, option in declared.items()}

    def condition(self) -> Condition:
        """The mapping F whose root is the solution: `stationary(f)`, `root(F)` or `fixed_point(T)` of `implicit_cli.core`."""
        raise self.unwritten("condition(): return stationary(f), root(F) or fixed_point(T)")

    def unwritten(self, method: str) -> PluginError:
        """The error of a method that a subclass had to write, by its name and what it is to return."""
        return PluginError(f"{type(self).__name__} has no {method}")

    # What follows is optional.

    def initial(self, theta: Any, data: Any, key: jax.Array) -> Mapping[str, Any]:
        """Initial guess by unknown; what is left out is filled with `Unknown.initial`. `key` is a random key of the spec's seed."""
        return {}

    def outputs(self, x: Any, theta: Any, data: Any) -> Mapping[str, Any]:
        """The declared `Output`s, by name, as a differentiable function of solution and parameters."""
        return {}

    def null_space(self, x: Any, theta: Any, data: Any) -> Mapping[str, Mapping[str, Any]]:
        """Known symmetries: for each gauge's name, the direction by unknown name along which F does not change."""
        return {}

    def undetermined(self, x: Any, theta: Any, data: Any) -> Mapping[str, Mapping[str, Any]]:
        """Components that the condition leaves free: boolean masks by unknown, under the name of the reason ("rattler")."""
        return {}

    def settle(self, x: Any, theta: Any, data: Any) -> Mapping[str, Any]:
        """Unknowns of an equivalent solution that is farther from a kink, as far as components are free; empty: x as it is."""
        return {}

    def margin(self, x: Any, theta: Any, data: Any) -> Any:
        """Distance in x (2-norm) to the nearest kink of F; infinite for a smooth F."""
        return float("inf")

    def prepare(self, data: Any) -> Mapping[str, Any]:
        """The declared `Prepared`s, by name; `data` holds the NumPy arrays that were given."""
        return {}

    def derive(self, x: Any, theta: Any, data: Any) -> Mapping[str, Any]:
        """The declared `Derived`s, by name, at this x; on the host, not differentiated.

        Raises `errors.RanAway` where x is so far off that they cannot be found: a solve ends there.
        """
        return {}

    def stale(self, x: Any, theta: Any, data: Any) -> Any:
        """True where what was derived no longer serves at this x and theta; under `jax.jit`. One more step must still be safe."""
        return False

    def constants(self, theta: Any, data: Any) -> Constants:
        """Constants of Theorem 1 that hold by proof; they sharpen the certificate and are labelled `proved`."""
        return Constants()

    @classmethod
    def from_formulas(cls, formulas: Formulas | None) -> type[Problem]:
        """The class for a spec with this section `formulas` (None: without one): a problem that takes one makes its class of it.

        Raises InputError where it cannot.
        """
        if formulas is not None:
            raise InputError(f"found with {cls.__name__}, which is written in Python, allowed: with problem: expression")
        return cls

    # What `implicit` reads.

    @classmethod
    def declared(cls, kind: type[Q]) -> dict[str, Q]:
        """The class's declarations of one kind (`Parameter`, `Data`, ...), base classes first, in the order written."""
        found: dict[str, Q] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if isinstance(value, kind):
                    found[name] = value
                else:
                    found.pop(name, None)
        return found

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Axis lengths that the options fix."""
        return {name: value for name, value in self._options.items() if isinstance(value, int) and not isinstance(value, bool)}
