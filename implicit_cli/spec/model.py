"""What a spec may say, as frozen models; the description of each field is the text of the JSON Schema and of the spec reference.

A model that is dumped is a valid spec again, with every default filled in.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from implicit_cli.spec import grammar
from implicit_cli.spec.fields import (
    Checked,
    Directions,
    Labels,
    Memory,
    Named,
    Names,
    OptionValue,
    Strict,
    Table,
    Value,
    nothing,
    refuse,
)
from implicit_cli.spec.formulas import FormulasSpec
from implicit_cli.spec.grammar import DirectionSpec, HessianSpec, JacobianSpec, ProductSpec
from implicit_cli.spec.outer import OuterSpec
from implicit_cli.spec.structure import RandomSpec, StructureSpec
from implicit_cli.spec.sweep import SweepSpec

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


class Jvp(Strict):
    """Derivatives along directions of the parameters, J v: one linear solve for each. One more axis in front: many at once."""

    jvp: Directions


class Vjp(Strict):
    """Derivatives of cotangents on unknowns and outputs, w' J: one linear solve for each. One more axis in front: many at once."""

    vjp: Directions


class Hessian(Strict):
    """Second derivatives along directions of the parameters, D2 y [v, v]: two linear solves for each."""

    hessian: Directions


Products = Annotated[
    tuple[ProductSpec, ...],
    Checked(grammar.products, list[Literal["jacobian", "hessian"] | Jvp | Vjp | Hessian], grammar.thaw_products),
]


class SolverSpec(Named):
    """How F(x, theta) = 0 is solved; a bare string is the solver's name."""

    name: Solver = Field(default="auto", description="forward solver; auto: the problem's own, else by the kind of condition")
    tol: float | None = Field(
        default=None, gt=0, description="largest |F| that counts as solved, in the units of F; left out: 1e-8, in float32 1e-4"
    )
    max_steps: int = Field(default=10_000, ge=1, description="steps after which the solver gives up")
    polish: bool = Field(default=True, description="Newton steps after the solver, down to rounding")


class LinearSpec(Named):
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


class SensitivitySpec(Strict):
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


class RunSpec(Strict):
    """One problem, what goes into it, how it is solved, and which derivatives are wanted."""

    problem: str = Field(min_length=1, description="name of an installed problem, or './file.py:Class' relative to the spec")
    options: Table[OptionValue] = Field(default_factory=nothing, description="the problem's fixed choices, by name")
    formulas: FormulasSpec | None = Field(
        default=None, description="the problem itself, in formulas: its quantities and what is solved; for problem: expression"
    )
    seed: int = Field(default=0, ge=0, description="seed of everything random")
    structure: StructureSpec | None = Field(
        default=None, description="particles and their cell, for a problem of particles: from a file, a lattice or at random"
    )
    data: Table[Value] = Field(default_factory=nothing, description="what the problem is given, by name")
    parameters: Table[Value] = Field(default_factory=nothing, description="what is differentiated with respect to, by name")
    initial: Table[Value] = Field(default_factory=nothing, description="initial guess, by unknown")
    labels: Table[Labels] = Field(
        default_factory=nothing,
        description="names of the entries of a dimension: a list, or an HDF5 reference",
    )
    transforms: Table[Transform] = Field(
        default_factory=nothing,
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
    sweep: SweepSpec | None = Field(
        default=None, description="what varies from case to case in a sweep, and how the cases are chosen"
    )

    @model_validator(mode="after")
    def _refines_float32(self) -> RunSpec:
        if self.refine and self.precision == "float64":
            refuse("refine", "found true, allowed: with precision: float32")
        return self

    @model_validator(mode="after")
    def _follows_a_branch(self) -> RunSpec:
        if self.sweep is None or self.sweep.continuation is None:
            return self
        faults: list[grammar.Fault] = []
        for keys, given, allowed in (
            (("precision",), self.precision, "float64"),
            (("sensitivity", "method"), self.sensitivity.method, "implicit"),
            (("solver", "polish"), self.solver.polish, True),
        ):
            if given != allowed:
                wanted, got = (str(value).lower() if isinstance(value, bool) else f"'{value}'" for value in (allowed, given))
                faults.append((keys, f"found {got} with sweep.continue: arc, allowed: {wanted}"))
        grammar.stop(faults)
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
    "SweepSpec",
]
