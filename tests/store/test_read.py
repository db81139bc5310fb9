import dataclasses
import json
import math

import numpy as np
import pytest

from implicit_cli.result import Axis, Bound, Header, NullSpace, Product, Variable
from implicit_cli.status import Status
from implicit_cli.store import EntrySummary, Wanted, layout, read_summary, write_result

from .conftest import bound, filled


@pytest.fixture
def summary(finished):
    return read_summary(finished)


def product(case, kind, of="", wrt=""):
    [found] = [p for p in case.products if (p.kind, p.of, p.wrt) == (kind, of, wrt)]
    return found


def test_the_header(summary, finished, header):
    assert summary.path == str(finished)
    assert (summary.problem, summary.summary) == (header.problem, header.summary)
    assert summary.format_version == 1
    assert summary.creator.startswith("implicit-cli ")
    assert summary.provenance == header.provenance


def test_cases(summary):
    first, second = summary.cases
    assert (first.id, first.status, first.good, first.message) == ("0", "ok", True, Status.OK.text)
    assert (second.id, second.status, second.good, second.message) == ("floppy", "partial", True, "1 rattler: w[1]")
    assert (first.seconds, second.seconds) == ({"solve": 0.25, "certify": 0.5}, {"solve": 1.5})


def test_quantities(summary):
    case = summary.cases[0]
    assert [row.name for row in case.parameters] == ["penalty", "scale"]
    assert [row.name for row in case.solution] == ["w", "offset"]
    assert [row.name for row in case.outputs] == ["loss", "score"]
    w, offset = case.solution
    assert (w.unit, w.doc, w.shape, w.value) == ("mol", "weights", (3,), [0.5, -2.0, 1.0])
    assert (w.norm, w.minimum, w.maximum) == (pytest.approx(math.sqrt(5.25)), -2.0, 1.0)
    assert (offset.shape, offset.value) == ((), 4.0)
    assert case.parameters[0].value == filled(3, 2).tolist()


def test_products_in_the_order_in_which_they_were_made(summary):
    assert [(p.kind, p.name, p.of, p.wrt) for p in summary.cases[0].products] == [
        ("jacobian", "", "w", "log(penalty)"),
        ("jacobian", "", "w", "scale"),
        ("jacobian", "", "offset", "log(penalty)"),
        ("jacobian", "", "offset", "scale"),
        ("jacobian", "", "loss", "log(penalty)"),
        ("jacobian", "", "loss", "scale"),
        ("jacobian", "", "score", "log(penalty)"),
        ("jacobian", "", "score", "scale"),
        ("jvp", "all_up", "w", ""),
        ("jvp", "all_up", "loss", ""),
        *((f"jvp_{side}", "all_up", of, "") for side in ("left", "right") for of in ("w", "loss")),
        ("vjp", "first", "", "log(penalty)"),
        ("vjp", "first", "", "scale"),
        *(
            ("hessian", "", of, f"{a} and {b}")
            for of in ("offset", "score")
            for a in ("log(penalty)", "scale")
            for b in ("log(penalty)", "scale")
        ),
        ("hessian_along", "bend", "w", ""),
        ("hessian_along", "bend", "loss", ""),
    ]


def test_a_hessian(summary):
    found = product(summary.cases[0], "hessian", "score", "log(penalty) and scale")
    assert (found.shape, found.unit, found.bound_kind) == ((3, 2), "1/K", "estimate")
    assert found.entries[0].wrt == "log(penalty[s5, 1]) and scale"
    assert found.entries[0].value == -6.0
    whole = product(summary.cases[0], "hessian", "offset", "log(penalty) and log(penalty)")
    assert whole.entries[0].wrt == "log(penalty[s5, 1]) and log(penalty[s5, 1])"


def test_a_jacobian(summary, case):
    found = product(summary.cases[0], "jacobian", "w", "log(penalty)")
    value, bounds = case.products[0].value, case.products[0].bound.total
    assert (found.shape, found.count, found.undetermined, found.unit) == ((3, 3, 2), 18, 0, "mol")
    assert (found.status, found.good, found.bound_kind, found.value) == ("ok", True, "bound", None)
    assert found.norm == pytest.approx(np.linalg.norm(value.ravel()))
    assert found.bound == bounds.max()
    assert found.relative == pytest.approx(bounds.max() / np.linalg.norm(value.reshape(3, 6), axis=0).max())
    assert len(found.entries) == 10
    assert found.more == 8
    # 18 is the last: w[s5], penalty[s5, 1]; 12 is w[bmi], penalty[s5, 1], in a later column than 13.
    assert found.entries[0] == EntrySummary("w[s5]", "log(penalty[s5, 1])", -18.0, bounds[2, 1])
    assert found.entries[6] == EntrySummary("w[bmi]", "log(penalty[s5, 1])", -12.0, bounds[2, 1])
    assert [abs(entry.value) for entry in found.entries] == list(range(18, 8, -1))


