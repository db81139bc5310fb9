"""What a spec may say, as frozen models; the description of each field is the text of the JSON Schema and of the spec reference.

A model that is dumped is a valid spec again, with every default filled in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainSerializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema
from typing_extensions import TypeAliasType

from implicit_cli.spec import grammar, lists, outer
from implicit_cli.spec.grammar import DirectionSpec, HessianSpec, JacobianSpec, ProductSpec

V = TypeVar("V")
Solver = Literal[
    "auto",
    "accelerated_proximal_gradient",
    "anderson",
    "bfgs",
    "bisection",
    "block_coordinate_descent",
    "broyden",
    "clarabel",
    "dogleg",
    "fire",
    "fixed_point",
    "gauss_newton",
    "gradient_descent",
    "lbfgs",
    "lbfgsb",
    "levenberg_marquardt",
    "mirror_descent",
    "newton",
    "newton_cg",
    "nonlinear_cg",
    "projected_gradient",
    "proximal_gradient",
    "qp",
    "slsqp",
    "trust_constr",
]
LinearSolver = Literal[
    "auto", "lu", "cholesky", "qr", "svd", "sparse_lu", "sparse_cholesky", "cg", "minres", "gmres", "bicgstab", "lsmr"
]
DerivativeMethod = Literal["implicit", "unrolled", "finite_difference", "complex_step"]
Transform = Literal["identity", "log", "log10", "logit", "softplus"]


class _Strict(BaseModel):
    """Unknown keys are refused, a boolean is no number, a number with a point is no count, and nothing is NaN or infinite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class _Named(_Strict):
    """A model for which its bare name may stand."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        full = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [full["properties"]["name"], full]}


class _Checked:
    """A check of ours in place of pydantic's, which freezes what it takes; `thaw` undoes that in a dump.

    `written` is what a spec may say there, and only makes the JSON Schema.
    """

    def __init__(self, check: Callable[[Any], Any], written: Any, thaw: Callable[[Any], Any] = grammar.thaw) -> None:
        self.check, self.written, self.thaw = check, written, thaw

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda given, _: self.check(given),
            handler.generate_schema(self.written),
            serialization=core_schema.plain_serializer_function_ser_schema(self.thaw),
        )


Table = Annotated[Mapping[str, V], AfterValidator(MappingProxyType), PlainSerializer(grammar.thaw)]
Names = Annotated[
    tuple[str, ...] | None,
    _Checked(grammar.names, Annotated[list[str], Field(min_length=1, json_schema_extra={"uniqueItems": True})] | None),
]
Reference = Annotated[
    str,
    Field(pattern=grammar.REFERENCE, description="HDF5 reference 'file.h5:/path'; the file is looked for beside the spec"),
]
Numbers = TypeAliasType(
    "Numbers",
    "Annotated[list[float | Numbers], Field(min_length=1, description='Nested list of numbers, equally long in every row')]",
)


class Measured(_Strict):
    """A value with its unit, which must be the unit that the problem declares."""

    value: float | Numbers | Reference = Field(description="number, nested list of numbers, or HDF5 reference")
    unit: str = Field(min_length=1, description="symbol of the unit, '1' where there is none")


Value = TypeAliasType(
    "Value",
    Annotated[
        Any,
        _Checked(grammar.value, float | Numbers | Reference | Measured),
        Field(description="A number (fills the declared shape), a nested list, an HDF5 reference, or one of these with a unit"),
    ],
)
Labels = Annotated[
    str | tuple[str, ...],
    _Checked(grammar.labels, Annotated[list[str], Field(min_length=1)] | Reference),
]
Objective = Annotated[
    Any,
    _Checked(outer.objective, Annotated[str, Field(min_length=1)] | Annotated[dict[str, Value], Field(min_length=1)]),
]
Limits = Annotated[
    tuple[float | None, float | None],
    _Checked(outer.limits, Annotated[list[float | None], Field(min_length=2, max_length=2)]),
]
OptionValue = Annotated[bool | int | float | str, _Checked(grammar.option, bool | int | float | str)]
Memory = Annotated[int, _Checked(grammar.memory, Annotated[int, Field(ge=1)] | Annotated[str, Field(min_length=2)], int)]
Parts = Annotated[dict[str, Value], Field(min_length=1, description="value by quantity; what is left out is zero")]
Directions = Annotated[dict[str, Parts], Field(min_length=1, description="directions, by a name of your choice")]


class Jvp(_Strict):
    """Derivatives along directions of the parameters, J v: one linear solve for each. One more axis in front: many at once."""

    jvp: Directions


class Vjp(_Strict):
    """Derivatives of cotangents on unknowns and outputs, w' J: one linear solve for each. One more axis in front: many at once."""

    vjp: Directions


