"""Results made by hand: m != n != d, odd sizes, a matrix parameter, scalars, two products by direction, masks, ragged histories."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from implicit_cli.result import (
    Axis,
    Bound,
    CaseResult,
    Certificate,
    Header,
    LinearReport,
    NullSpace,
    Product,
    SolverReport,
    Variable,
)
from implicit_cli.status import Status
from implicit_cli.store import write_result, write_verification
from implicit_cli.verdict import CaseVerdict, Finding, Verdict, Verification

FEATURES = ("age", "bmi", "s5")
SIZES = {"feature": 3, "sample": 5, "task": 2, "fold": 7}
AXES = {"w": ("feature",), "offset": (), "loss": ("fold",), "score": (), "penalty": ("feature", "task"), "scale": ()}


def shape(name: str) -> tuple[int, ...]:
    return tuple(SIZES[axis] for axis in AXES[name])


def filled(*sizes: int, begin: float = 1.0) -> np.ndarray:
    """Different numbers in every place, some negative."""
    count = int(np.prod(sizes))
    return ((begin + np.arange(count)) * (-1.0) ** np.arange(count)).reshape(sizes)


def bound(*columns: int, scale: float = 1e-9, kind: str = "bound") -> Bound:
    parts = [scale * (1 + np.arange(int(np.prod(columns)), dtype=float)).reshape(columns) * weight for weight in (1.0, 0.5, 0.25)]
    return Bound(sum(parts), *parts, kind=kind)


def make_header() -> Header:
    return Header(
        problem="ridge",
        summary="Ridge regression with a penalty per feature and task.",
        axes=(
            Axis("sample", 5),
            Axis("feature", 3, np.array(FEATURES)),
            Axis("task", 2),
            Axis("fold", 7, np.array([10, 20, 30, 40, 50, 60, 70])),
        ),
        unknowns=(Variable("w", AXES["w"], "mol", "weights"), Variable("offset", (), "mol", "offset")),
        parameters=(
            Variable("penalty", AXES["penalty"], "1", "penalty", "log"),
            Variable("scale", (), "K", "scale"),
        ),
        outputs=(Variable("loss", AXES["loss"], "J", "loss per fold"), Variable("score", (), "1", "")),
        data=(Variable("X", ("sample", "feature"), "m", "design"), Variable("count", ("sample",), "1", "")),
        inputs={"X": filled(5, 3), "count": np.arange(5)},
        spec_text="problem: ridge\nparameters: {penalty: 0.1}  # λ\n",
        spec_resolved='{"problem": "ridge"}',
        provenance={"jax": "0.10.1", "device": "cpu"},
    )


def make_case() -> CaseResult:
    """One good case with every kind of product."""
    products = [
        Product("jacobian", "", of, wrt, filled(*shape(of), *shape(wrt)), bound(*shape(wrt)))
        for of in ("w", "offset", "loss", "score")
        for wrt in ("penalty", "scale")
    ]
    products += [
        Product("hessian", "", of, a, filled(*shape(a), *shape(b)), bound(*shape(b), kind="estimate"), wrt2=b)
        for of in ("offset", "score")
        for a in ("penalty", "scale")
        for b in ("penalty", "scale")
    ]
    direction = {"penalty": np.ones((3, 2)), "scale": np.array(0.5)}
    products += [
        Product("hessian_along", "bend", of, "", filled(*shape(of)), bound(kind="estimate"), direction=direction)
        for of in ("w", "loss")
    ]
    products += [
        Product("jvp", "all_up", of, "", filled(*shape(of)), bound(kind="estimate"), direction=direction) for of in ("w", "loss")
    ]
    products += [
        Product(kind, "all_up", of, "", filled(*shape(of)), bound(kind="estimate"), direction=direction)
        for kind in ("jvp_left", "jvp_right")
        for of in ("w", "loss")
    ]
    cotangent = {"w": np.array([1.0, 0.0, 0.0]), "loss": np.ones(7)}
    products += [
        Product("vjp", "first", "", wrt, filled(*shape(wrt)), bound(), direction=cotangent) for wrt in ("penalty", "scale")
    ]
    return CaseResult(
        id="0",
        status=Status.OK,
        message="",
        theta={"penalty": filled(3, 2), "scale": np.array(300.0)},
        solution={"w": np.array([0.5, -2.0, 1.0]), "offset": np.array(4.0)},
        outputs={"loss": filled(7), "score": np.array(0.25)},
        products=tuple(products),
        solver=SolverReport("newton", Status.OK, 4, 1, 1e-10, 3e-15, np.array([1.0, 0.1, 1e-3, 1e-7, 3e-15])),
        linear=(
            LinearReport("forward", "cholesky", np.zeros(7, np.int8), np.full(7, 1e-16), np.ones(7, int)),
            LinearReport("adjoint", "cholesky", np.zeros(1, np.int8), np.array([2e-16]), np.ones(1, int)),
        ),
        certificate=Certificate(
            sigma_min=0.5,
            sigma_max=8.0,
            kappa=16.0,
            alpha=0.5,
            beta=1.0,
            gamma=3.0,
            norm_B=4.0,
            lipschitz=50.0,
            step=1e-12,
            h=1e-10,
            radius=2e-12,
            margin=np.inf,
            provenance={"sigma_min": "computed", "h": "estimated", "radius": "proved", "margin": "proved"},
        ),
        null_space=NullSpace(),
        seconds={"solve": 0.25, "certify": 0.5},
        bounds={"w": bound(), "offset": bound(), "loss": bound(kind="estimate"), "score": bound(kind="estimate")},
        accuracy=3e-9,
        swept={"seed": np.array(7)},
        start="tangent",
        basin="a",
        point="level",
    )


def make_floppy(case: CaseResult) -> CaseResult:
    """A second case: partial, with a null space, other lengths, and NaN where nothing is determined."""
    mask = {"w": np.array([False, True, False]), "offset": np.array(True)}
    products = []
    for product in case.products:
        value = product.value.astype(float).copy()
        if product.of == "w":
            value[1] = np.nan
        if product.of == "offset":
            value = np.full_like(value, np.nan)
        kept = "partial" if product.of in ("w", "offset") else "ok"
        products.append(dataclasses.replace(product, value=value, status=Status[kept.upper()]))
    return dataclasses.replace(
        case,
        id="floppy",
        status=Status.PARTIAL,
        message="1 rattler: w[1]",
        products=tuple(products),
        solver=SolverReport("fire", Status.OK, 8, 0, 1e-10, 5e-11, np.geomspace(1, 5e-11, 8)),
        linear=(LinearReport("forward", "cg", np.array([0, 5], np.int8), np.array([1e-11, 1e-3]), np.array([12, 99])),),
        certificate=dataclasses.replace(
            case.certificate, provenance={"sigma_min": "estimated", "h": "estimated", "radius": "computed"}
        ),
        null_space=NullSpace(3, ("translation_x", "translation_y"), {"rattler": mask}),
        seconds={"solve": 1.5},
    )


def make_verification(case: CaseResult, verdict: Verdict = Verdict.HOLDS) -> Verification:
    """A check of all products of one case, different in every number."""
    findings = tuple(
        Finding(p.kind, p.name, p.of, p.wrt, p.wrt2, verdict, f"note {i}", 3, i, f"column {i}", 1e-9 * i, 2e-9 * i, 1e-12, 2.0, 2.5)
        for i, p in enumerate(case.products, 1)
    )
    found = CaseVerdict(case.id, case.status.label, verdict, "of the case", 3e-15, 1e-10, 1e-12, 2e-12, 0.5, findings)
    return Verification((found,), 3, False, 7, {"jax": "0.12.0"})


@pytest.fixture
def header() -> Header:
    return make_header()


@pytest.fixture
def case() -> CaseResult:
    return make_case()


@pytest.fixture
def floppy(case: CaseResult) -> CaseResult:
    return make_floppy(case)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A result file with both cases, of which the first was verified; not to be changed."""
    path = tmp_path_factory.mktemp("finished") / "out.h5"
    case = make_case()
    write_result(path, make_header(), [case, make_floppy(case)])
    write_verification(path, path, make_verification(case))
    return path