def test_every_entry_carries_the_bound_of_its_column(finished, case):
    found = product(read_summary(finished, Wanted(1000)).cases[0], "jacobian", "loss", "log(penalty)")
    assert (len(found.entries), found.more) == (42, 0)
    values, bounds = case.products[4].value, case.products[4].bound.total
    for entry in found.entries:
        [index] = np.argwhere(values == entry.value)
        assert entry.bound == bounds[tuple(index[1:])]


def test_a_scalar_product(summary):
    found = product(summary.cases[0], "jacobian", "score", "scale")
    assert (found.value, found.shape, found.relative) == (1.0, (), pytest.approx(1.75e-9))
    assert found.entries == (EntrySummary("score", "scale", 1.0, found.bound),)


def test_products_by_direction(summary):
    jvp = product(summary.cases[0], "jvp", of="loss")
    assert (jvp.name, jvp.wrt, jvp.shape, jvp.bound_kind, jvp.more) == ("all_up", "", (7,), "estimate", 0)
    assert jvp.entries[0] == EntrySummary("loss[70]", "", 7.0, jvp.bound)
    vjp = product(summary.cases[0], "vjp", wrt="log(penalty)")
    assert (vjp.name, vjp.of, vjp.shape) == ("first", "", (3, 2))
    assert vjp.entries[0] == EntrySummary("first", "log(penalty[s5, 1])", -6.0, vjp.bound)


def test_undetermined_components(summary):
    case = summary.cases[1]
    found = product(case, "jacobian", "w", "log(penalty)")
    assert (found.undetermined, found.status, found.good) == (6, "partial", True)
    assert len(found.entries) == 10
    assert found.more == 2
    assert all(entry.of != "w[bmi]" for entry in found.entries)
    void = product(case, "jacobian", "offset", "scale")
    assert (void.undetermined, void.entries, void.more) == (1, (), 0)
    assert math.isnan(void.norm)
    assert math.isnan(void.bound)
    assert math.isnan(void.relative)


def test_certificate(summary):
    rows = {row.name: row for row in summary.cases[0].certificate}
    assert list(rows) == [
        *("sigma_min", "sigma_max", "kappa", "alpha", "beta", "gamma", "norm_B", "lipschitz"),
        *("step", "h", "radius", "margin"),
    ]
    assert (rows["sigma_min"].value, rows["sigma_min"].provenance) == (0.5, "computed")
    assert (rows["margin"].value, rows["margin"].unit) == (math.inf, "mol")
    assert summary.cases[1].certificate[0].provenance == "estimated"


def test_solvers(summary):
    first, second = summary.cases
    assert dataclasses.astuple(first.solver) == ("newton", "ok", True, 4, 1, 1e-10, 3e-15)
    assert [dataclasses.astuple(row) for row in first.linear] == [
        ("forward", "cholesky", 7, {"ok": 7}, 1e-16, 1),
        ("adjoint", "cholesky", 1, {"ok": 1}, 2e-16, 1),
    ]
    assert [dataclasses.astuple(row) for row in second.linear] == [
        ("forward", "cg", 2, {"ok": 1, "linear_solve_failed": 1}, 1e-3, 99)
    ]


def test_null_space(summary):
    first, second = summary.cases
    assert (first.null_space.dimension, first.null_space.gauges, first.null_space.undetermined) == (0, (), ())
    assert second.null_space.gauges == ("translation_x", "translation_y")
    assert [dataclasses.astuple(row) for row in second.null_space.undetermined] == [
        ("rattler", "w", 1, 3, "feature", (1,), True),
        ("rattler", "offset", 1, 1, "", (), True),
    ]


