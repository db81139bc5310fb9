"""`implicit compare` as a user meets it: files made by hand for every verdict, and real runs that ought to agree or differ."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from implicit_cli import api, store
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

FEATURES = ("age", "bmi", "s5")
HEADER = Header(
    problem="ridge",
    summary="Ridge regression.",
    axes=(Axis("feature", 3, np.array(FEATURES)), Axis("task", 2), Axis("sample", 5)),
    unknowns=(Variable("w", ("feature",), "mol", "weights"), Variable("offset", (), "mol", "offset")),
    parameters=(Variable("penalty", ("feature",), "1", "penalty", "log"), Variable("mix", ("task",), "1", "mix")),
    outputs=(Variable("loss", (), "J", "loss"), Variable("fit", ("sample",), "J", "fit")),
    data=(Variable("X", ("sample", "feature"), "m", "design"),),
    inputs={"X": np.arange(15.0).reshape(5, 3)},
    spec_text="problem: ridge\n",
    spec_resolved=json.dumps({"problem": "ridge", "solver": {"tol": 1e-10, "name": "lbfgs"}, "data": {"X": "x.h5:/X"}}),
    provenance={"jax": "0.10.1", "device": "cpu", "started": "2026-10-01T12:00:00Z"},
)
SIZES = {"w": (3,), "offset": (), "penalty": (3,), "mix": (2,), "loss": (), "fit": (5,)}
CERTIFICATE = Certificate(
    **{entry.name: 1.0 for entry in dataclasses.fields(Certificate) if entry.name not in ("provenance", "radius")},
    radius=1e-6,
    provenance={"radius": "computed"},
)


def numbers(*shape: int) -> np.ndarray:
    """Different numbers everywhere, of either sign."""
    return np.cos(np.arange(1.0, 1 + math.prod(shape))).reshape(shape)


def product(kind: str, name: str, of: str, wrt: str, wrt2: str = "", many: int = 0, **others) -> Product:
    match kind:
        case "jacobian":
            shape, columns = (*SIZES[of], *SIZES[wrt]), SIZES[wrt]
        case "hessian":
            shape, columns = (*SIZES[wrt], *SIZES[wrt2]), SIZES[wrt2]
        case _:
            columns = (many,) if many else ()
            shape = (*columns, *SIZES[wrt if kind == "vjp" else of])
    total = np.full(columns, 1e-6)
    direction = {}
    if kind in ("jvp", "vjp", "hessian_along"):
        part = "penalty" if kind != "vjp" else "w"
        direction = {part: np.ones((*columns, *SIZES[part]))}
    return Product(
        kind, name, of, wrt, numbers(*shape), Bound(total, total, 0 * total, 0 * total), direction=direction, wrt2=wrt2, **others
    )


CASE = CaseResult(
    id="0",
    status=Status.OK,
    message="",
    theta={"penalty": np.array([0.1, 0.2, 0.3]), "mix": np.array([1.0, 2.0])},
    solution={"w": np.array([0.5, -2.0, 1.0]), "offset": np.array(4.0)},
    outputs={"loss": np.array(0.25), "fit": numbers(5)},
    products=(
        product("jacobian", "", "w", "penalty"),
        product("jacobian", "", "loss", "mix"),
        product("jvp", "up", "w", ""),
        product("jvp", "all", "w", "", many=4),
        product("vjp", "both", "", "mix", many=2),
        product("vjp", "first", "", "penalty"),
        product("hessian", "", "loss", "penalty", "mix"),
        product("hessian_along", "bend", "fit", "", many=3),
    ),
    solver=SolverReport("newton", Status.OK, 4, 1, 1e-10, 3e-15, np.array([1.0, 3e-15])),
    linear=(LinearReport("forward", "cholesky", np.zeros(3, np.int8), np.full(3, 1e-16), np.ones(3, int)),),
    certificate=CERTIFICATE,
    null_space=NullSpace(),
    seconds={"solve": 0.25},
)

SMALL = dataclasses.replace(CASE, products=CASE.products[:1])
"""Enough where products are not the point."""


def moved(case: CaseResult, which: str, place: tuple, by: float) -> CaseResult:
    """Entries moved: of the product of that name, of the only one of that kind, or of the jacobian of that quantity."""
    products = []
    for found in case.products:
        value = found.value.astype(float).copy()
        if which == (found.name or (found.of if found.kind == "jacobian" else found.kind)):
            value[place] += by
        products.append(dataclasses.replace(found, value=value))
    return dataclasses.replace(case, products=tuple(products))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The unchanged case, written once."""
    path = tmp_path_factory.mktemp("good") / "good.h5"
    store.write_result(path, HEADER, [CASE])
    return path


