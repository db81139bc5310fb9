"""`/outer` in a result, and the file from which an outer loop goes on."""

import dataclasses
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

from implicit_cli.errors import InputError
from implicit_cli.outer import Evaluation, Outcome, Settings, Stored
from implicit_cli.status import Status
from implicit_cli.store import Checkpoint, checkpoint, layout, read_summary, write_optimised

from .conftest import make_case, make_header

TEXT = (Path(__file__).parents[2] / "docs" / "file-format.md").read_text(encoding="utf-8")


def evaluation(k, **changes):
    made = Evaluation(
        np.array([1.0, -2.0, 0.1 + k, 1 / 3, 5.0, 6.0, 7.0]),
        10.0 - k,
        np.linspace(-1, 1, 7) / (k + 1),
        1e-9 * (k + 1),
        Status.OK,
        "",
        1e-12,
        0.1,
        2.0 + k,
        0.25,
    )
    return dataclasses.replace(made, **changes)


FAILED = {"objective": np.nan, "gradient": np.full(7, np.nan), "bound": np.nan, "status": Status.NOT_CONVERGED, "message": "à côté"}
EVALUATIONS = (evaluation(0), evaluation(1, **FAILED), evaluation(2), evaluation(3), evaluation(4))
BOX = Settings("lbfgs", np.zeros(7), np.full(7, -np.inf), np.r_[np.inf, np.inf, 4.1, np.full(4, np.inf)], 9, 1e-6)
OUTCOME = Outcome("done", True, EVALUATIONS, (0, 2, 4), 4, np.zeros(3), BOX)


@pytest.fixture
def written(tmp_path):
    points = {
        "penalty": [one.point[:6].reshape(3, 2) for one in EVALUATIONS],
        "scale": [one.point[6] for one in EVALUATIONS],
    }
    path = tmp_path / "result.h5"
    write_optimised(path, make_header(), make_case(), OUTCOME, points, "J")
    return path


def test_the_way_to_the_optimum_is_in_the_file(written):
    with xarray.open_datatree(written, engine="h5netcdf") as tree:
        outer = tree["outer"]
        assert outer["steps"].values.tolist() == [0, 2, 4]
        assert outer["status"].values.tolist() == [0, 2, 0, 0, 0]
        np.testing.assert_array_equal(outer["objective"].values, [10, np.nan, 8, 7, 6])
        assert outer["objective"].attrs["units"] == "J"
        np.testing.assert_array_equal(outer["bound"].values, [one.bound for one in EVALUATIONS])
        norms = outer["gradient_norm"].values
        assert norms[0] == pytest.approx(np.linalg.norm(EVALUATIONS[0].gradient))
        assert np.isnan(norms[1])
        # the third entry is on its upper bound, and its gradient points out of it
        assert norms[4] == pytest.approx(np.linalg.norm(np.delete(EVALUATIONS[4].gradient, 2)))
        assert (int(outer["result"]), int(outer["converged"]), outer["reason"].item()) == (4, 1, "done")
        assert outer["message"].values.tolist() == ["", "à côté", "", "", ""]
        penalty = outer["lambda/penalty"]
        assert penalty.dims == ("evaluation", "feature", "task")
        assert penalty.attrs["long_name"] == "what is varied: log(penalty)"
        np.testing.assert_array_equal(penalty.values[3], EVALUATIONS[3].point[:6].reshape(3, 2))
        assert outer["lambda/scale"].attrs["units"] == "K"


def test_the_rest_is_that_of_a_run(written):
    (case,) = read_summary(written).cases
    assert case.good
    assert {product.kind for product in case.products} >= {"jacobian", "vjp"}


def test_every_dataset_of_the_group_is_described(written):
    with h5py.File(written) as file:
        names = [f"/outer/{name}" for name in file["outer"] if name != "lambda"]
        assert file["outer"].attrs["encoding-type"] == "outer"
        assert file["outer/lambda"].attrs["encoding-type"] == "quantities"
    rows = [row for row in re.findall(r"^\| (`/.*?) \|", TEXT, re.MULTILINE) if "/outer" in row]
    described = {name for row in rows for name in re.findall(r"`(.*?)`", row)}
    assert described == {*names, "/outer", "/outer/lambda", "/outer/lambda/<theta>"}
    assert layout.OUTER == "outer"


# The checkpoint


IDENTITY = {"spec": {"problem": "p", "outer": {"objective": "y", "step": None}}, "values": {"data": {"X": "12"}}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSE", 0.0)
    return tmp_path / "out.h5.outer"


def test_what_is_saved_is_read_again_to_the_last_bit(place):
    stored = Stored(EVALUATIONS, {0: np.array([1 / 3, np.pi]), 4: np.zeros(2)})
    Checkpoint(place, IDENTITY).save(stored)
    again = Checkpoint(place, IDENTITY).read()
    assert len(again.evaluations) == 5
    for one, other in zip(EVALUATIONS, again.evaluations, strict=True):
        for field in dataclasses.fields(Evaluation):
            np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
        assert type(other.status) is Status
    assert set(again.solutions) == {0, 4}
    np.testing.assert_array_equal(again.solutions[0], [1 / 3, np.pi])


def test_without_a_file_there_is_nothing(place):
    assert Checkpoint(place, IDENTITY).read() == Stored()
    Checkpoint(place, IDENTITY).flush()
    assert not place.exists()


def test_writing_waits_and_the_last_state_is_flushed(place, monkeypatch):
    monkeypatch.setattr(checkpoint, "PAUSE", 3600.0)
    here = Checkpoint(place, IDENTITY)
    for count in (1, 2, 3):
        here.save(Stored(EVALUATIONS[:count], {}))
        assert len(here.read().evaluations) == 1
    here.flush()
    assert len(here.read().evaluations) == 3
    here.remove()
    here.flush()
    assert not place.exists()


def test_another_run_is_refused_with_what_differs(place):
    Checkpoint(place, IDENTITY).save(Stored(EVALUATIONS, {}))
    other = {"spec": {"problem": "p", "outer": {"objective": "z", "step": 0.5}}, "values": {"data": {"X": "34" * 64}}}
    with pytest.raises(InputError) as error:
        Checkpoint(place, other).read()
    texts = [message.removeprefix(f"{place}: belongs to another run: ") for message in error.value.messages]
    assert texts == [
        'spec.outer.objective: found "z", it was "y"',
        "spec.outer.step: found 0.5, it was nothing",
        "values.data.X differs",
        "go on with what it belongs to, or remove the file to start anew",
    ]


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"PK" + b[2:900], lambda b: b[:700] + b"\0" + b[701:]],
    ids=["cut", "empty", "other", "one byte"],
)
def test_a_damaged_file_is_refused(place, damage):
    Checkpoint(place, IDENTITY).save(Stored(EVALUATIONS, {}))
    place.write_bytes(damage(place.read_bytes()))
    with pytest.raises(InputError, match="damaged, or no file of `implicit optimize`: remove it to start anew"):
        Checkpoint(place, IDENTITY).read()


def test_a_newer_version_is_refused(place, monkeypatch):
    monkeypatch.setattr(checkpoint, "VERSION", 2)
    Checkpoint(place, IDENTITY).save(Stored(EVALUATIONS, {}))
    monkeypatch.setattr(checkpoint, "VERSION", 1)
    with pytest.raises(InputError, match="version 2, this implicit-cli reads up to 1"):
        Checkpoint(place, IDENTITY).read()


def test_a_folder_in_its_place_is_refused_before_any_work(tmp_path):
    with pytest.raises(InputError, match="found a folder"):
        Checkpoint(tmp_path, IDENTITY)