def test_particles_that_are_undetermined_in_part(tmp_path, case):
    header = Header("p", "", (Axis("particle", 5), Axis("xy", 2)), (Variable("x", ("particle", "xy")),), (), (), (), {}, "", "", {})
    mask = np.array([[0, 0], [1, 1], [1, 0], [0, 0], [1, 1]], bool)
    spaces = NullSpace(5, (), {"rattler": {"x": mask}, "buckler": {"x": mask[:, :1] & mask}, "none": {"x": np.zeros((5, 2), bool)}})
    loose = dataclasses.replace(case, theta={}, solution={"x": np.zeros((5, 2))}, outputs={}, products=(), null_space=spaces)
    write_result(tmp_path / "out.h5", header, [loose])
    [only] = read_summary(tmp_path / "out.h5").cases
    rows = [(u.reason, u.count, u.axis, u.indices, u.whole) for u in only.null_space.undetermined]
    assert rows == [("rattler", 5, "particle", (1, 2, 4), False), ("buckler", 5, "particle", (1, 2, 4), False)]


def test_no_bound(tmp_path, header, case):
    nothing = Bound(*(np.full((3, 2), np.nan) for _ in range(4)))
    first = dataclasses.replace(case.products[0], bound=nothing, status=Status.NO_CERTIFICATE)
    write_result(tmp_path / "out.h5", header, [dataclasses.replace(case, products=(first,), status=Status.NO_CERTIFICATE)])
    [only] = read_summary(tmp_path / "out.h5").cases
    [found] = only.products
    assert (found.status, found.good) == ("no_certificate", False)
    assert math.isnan(found.bound)
    assert math.isnan(found.relative)
    assert math.isnan(found.entries[0].bound)
    assert only.message == Status.NO_CERTIFICATE.text


@pytest.mark.parametrize(("value", "error", "relative"), [(0.0, 0.0, 0.0), (0.0, 1e-9, math.nan), (2.0, 1e-9, 5e-10)])
def test_relative_bound_of_a_vanishing_derivative(tmp_path, header, case, value, error, relative):
    exact = Bound(*(np.full((), error) for _ in range(4)))
    only = Product("jacobian", "", "score", "scale", np.array(value), exact)
    write_result(tmp_path / "out.h5", header, [dataclasses.replace(case, products=(only,))])
    assert read_summary(tmp_path / "out.h5").cases[0].products[0].relative == pytest.approx(relative, nan_ok=True)


def test_names_come_back_as_they_were(tmp_path, header, case):
    odd = tuple(dataclasses.replace(p, name="a/b %..") if p.kind.startswith("jvp") else p for p in case.products)
    write_result(tmp_path / "out.h5", header, [dataclasses.replace(case, products=odd, seconds={"read/write": 1.0})])
    [only] = read_summary(tmp_path / "out.h5").cases
    assert {p.name for p in only.products} == {"", "a/b %..", "first", "bend"}
    assert only.seconds == {"read/write": 1.0}


def test_nothing_but_a_solution(tmp_path, case):
    header = Header("p", "", (Axis("a", 0),), (Variable("x", ("a",)),), (Variable("t", ("a",)),), (), (), {}, "", "", {})
    products = (Product("jacobian", "", "x", "t", np.zeros((0, 0)), bound(0)),)
    empty = dataclasses.replace(
        case, theta={"t": np.zeros(0)}, solution={"x": np.zeros(0)}, outputs={}, products=products, linear=()
    )
    write_result(tmp_path / "out.h5", header, [empty])
    [only] = read_summary(tmp_path / "out.h5").cases
    assert (only.outputs, only.linear) == ((), ())
    assert (only.products[0].count, only.products[0].norm, only.products[0].entries) == (0, 0.0, ())


def test_a_status_of_a_newer_program(tmp_path, header, case, monkeypatch):
    newer = {"flag_values": np.array([0, 99], np.int8), "flag_meanings": "ok melted"}
    monkeypatch.setattr(layout, "status_flags", lambda **options: newer)
    write_result(tmp_path / "out.h5", header, [dataclasses.replace(case, status=99)])
    [only] = read_summary(tmp_path / "out.h5").cases
    assert (only.status, only.good, only.message) == ("melted", False, "a newer implicit-cli knows what this status means")


def test_as_json_values(summary):
    document = json.loads(json.dumps(summary.asdict(), allow_nan=False))
    first, second = document["cases"]
    assert first["certificate"][-1] == {
        "name": "margin",
        "value": "inf",
        "unit": "mol",
        "provenance": "proved",
        "meaning": "distance to the nearest kink of F (2-norm over all unknowns)",
    }
    assert first["products"][0]["entries"][0]["of"] == "w[s5]"
    assert first["parameters"][0]["value"] == filled(3, 2).tolist()
    assert second["products"][2]["norm"] is None
    assert second["linear"][0]["statuses"] == {"ok": 1, "linear_solve_failed": 1}
    assert document["provenance"] == {"jax": "0.10.1", "device": "cpu"}