@pytest.fixture
def files(tmp_path, monkeypatch, implicit, good):
    """Write A and B and compare them: `files(case, other, *options)`; a list makes a file of several cases."""
    monkeypatch.chdir(tmp_path)

    def compare(first, second, *options, other=HEADER):
        for name, head, cases in (("a.h5", HEADER, first), ("b.h5", other, second)):
            if head is HEADER and cases is CASE:
                shutil.copy(good, name)
            else:
                store.write_result(Path(name), head, cases if isinstance(cases, list) else [cases])
        return implicit("compare", "a.h5", "b.h5", *options)

    return compare


TRANSCRIPT = """\
A: a.h5
B: b.h5
problem ridge

Settings and versions that differ
  what        A       B
  jax         0.10.1  0.12.0
  device      cpu     cuda
  solver.tol  1e-10   1e-08

Data
  quantity  verdict  |A - B|  bounds  relative  kind   status
  data X    agree          0       0         0  exact

case 0: ok | partial

Quantities
  quantity                        verdict   |A - B|  bounds  relative  kind   status
  parameter penalty               agree           0       0         0  exact
  parameter mix                   agree           0       0         0  exact
  solution w, offset              agree      1.1e-6  2.0e-6    2.2e-7  bound
  output loss                     no bound   1.0e-6       -    4.0e-6  none
  output fit                      agree           0       -         0  none
  d w / d log(penalty)            differ     3.1e-2  2.0e-6    1.5e-2  bound  ok
  d loss / d mix                  agree           0  2.0e-6         0  bound  ok
  d w along up                    agree           0  2.0e-6         0  bound  ok
  d w along all                   agree           0  2.0e-6         0  bound  ok
  d both / d mix                  agree           0  2.0e-6         0  bound  ok
  d first / d log(penalty)        agree           0  2.0e-6         0  bound  ok
  d2 loss / d log(penalty) d mix  agree           0  2.0e-6         0  bound  ok
  d2 fit along bend               agree           0  2.0e-6         0  bound  ok
  d w / d log(penalty): 2 of 3 columns differ

d w / d log(penalty): where they disagree most, in mol
  entry                                        A               B  |A - B|  bounds
  d w[bmi] / d log(penalty[s5])    0.96017028665   0.99017028665   3.1e-2  2.0e-6
  d w[age] / d log(penalty[age])  0.540302305868  0.540312305868   1.0e-5  2.0e-6

differ: d w / d log(penalty)
"""


def test_a_transcript(files):
    other = dataclasses.replace(
        moved(moved(CASE, "w", (1, 2), 0.03), "w", (0, 0), 1e-5),
        status=Status.PARTIAL,
        solution={"w": np.array([0.5, -2.0, 1.0]), "offset": np.array(4.0 + 1e-6)},
        outputs={"loss": np.array(0.250001), "fit": numbers(5)},
    )
    header = dataclasses.replace(
        HEADER,
        spec_resolved=json.dumps({"problem": "ridge", "solver": {"tol": 1e-8, "name": "lbfgs"}, "data": {"X": [[1.0]]}}),
        provenance={"jax": "0.12.0", "device": "cuda", "started": "2027-10-01T12:00:00Z"},
    )
    done = files(CASE, other, other=header)
    assert (done.code, done.err) == (1, "")
    assert done.out == TRANSCRIPT


@pytest.mark.parametrize("options", [(), ("--case", "0"), ("--rtol", "0")], ids=" ".join)
def test_a_file_against_itself(files, options):
    done = files(CASE, CASE, *options)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1] == "agree: 11 quantities"
    assert "differ" not in done.out