class Hessian(_Strict):
    """Second derivatives along directions of the parameters, D2 y [v, v]: two linear solves for each."""

    hessian: Directions


Products = Annotated[
    tuple[ProductSpec, ...],
    _Checked(grammar.products, list[Literal["jacobian", "hessian"] | Jvp | Vjp | Hessian], grammar.thaw_products),
]

Floats = Annotated[
    tuple[float, ...] | None,
    _Checked(lists.numbers, Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1)] | None),
]
Counts = Annotated[
    tuple[int, ...] | None,
    _Checked(lists.counts, Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=3)] | None),
]
_Index = Annotated[int, Field(ge=0)]
_Indices = Annotated[list[_Index], Field(json_schema_extra={"uniqueItems": True})]
Indices = Annotated[tuple[int, ...], _Checked(lists.indices, _Indices)]
Substitutes = Annotated[Mapping[str, tuple[int, ...]], _Checked(lists.substitutes, dict[str, _Index | _Indices])]
Points = Annotated[
    tuple[tuple[float, ...], ...],
    _Checked(lists.points, list[Annotated[list[float], Field(min_length=2, max_length=3)]]),
]
Species = Annotated[
    tuple[str, ...] | None,
    _Checked(
        lists.species,
        Annotated[str, Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, json_schema_extra={"uniqueItems": True})]
        | None,
    ),
]
Lattice = Literal["sc", "bcc", "fcc", "hcp", "diamond", "zincblende", "rocksalt", "square", "hexagonal"]


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


class SolverSpec(_Named):
    """How F(x, theta) = 0 is solved; a bare string is the solver's name."""

    name: Solver = Field(default="auto", description="forward solver; auto: the problem's own, else by the kind of condition")
    tol: float | None = Field(
        default=None, gt=0, description="largest |F| that counts as solved, in the units of F; left out: 1e-8, in float32 1e-4"
    )
    max_steps: int = Field(default=10_000, ge=1, description="steps after which the solver gives up")
    polish: bool = Field(default=True, description="Newton steps after the solver, down to rounding")


class LinearSpec(_Named):
    """How A u = b is solved; a bare string is the method's name."""

    name: LinearSolver = Field(
        default="auto", description="method; auto: by size, symmetry, sparsity pattern, number of right-hand sides and device"
    )
    tol: float = Field(default=1e-10, gt=0, lt=1, description="largest |A u - b| / |b| that counts as solved")
    max_steps: int | None = Field(
        default=None, ge=1, description="steps of an iterative method; left out: 10 per unknown, at least 1000"
    )
    escalate: bool = Field(
        default=True, description="where the method fails, go on to the next and say so; false: report the failure"
    )
    preconditioner: Literal["auto", "none", "block_jacobi"] = Field(
        default="auto", description="of an iterative method; auto: the problem's own, if it has one"
    )
    block: int = Field(default=1, ge=1, description="unknowns in a block of block_jacobi")
    ridge: float = Field(default=0.0, ge=0, description="solve with A + ridge I in place of A; the bias is in the bound")


class SensitivitySpec(_Strict):
    """Which derivatives, and how well."""

    of: Names = Field(default=None, description="unknowns and outputs to differentiate; left out: all")
    wrt: Names = Field(default=None, description="parameters to differentiate with respect to; left out: all")
    products: Products = Field(
        default_factory=lambda: (JacobianSpec(),),
        description="jacobian, hessian, {jvp: {NAME: {PARAMETER: VALUE}}}, {vjp: {NAME: {QUANTITY: VALUE}}} and "
        "{hessian: {NAME: {PARAMETER: VALUE}}}; an empty list only solves",
        json_schema_extra={"default": ["jacobian"]},
    )
    method: DerivativeMethod = Field(
        default="implicit",
        description="implicit: the theorem, with bounds; unrolled: through the solver's steps; finite_difference: by solving again "
        "nearby; complex_step: the theorem with A and B from complex numbers",
    )
    mode: Literal["auto", "forward", "adjoint"] = Field(
        default="auto", description="one solve per parameter component (forward) or per output component (adjoint); auto: the fewer"
    )
    linear_solver: LinearSpec = Field(default_factory=LinearSpec, description="linear solver of the derivatives")
    accuracy: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="largest bound allowed on a column of a derivative, relative to its largest column; tolerances are tightened "
        "until it is met; left out: 1e-6, in float32 1e-3",
    )
    one_sided: bool = Field(
        default=False,
        description="for each jvp also the derivatives of both sides, along v and along -v, which exist on a kink too",
    )
    corrected: bool = Field(
        default=False,
        description="add to each first derivative its error to first order, which leaves an error of second order in that of x",
    )
    memory: Memory = Field(
        default=2**30,
        description="bytes that the differentiation may take, such as '512 MiB'; right-hand sides go in chunks",
        json_schema_extra={"default": "1 GiB"},
    )


