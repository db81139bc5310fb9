"""Arrays of a result as matrices with a column for each bound: against the file itself, read by h5py."""

import io

import h5py
import numpy as np
import pytest

from implicit_cli.store import ResultArrays, opened_arrays
from implicit_cli.store.write import image_of


@pytest.fixture
def arrays(finished):
    with opened_arrays(finished) as found:
        yield found


def test_what_there_is(arrays, finished):
    assert (arrays.path, arrays.problem, list(arrays.cases)) == (str(finished), "ridge", ["0", "floppy"])
    assert [key[:2] for key in arrays.keys[:7]] == [
        ("data", "X"),
        ("data", "count"),
        ("parameter", "penalty"),
        ("parameter", "scale"),
        ("solution", "w, offset"),
        ("output", "loss"),
        ("output", "score"),
    ]
    assert {key[0] for key in arrays.keys[7:]} == {"jacobian", "jvp", "jvp_left", "jvp_right", "vjp", "hessian", "hessian_along"}
    assert (arrays.about["device"], arrays.settings, arrays.single) == ("cpu", {}, False)
    assert arrays.facts("0") == {
        "status": "ok",
        "method": "implicit",
        "solver": "newton",
        "null space": "dimension 0",
        "gauges": "none",
        "undetermined": "none",
    }
    floppy = arrays.facts("floppy")
    assert (floppy["gauges"], floppy["undetermined"]) == ("translation_x, translation_y", "w (rattler): 1, offset (rattler): 1")


@pytest.mark.parametrize(("row", "case"), [(0, "0"), (1, "floppy")])
def test_every_product_and_its_labels(arrays, finished, row, case):
    """Entry by entry: the matrix, the bound of its column, and where the label says that it is."""
    features, tasks = ["age", "bmi", "s5"], ["0", "1"]
    with h5py.File(finished) as file:
        found = arrays.read(("jacobian", "", "w", "penalty", ""), case)
        value, bound = file["sensitivity/w/penalty"][row], file["certificate/jacobian/w/penalty/bound"][row]
        for i, feature in enumerate(features):
            for j, (k, column) in enumerate((k, c) for k in range(3) for c in range(2)):
                np.testing.assert_equal(found.value[i, j], value[i, k, column])
                assert found.bound[j] == bound[k, column]
                assert found.label(i, j) == (f"w[{feature}]", f"log(penalty[{features[k]}, {tasks[column]}])")
        assert (found.wrt, found.unit, found.shape) == ("log(penalty)", "mol", (3, 3, 2))
        hessian = arrays.read(("hessian", "", "score", "scale", "penalty"), case)
        np.testing.assert_equal(hessian.value, file["hessian/score/scale/penalty"][row].reshape(1, 6))
        assert hessian.label(0, 3) == ("score", "scale and log(penalty[bmi, 1])")
        assert hessian.estimate
        for key in [key for key in arrays.keys if key[0] in ("jvp", "vjp", "hessian_along")]:
            found = arrays.read(key, case)
            assert found.direction
            assert found.value.size == np.prod(found.shape)
            assert found.value.shape[1] == found.bound.size


def test_data_parameters_solution_and_outputs(arrays, finished):
    with h5py.File(finished) as file:
        X = arrays.read(("data", "X", "", "", ""), "0")
        np.testing.assert_array_equal(X.value.reshape(5, 3), file["inputs/X"])
        assert (X.label(7, 0), X.shape, X.unit) == (("X[2, bmi]", ""), (5, 3), "m")
        penalty = arrays.read(("parameter", "penalty", "", "", ""), "floppy")
        np.testing.assert_array_equal(penalty.value.reshape(3, 2), file["cases/parameters/penalty"][1])
        assert (penalty.label(3, 0), penalty.wrt) == (("penalty[bmi, 1]", ""), "log(penalty)")
        loss = arrays.read(("output", "loss", "", "", ""), "0")
        np.testing.assert_array_equal(loss.value.ravel(), file["outputs/loss"][0])
        assert (loss.label(2, 0), loss.value.shape, loss.estimate) == (("loss[30]", ""), (7, 1), True)
        assert loss.bound.tolist() == file["certificate/outputs/loss/bound"][:1].tolist()
    solution = arrays.read(("solution", "w, offset", "", "", ""), "0")
    assert solution.value.tolist() == [[0.5], [-2.0], [1.0], [4.0]]
    assert [solution.label(place, 0)[0] for place in range(4)] == ["w[age]", "w[bmi]", "w[s5]", "offset"]
    assert (solution.shape, solution.unit, solution.bound.tolist()) == ((3, 1), "mol", [2e-12])
    assert (solution.left_out.any(), solution.gauges) == (False, ())
    floppy = arrays.read(("solution", "w, offset", "", "", ""), "floppy")
    assert (floppy.left_out.tolist(), floppy.gauges) == ([False, True, False, True], ("translation_x", "translation_y"))


def changed(header, case, change) -> ResultArrays:
    """The records as a file, with a change that a later version might make."""
    file = h5py.File(io.BytesIO(bytes(image_of(header, [case]))), "r+")
    change(file)
    return ResultArrays(file, "later.h5")


def test_an_output_of_an_older_file_has_no_bound(header, case):
    def change(file):
        del file["certificate/outputs"]

    assert np.isnan(changed(header, case, change).read(("output", "loss", "", "", ""), "0").bound).all()


def test_float32_is_seen(header, case):
    def change(file):
        values = file["solution/w"][()]
        del file["solution/w"]
        file["solution/w"] = values.astype(np.float32)

    assert not changed(header, case, lambda file: None).single
    assert changed(header, case, change).single