def test_neither_a_second_file_nor_jax_is_needed(good):
    code = (
        "import sys; from implicit_cli.cli import main\n"
        f"code = main(['compare', {str(good)!r}, {str(good)!r}])\n"
        "print(code, [m for m in ('jax', 'jaxlib', 'scipy', 'ruamel') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("\n\nagree: 11 quantities\n0 []\n")


PLACES = [
    ("w", (1, 2), "d w[bmi] / d log(penalty[s5])"),
    ("up", (2,), "d w[s5] along up"),
    ("all", (3, 1), "d w[bmi] along all[3]"),
    ("both", (1, 0), "d both[1] / d mix[0]"),
    ("first", (2,), "d first / d log(penalty[s5])"),
    ("hessian", (2, 1), "d2 loss / d log(penalty[s5]) d mix[1]"),
    ("bend", (2, 4), "d2 fit[4] along bend[2]"),
]


def test_every_kind_may_be_off_by_what_its_bounds_allow(files):
    other = CASE
    for which, place, _ in PLACES:
        other = moved(other, which, place, 1.9e-6)
    assert files(CASE, other).out.splitlines()[-1] == "agree: 11 quantities"


@pytest.mark.parametrize(("which", "place", "label"), PLACES)
def test_an_entry_that_is_off_is_named_as_show_names_it(files, implicit, which, place, label):
    done = files(CASE, moved(CASE, which, place, 2.1e-6), "--json")
    document = json.loads(done.out)
    (found,) = [row for row in document["cases"][0]["quantities"] if row["verdict"] == "differ"]
    assert (done.code, document["verdict"]) == (1, "differ")
    # in a table: one line for each, and the label starts it
    assert f"  {label}  " in implicit("compare", "a.h5", "b.h5").out
    assert found["entries"][0]["difference"] == pytest.approx(2.1e-6, rel=1e-6)
    assert found["entries"][0]["allowed"] == 2e-6


def test_only_the_largest_are_shown(files, implicit):
    done = files(CASE, moved(CASE, "bend", (...,), 1e-3))
    assert len([line for line in done.out.splitlines() if line.startswith("  d2 fit[")]) == 5
    done = implicit("compare", "a.h5", "b.h5", "--json", "--top", 12)
    assert len(json.loads(done.out)["cases"][0]["quantities"][-1]["entries"]) == 12
    assert "  d2 fit[" not in implicit("compare", "a.h5", "b.h5", "--top", 0).out


def test_quiet_is_silent(files):
    assert dataclasses.astuple(files(SMALL, SMALL, "-q")) == (0, "", "")
    assert dataclasses.astuple(files(SMALL, moved(SMALL, "w", (0, 0), 1.0), "--quiet")) == (1, "", "")


def test_another_parameter(files):
    theta = {**SMALL.theta, "penalty": np.array([0.1, 0.25, 0.3])}
    done = files(SMALL, dataclasses.replace(SMALL, theta=theta))
    assert done.code == 1
    assert "  penalty[bmi]  0.2  0.25   5.0e-2       0\n" in done.out
    assert done.out.splitlines()[-1] == "differ: parameter penalty"


def test_other_data(files):
    X = HEADER.inputs["X"].copy()
    X[4, 1] = -3.0
    done = files(SMALL, SMALL, other=dataclasses.replace(HEADER, inputs={"X": X}))
    assert done.code == 1
    assert "  X[4, bmi]  13  -3    1.6e1       0\n" in done.out


def test_nan_patterns(files):
    floppy = moved(CASE, "w", (1, ...), math.nan)
    done = files(CASE, dataclasses.replace(floppy, null_space=NullSpace(1, (), {"rattler": {"w": np.array([False, True, False])}})))
    assert done.code == 1
    assert "  d w / d log(penalty): 3 of 9 entries are a number in one file only\n" in done.out
    assert re.search(r"^  undetermined +none +w \(rattler\): 1$", done.out, re.MULTILINE)
    assert re.search(r"^  d w\[bmi\] / d log\(penalty\[age\]\) +-0.653643620864 +nan +- +2.0e-6$", done.out, re.MULTILINE)
    # the same pattern in both is no difference
    assert files(floppy, floppy).code == 0


def test_undetermined_components_of_the_solution_may_differ(files):
    mask = NullSpace(1, (), {"rattler": {"w": np.array([False, True, False])}})
    first = dataclasses.replace(SMALL, null_space=mask)
    other = dataclasses.replace(first, solution={"w": np.array([0.5, 7.0, 1.0]), "offset": np.array(4.0)})
    assert files(first, other).code == 0
    assert files(SMALL, dataclasses.replace(other, null_space=NullSpace())).code == 1


def test_a_gauge(files):
    first = dataclasses.replace(SMALL, null_space=NullSpace(1, ("shift",)))
    done = files(first, dataclasses.replace(first, solution={"w": np.array([1.5, -1.0, 2.0]), "offset": np.array(5.0)}))
    assert done.code == 0
    assert "solution w, offset: shift: solutions may differ along it, not judged\n" in done.out


def without_bound(case: CaseResult) -> CaseResult:
    nothing = [dataclasses.replace(p, bound=dataclasses.replace(p.bound, total=p.bound.total * math.nan)) for p in case.products]
    return dataclasses.replace(case, products=tuple(nothing), status=Status.NO_CERTIFICATE)


def test_no_bound(files, implicit):
    rough = without_bound(moved(CASE, "up", (0,), 1e-4))
    done = files(CASE, rough)
    assert done.code == 2
    assert done.out.splitlines()[-1] == "undecided: no bound on d w along up; --rtol judges without one"
    assert implicit("compare", "a.h5", "b.h5", "--rtol", "1e-3").code == 0
    assert implicit("compare", "a.h5", "b.h5", "--rtol", "1e-6").code == 1
    assert json.loads(implicit("compare", "a.h5", "b.h5", "--json").out)["cases"][0]["quantities"][7]["allowed"] is None


def test_another_direction_or_transform_is_another_quantity(files):
    products = [
        dataclasses.replace(p, direction={"penalty": np.array([1.0, 0.0, 0.0])}) if p.name == "up" else p for p in CASE.products
    ]
    done = files(CASE, dataclasses.replace(CASE, products=tuple(products)))
    assert done.code == 1
    assert "  d w along up: its direction in penalty differs\n" in done.out
    plain = dataclasses.replace(
        HEADER, parameters=(dataclasses.replace(HEADER.parameters[0], transform="identity"), HEADER.parameters[1])
    )
    done = files(CASE, CASE, other=plain)
    assert done.code == 1
    assert "with respect to log(penalty) | penalty" in done.out


def test_float32_against_float64(files):
    """What a float32 run holds: everything rounded, with a bound that allows for it."""
    rounded = {name: value.astype(np.float32) for name, value in CASE.solution.items()}
    theta = {name: value.astype(np.float32) for name, value in CASE.theta.items()}
    products = tuple(dataclasses.replace(p, value=p.value.astype(np.float32)) for p in CASE.products)
    done = files(CASE, dataclasses.replace(CASE, solution=rounded, theta=theta, products=products))
    assert (done.code, done.err) == (0, "")
    assert "parameter penalty: the same in float32" in done.out


def test_products_in_one_file_only(files):
    done = files(CASE, dataclasses.replace(CASE, products=CASE.products[:2]))
    assert done.code == 0
    assert done.out.count("only in A") == 6


def test_cases(files, implicit):
    several = [dataclasses.replace(SMALL, id=name) for name in ("cold", "warm", "hot")]
    done = files(several, [moved(several[2], "w", (0, 0), 1.0), several[0]])
    assert done.code == 1
    assert "2 cases\n  case  status  verdict\n  cold  ok      agree\n  hot   ok      differ\n" in done.out
    # what does not agree comes first
    assert 0 < done.out.index("case hot: ok\n") < done.out.index("case cold: ok\n")
    assert "\nonly in A: 1 case: warm\n" in done.out
    assert implicit("compare", "a.h5", "b.h5", "--case", "cold").code == 0
    assert "case 0 | cold: ok\n" in files(SMALL, several[0]).out


def test_what_cannot_be_compared(files, implicit):
    several = [dataclasses.replace(SMALL, id=name) for name in ("cold", "warm")]
    done = files(several, [dataclasses.replace(SMALL, id=name) for name in ("c", "w")])
    assert (done.code, done.out) == (2, "")
    assert done.err == "implicit: error: a.h5 and b.h5: no case in common: 'cold', 'warm' | 'c', 'w'\n"
    done = files(several, several, "--case", "wamr")
    assert (done.code, done.err) == (2, "implicit: error: a.h5: no case 'wamr', allowed: 'cold', 'warm'; did you mean 'warm'?\n")
    Path("text.h5").write_text("no HDF5\n")
    done = implicit("compare", "a.h5", "text.h5")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("implicit: error: text.h5: not an HDF5 file")
    done = implicit("compare", "a.h5", "missing.h5")
    assert (done.code, done.err) == (2, "implicit: error: missing.h5: no such file\n")
    other = dataclasses.replace(HEADER, problem="line", unknowns=(Variable("v", ("feature",)),), outputs=())
    alone = dataclasses.replace(SMALL, solution={"v": SMALL.solution["w"]}, outputs={}, products=())
    done = files(SMALL, alone, other=other)
    assert (done.code, done.err) == (2, "implicit: error: a.h5 (ridge) and b.h5 (line): no solution, output or product in common\n")


def test_a_bound_on_an_output_is_used_where_the_file_has_one(files, implicit):
    def known_to(size):
        nothing = np.array(0.0)
        return dataclasses.replace(CASE, bounds={"loss": Bound(np.array(size), nothing, nothing, nothing, "estimate")})

    def other(size):
        return dataclasses.replace(known_to(size), outputs={"loss": np.array(0.2501), "fit": numbers(5)})

    files(known_to(1e-4), other(1e-4))
    done = implicit("compare", "a.h5", "b.h5", "--json")
    row = next(row for row in json.loads(done.out)["cases"][0]["quantities"] if row["name"] == "loss")
    assert (row["verdict"], row["bound_kind"], row["allowed"]) == ("agree", "estimate", 2e-4)
    files(known_to(1e-5), other(1e-5))
    assert implicit("compare", "a.h5", "b.h5", "-q").code == 1


# Real runs


@pytest.fixture(scope="module")
def solved(tmp_path_factory, request):
    """Kepler's equation for three orbits, with every kind of first derivative; a result for each set of overrides."""
    folder, done = tmp_path_factory.mktemp("solved"), {}
    spec = request.path.parents[2] / "sample_inputs" / "kepler.yaml"
    kinds = "[jacobian, {jvp: {up: {eccentricity: 1.0}}}, {vjp: {first: {E: [1.0, 0.0, 2.0]}}}]"

    def solved(*overrides):
        if overrides not in done:
            path = folder / f"{len(done)}.h5"
            api.run(str(spec), path, overrides=(f"sensitivity.products={kinds}", *overrides))
            done[overrides] = path
        return done[overrides]

    return solved


LOOSE = ("solver.tol=1e-2", "solver.polish=false", "sensitivity.accuracy=1e-1")


def test_two_tolerances_agree_within_their_bounds(implicit, solved):
    done = implicit("compare", solved(), solved(*LOOSE), "--json")
    document = json.loads(done.out)
    assert (done.code, document["verdict"]) == (0, "agree")
    rows = {row["kind"]: row for row in document["cases"][0]["quantities"]}
    for kind in ("solution", "jacobian", "jvp", "vjp"):
        # not the same numbers, and not by luck of a huge bound either
        assert 1e-10 < rows[kind]["difference"] <= rows[kind]["allowed"] < 100 * rows[kind]["difference"], kind
    assert {row["what"]: row["b"] for row in document["told"]}["solver.tol"] == "0.01"


def test_forward_and_adjoint_agree(implicit, solved):
    done = implicit("compare", solved(), solved("sensitivity.mode=adjoint"))
    assert (done.code, done.err) == (0, "")
    assert "  sensitivity.mode  auto  adjoint\n" in done.out


def test_another_parameter_of_a_run(implicit, solved):
    done = implicit("compare", solved(), solved("parameters.eccentricity=[0.0167, 0.3, 0.9671]"), "--json", "--top", 100)
    document = json.loads(done.out)
    differ = [row for row in document["cases"][0]["quantities"] if row["verdict"] == "differ"]
    assert done.code == 1
    assert [entry["of"] for entry in differ[0]["entries"]] == ["eccentricity[Mercury]"]
    assert {row["kind"] for row in differ} >= {"parameter", "solution", "jacobian", "jvp"}
    # the orbits know nothing of each other; the cotangent leaves Mercury out
    assert {row["verdict"] for row in document["cases"][0]["quantities"] if row["kind"] == "vjp"} == {"agree"}
    for entry in [entry for row in differ for entry in row["entries"]]:
        assert "Mercury" in entry["of"]