class RandomSpec(_Strict):
    """Particles at uniformly random places in a periodic cube, or square, whose side gives the packing fraction."""

    particles: int = Field(ge=1, le=100_000_000, description="number of particles")
    dimensions: int = Field(default=3, ge=2, le=3, description="dimensions of space")
    phi: float = Field(gt=0, description="packing fraction: the particles' area or volume, by that of the cell")
    diameters: Floats = Field(default=(1.0,), description="diameter of each species", json_schema_extra={"default": [1.0]})
    shares: Floats = Field(default=None, description="share of each species, whose sum is 1; left out: equal shares")

    @model_validator(mode="after")
    def _shares_fit(self) -> RandomSpec:
        many = len(self.diameters or ())
        if self.shares is not None and len(self.shares) != many:
            _refuse("shares", f"found {len(self.shares)} shares, allowed: {many}, one for each diameter")
        if self.shares is not None and abs(sum(self.shares) - 1) > 1e-9:
            _refuse("shares", f"found shares of sum {sum(self.shares):g}, allowed: of sum 1")
        return self


class StructureSpec(_Strict):
    """Particles and their cell, from a file, a lattice or at random; a bare string is a file name."""

    file: str | None = Field(
        default=None, min_length=1, description="extxyz, CIF, LAMMPS data, POSCAR or H5MD file; looked for beside the spec"
    )
    format: str | None = Field(
        default=None, min_length=1, description="format of the file, as ASE names it, or h5md; left out: by the name of the file"
    )
    frame: int | None = Field(default=None, ge=0, description="frame of a trajectory, counted from 0; left out: the last")
    group: str | None = Field(default=None, min_length=1, description="group in /particles of an H5MD file; left out: the only one")
    dimensions: int | None = Field(
        default=None, ge=2, le=3, description="2 drops the third coordinate of a file, which must be the same for all particles"
    )
    lattice: Lattice | None = Field(
        default=None, description="crystal in three dimensions, or `square` and `hexagonal` in two, with an orthogonal cell"
    )
    a: float | None = Field(default=None, gt=0, description="lattice constant")
    c: float | None = Field(default=None, gt=0, description="second lattice constant of hcp; left out: sqrt(8/3) a")
    random: RandomSpec | None = Field(default=None, description="particles at random places")
    repeat: Counts = Field(default=None, description="copies of the cell along each of its vectors")
    species: Species = Field(
        default=None, description="names of the species, in the order of their numbers; left out: those of the file, else A, B, ..."
    )
    interstitials: Points = Field(
        default=(),
        description="particles of the first species to add to a lattice, at these points in units of a",
        json_schema_extra={"default": []},
    )
    substitute: Substitutes = Field(
        default_factory=_nothing, description="species of particles to change: their indices, counted from 0, by name"
    )
    vacancies: Indices = Field(
        default=(), description="indices of particles to take out, counted from 0", json_schema_extra={"default": []}
    )
    rattle: float = Field(default=0.0, ge=0, description="standard deviation of a random displacement of each coordinate")

    @model_validator(mode="before")
    @classmethod
    def _from_file(cls, given: Any) -> Any:
        return {"file": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_source(self) -> StructureSpec:
        sources = [name for name in ("file", "lattice", "random") if getattr(self, name) is not None]
        if len(sources) != 1:
            found = " and ".join(f"'{name}'" for name in sources) or "no source"
            _refuse(None, f"found {found}, allowed: one of 'file', 'lattice', 'random'")
        owners = {"file": ("format", "frame", "group", "dimensions"), "lattice": ("a", "c", "interstitials")}
        for owner, keys in owners.items():
            for key in keys:
                if sources[0] != owner and getattr(self, key) not in (None, ()):
                    _refuse(key, f"found with '{sources[0]}', allowed: with '{owner}'")
        if self.lattice is not None and self.a is None:
            _refuse("lattice", "'a' is missing: the lattice constant")
        if self.c is not None and self.lattice != "hcp":
            _refuse("c", f"found with lattice '{self.lattice}', allowed: with 'hcp'")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        full = handler.resolve_ref_schema(handler(core_schema))
        return {"anyOf": [{"type": "string", "minLength": 1}, full]}


def _refuse(key: str | None, text: str) -> NoReturn:
    """Raise a fault at a key of the model, or at the model itself."""
    raise PydanticCustomError(grammar.FAULTS, "see the context", {"faults": [(() if key is None else (key,), text)]})


class OuterSpec(_Strict):
    """What `implicit optimize` minimises or maximises over parameters; `run` and the other commands only check it."""

    objective: Objective = Field(
        description="the scalar output to minimise or maximise; or {UNKNOWN or OUTPUT: TARGET}: the sum of weighted squared "
        "differences to the targets is minimised"
    )
    weights: Table[Value] = Field(
        default_factory=_nothing, description="weights of the squared differences, by quantity with a target; left out: 1"
    )
    sense: Literal["minimise", "maximise"] = Field(
        default="minimise", description="whether the objective ought to be small or large"
    )
    parameters: Names = Field(default=None, description="parameters that are varied; left out: sensitivity.wrt, else all")
    bounds: Table[Limits] = Field(
        default_factory=_nothing,
        description="[LOW, HIGH] for all entries of a parameter, null for none; left out: what the problem declares",
    )
    method: Literal["lbfgs", "adam", "gradient_descent"] = Field(
        default="lbfgs", description="lbfgs: L-BFGS-B with a line search; adam and gradient_descent: steps of a given length"
    )
    max_steps: int = Field(default=100, ge=1, description="outer steps after which to stop")
    tol: float = Field(default=1e-6, gt=0, description="largest 2-norm of the projected gradient that counts as an optimum")
    step: float | None = Field(
        default=None, gt=0, description="length factor of the steps of adam and gradient_descent; left out: 0.1"
    )
    decay: float | None = Field(
        default=None, ge=0, description="step k of adam and gradient_descent has the factor step / (1 + decay k); left out: 0"
    )
    momentum: float | None = Field(
        default=None, ge=0, lt=1, description="share of earlier gradients in a step; left out: 0 for gradient_descent, 0.9 for adam"
    )
    validation: str | None = Field(
        default=None, min_length=1, description="scalar output that is recorded at each step, better where the objective would be"
    )
    patience: int | None = Field(
        default=None, ge=1, description="stop after so many steps without a better validation, and take the step where it was best"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> OuterSpec:
        faults = outer.together(self)
        if faults:
            raise PydanticCustomError(grammar.FAULTS, "see the context", {"faults": faults})
        return self


class RunSpec(_Strict):
    """One problem, what goes into it, how it is solved, and which derivatives are wanted."""

    problem: str = Field(min_length=1, description="name of an installed problem, or './file.py:Class' relative to the spec")
    options: Table[OptionValue] = Field(default_factory=_nothing, description="the problem's fixed choices, by name")
    seed: int = Field(default=0, ge=0, description="seed of everything random")
    structure: StructureSpec | None = Field(
        default=None, description="particles and their cell, for a problem of particles: from a file, a lattice or at random"
    )
    data: Table[Value] = Field(default_factory=_nothing, description="what the problem is given, by name")
    parameters: Table[Value] = Field(default_factory=_nothing, description="what is differentiated with respect to, by name")
    initial: Table[Value] = Field(default_factory=_nothing, description="initial guess, by unknown")
    labels: Table[Labels] = Field(
        default_factory=_nothing,
        description="names of the entries of a dimension: a list, or an HDF5 reference",
    )
    transforms: Table[Transform] = Field(
        default_factory=_nothing,
        description="map p of theta = p(lambda) by parameter; derivatives are then with respect to lambda",
    )
    precision: Literal["float64", "float32"] = Field(
        default="float64", description="arithmetic of the solve and of the first derivatives; bounds are always found in float64"
    )
    refine: bool = Field(
        default=False, description="with float32: refine the solution and the derivatives in float64, with the factor in float32"
    )
    solver: SolverSpec = Field(default_factory=SolverSpec, description="how the problem is solved")
    sensitivity: SensitivitySpec = Field(default_factory=SensitivitySpec, description="which derivatives, and how well")
    outer: OuterSpec | None = Field(default=None, description="what `implicit optimize` minimises or maximises, and how")

    @model_validator(mode="after")
    def _refines_float32(self) -> RunSpec:
        if self.refine and self.precision == "float64":
            _refuse("refine", "found true, allowed: with precision: float32")
        return self

    @property
    def rough(self) -> bool:
        """True where numbers come out with the digits of float32."""
        return self.precision == "float32" and not self.refine

    @property
    def tol(self) -> float:
        """`solver.tol`, or its default in this precision."""
        return self.solver.tol if self.solver.tol is not None else 1e-4 if self.rough else 1e-8

    @property
    def accuracy(self) -> float:
        """`sensitivity.accuracy`, or its default in this precision."""
        asked = self.sensitivity.accuracy
        return asked if asked is not None else 1e-3 if self.rough else 1e-6


__all__ = [
    "DirectionSpec",
    "HessianSpec",
    "JacobianSpec",
    "LinearSpec",
    "OuterSpec",
    "RandomSpec",
    "RunSpec",
    "SensitivitySpec",
    "SolverSpec",
    "StructureSpec",
]
