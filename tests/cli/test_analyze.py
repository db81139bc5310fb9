"""`implicit analyze` as a user meets it: real runs, closed forms, the file it leaves, and what it refuses."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

from implicit_cli import api, store
from implicit_cli.core.transforms import TRANSFORMS

FORMULAS = """\
problem: expression
formulas:
  parameters: {a: {}, k: {shape: [axis], bounds: [0, null]}}
  unknowns: {y: {unit: m}}
  equations: {y: "y - a ** 2 * k[0] * sqrt(k[1])"}
  outputs: {twice: {formula: 2 * y, unit: m}, both: {formula: "k * y", shape: [axis], unit: m}}
labels: {axis: [near, far]}
"""
POINT = "parameters: {a: 3.0, k: [0.5, 4.0]}\n"
DRAWN = """\
sweep:
  over: {a: {uniform: [1, 2]}, 'k[1]': {loguniform: [1, 3]}}
  design: DESIGN
  samples: SAMPLES
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Path of the result of a spec, made once."""
    folder, known = tmp_path_factory.mktemp("results"), {}

    def make(text, name="r"):
        if text not in known:
            spec = folder / f"{name}{len(known)}.yaml"
            spec.write_text(text)
            known[text] = api.run(str(spec), spec.with_suffix(".h5")).path
        return known[text]

    return make


def drawn(design="latin_hypercube", samples=40, more=""):
    return FORMULAS + POINT + DRAWN.replace("DESIGN", design).replace("SAMPLES", str(samples)) + more


def test_of_a_case_it_tells_elasticities_by_label(implicit, made):
    done = implicit("analyze", made(FORMULAS + POINT))
    assert (done.code, done.err) == (0, "")
    # y = a^2 k0 sqrt(k1): exponents 2, 1 and 1/2
    assert done.out.startswith("\nelasticity of twice: case 0, y 18\n")
    rows = [line.split() for line in done.out.splitlines()[3:6]]
    assert [(row[0], float(row[1]), float(row[2])) for row in rows] == [
        ("a", 3.0, 12.0),
        ("k[near]", 0.5, 36.0),
        ("k[far]", 4.0, 2.25),
    ]
    assert [float(row[5]) for row in rows] == [2.0, 1.0, 0.5]


@pytest.mark.parametrize("transform", ["identity", "log", "log10", "logit", "softplus"])
def test_derivatives_are_by_the_parameter_itself_whatever_its_transform(made, transform):
    text = FORMULAS + "parameters: {a: 3.0, k: [0.5, 0.25]}\nsensitivity: {of: [twice], products: [jacobian, hessian]}\n"
    sample = store.read_sample(made(text + f"transforms: {{k: {transform}}}\n"))
    k0, k1 = 0.5, 0.25
    np.testing.assert_allclose(sample.J[0, 0], [12 * k0 * k1**0.5, 18 * k1**0.5, 9 * k0 / k1**0.5], rtol=1e-12)
    H = [
        [4 * k0 * k1**0.5, 12 * k1**0.5, 6 * k0 / k1**0.5],
        [12 * k1**0.5, 0.0, 9 / k1**0.5],
        [6 * k0 / k1**0.5, 9 / k1**0.5, -4.5 * k0 / k1**1.5],
    ]
    np.testing.assert_allclose(sample.curvature[0, 0], H, rtol=1e-10, atol=1e-10)
    assert np.isfinite(sample.J_bound).all()
    assert transform in TRANSFORMS


def test_a_sweep_is_read_by_what_varies(made):
    sample = store.read_sample(made(drawn()), ["both"])
    assert sample.names == ("a", "k[far]")
    assert [one.law for one in sample.inputs] == [("uniform", (1.0, 2.0)), ("loguniform", (1.0, 3.0))]
    assert sample.outputs == ("both[near]", "both[far]")
    a, k1 = sample.theta.T
    k = np.stack([np.full_like(k1, 0.5), k1], axis=1)
    y = a**2 * 0.5 * np.sqrt(k1)
    np.testing.assert_allclose(sample.y, k * y[:, None], rtol=1e-12)
    np.testing.assert_allclose(sample.J[:, 1, 1], 1.5 * y, rtol=1e-12)  # k1 y ~ k1^1.5
    whole = store.read_sample(made(FORMULAS + POINT + "sweep: {over: {k: [0.5, 1.0, 2.0]}}\n"), ["y"])
    assert whole.names == ("k",)  # one number for both entries: the derivative is by that
    np.testing.assert_allclose(whole.J[:, 0, 0], 9 * 1.5 * np.sqrt([0.5, 1.0, 2.0]), rtol=1e-12)


def test_a_saltelli_design_is_read_in_its_order_and_morris_with_points_that_come_twice(made):
    blocks = store.read_sample(made(drawn("saltelli", 64)))
    assert blocks.theta.shape == (256, 2)
    # within a block A and AB_i differ in one column
    first = blocks.theta.reshape(64, 4, 2)
    assert (first[:, 0, 1] == first[:, 1, 1]).all()
    assert (first[:, 0, 0] == first[:, 2, 0]).all()
    paths = store.read_sample(made(drawn("morris", 20)))
    assert len(paths.ids) == 60 > len(set(paths.ids))
    steps = paths.theta.reshape(20, 3, 2)
    assert ((steps[:, 1:] != steps[:, :-1]).sum(axis=2) == 1).all()


def test_tables_go_into_the_file_and_are_replaced(implicit, made, tmp_path):
    result, out = made(drawn()), tmp_path / "out.h5"
    done = implicit("analyze", result, "dgsm", "chaos", "-o", out)
    assert (done.code, done.err) == (0, f"implicit: wrote {out}\n")
    assert [one.method for one in store.read_findings(out)] == ["dgsm", "chaos"]
    with xarray.open_datatree(out, engine="h5netcdf") as tree:
        total = tree["analysis/chaos/twice/input/ST"]
        assert total.sel(input="a").item() == pytest.approx(float(store.read_findings(out)[1].columns["ST"].values[0]))
        assert total.attrs["long_name"] == "total index"
    again = implicit("analyze", out, "active", "--in-place", "--quiet")
    assert (again.code, again.err) == (0, "")
    assert [(one.method, one.axis) for one in store.read_findings(out)] == [("active", "direction"), ("active", "input")]
    assert implicit("show", out).code == 0  # its checksum holds
    assert store.read_findings(result) == ()
    with h5py.File(out) as file:
        assert file["analysis/provenance/methods"].asstr()[()] == "active"
        assert file["analysis"].attrs["encoding-type"] == "analysis"


def test_every_array_of_the_group_is_described(implicit, made, tmp_path):
    """Of a sweep with cases that have failed, of which notes tell."""
    out = tmp_path / "out.h5"
    assert implicit("analyze", made(drawn().replace("a ** 2", "sqrt(1.9 - a)")), "-o", out, "--quiet").code == 0
    page = (Path(__file__).parents[2] / "docs" / "file-format.md").read_text()
    described = {text for row in re.findall(r"^\| (`/analysis.*?) \|", page, re.MULTILINE) for text in re.findall(r"`(.*?)`", row)}
    patterns = {text: re.compile(re.sub(r"<\w+>", "[^/]+", text)) for text in described}
    names: list[str] = []
    with h5py.File(out) as file:
        file.visit(lambda name: names.append(f"/{name}"))
        arrays = [name for name in names if name.startswith("/analysis") and isinstance(file[name], h5py.Dataset)]
    assert [name for name in arrays if not any(pattern.fullmatch(name) for pattern in patterns.values())] == []
    assert [text for text, pattern in patterns.items() if not any(pattern.fullmatch(name) for name in names)] == []


def test_json_has_every_number(implicit, made):
    done = implicit("analyze", made(drawn()), "dgsm", "--json")
    (document,) = json.loads(done.out)
    assert (document["method"], document["of"], document["rows"]) == ("dgsm", "twice", ["a", "k[far]"])
    bound = document["columns"]["bound"]
    assert [low <= value <= high for low, value, high in zip(bound["low"], bound["values"], bound["high"], strict=True)] == [
        True,
        True,
    ]


def test_the_delta_method_takes_deviations_or_a_matrix(implicit, made, tmp_path):
    result = made(FORMULAS + POINT)
    done = implicit("analyze", result, "delta", "--deviation", "a=0.1", "--deviation", "k=0.01", "--of", "y", "--json")
    document = json.loads(done.out)[0]
    slopes = np.array([6.0, 18.0, 1.125])
    deviation = np.sqrt(slopes**2 @ np.array([0.1, 0.01, 0.01]) ** 2)
    assert document["columns"]["deviation"]["values"] == pytest.approx([deviation], rel=1e-12)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["S"] = np.diag([0.1, 0.01, 0.01]) ** 2
    same = implicit("analyze", result, "delta", "--covariance", f"{tmp_path / 's.h5'}:/S", "--of", "y", "--json")
    assert json.loads(same.out)[0]["columns"]["deviation"]["values"] == pytest.approx([deviation], rel=1e-12)


def test_a_covariance_is_in_the_result_wherever_it_was_given(tmp_path):
    S = np.array([[0.04, 0.01], [0.01, 0.09]])
    with h5py.File(tmp_path / "drawn.h5", "w") as file:
        file["S"] = S
    spec = tmp_path / "s.yaml"
    over = "over: {a: {normal: [1.5]}, 'k[1]': {normal: [4]}}, design: random, samples: 12, covariance: 'drawn.h5:/S'"
    spec.write_text(f"{FORMULAS}{POINT}sweep: {{{over}}}\n")
    result = api.run(str(spec), tmp_path / "r.h5").path
    (tmp_path / "drawn.h5").unlink()
    sample = store.read_sample(result)
    np.testing.assert_array_equal(sample.covariance, S)
    (found,) = api.analyze(result, ["delta"], case=sample.ids[0], of=["y"]).findings
    slope = sample.J[0, sample.outputs.index("twice")] / 2
    assert found.columns["deviation"].values == pytest.approx([np.sqrt(slope @ S @ slope)], rel=1e-12)


REFUSED = {
    "dgsm": "levels.h5: a has levels, and no distribution; allowed: a sweep with design ",
    "sobol": "levels.h5: sobol needs design 'saltelli', found 'grid'",
    "delta": "levels.h5: the delta method is about one case; allowed: --case ID",
    "sobel": "found the analysis 'sobel', allowed: 'active', ",
    "dgsm --of z": "--of: found 'z', allowed: 'both', 'twice', 'y'",
    "dgsm --of both[x]": "--of: found 'x' in both[x], allowed: 'far', 'near'",
    "dgsm --of both[0,1]": "--of: found 'both[0,1]', allowed: 1 indices, for the shape (2,)",
    "delta --case 7": "levels.h5: no case '7', allowed: ",
    "delta --deviation a": "--deviation: found 'a', allowed: INPUT=SIGMA, with a finite number that is not below 0",
    "delta --deviation a=-1": "--deviation: found 'a=-1', allowed: INPUT=SIGMA, with a finite number that is not below 0",
    "delta --deviation a=1 --covariance s.h5:/S": "--covariance: found with --deviation, allowed: one of them",
    "dgsm --in-place -o x.h5": "--in-place: found with --output, allowed: one of them",
    "--covariance s": "--covariance: found 's', allowed: 'file.h5:/path'",
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_told_in_one_line(implicit, made, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    Path("levels.h5").symlink_to(made(FORMULAS + POINT + "sweep: {over: {a: [1.0, 2.0, 3.0]}}\n"))
    done = implicit("analyze", "levels.h5", *words.split(" "))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"implicit: error: {REFUSED[words]}")
    assert done.err.count("\n") == 1
    assert not Path("x.h5").exists()


def test_a_result_without_derivatives_has_nothing_to_analyse(implicit, made):
    done = implicit("analyze", made(FORMULAS + POINT + "sensitivity: {of: [y], products: []}\n"))
    assert done.code == 2
    assert done.err.endswith("nothing to analyse: it has no derivatives, and no distributions that cases were drawn from\n")


def test_jax_is_not_loaded():
    import subprocess
    import sys

    code = "import sys; from implicit_cli.cli import main; main(['analyze', 'none.h5']); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_case_that_is_solved_counts_whatever_became_of_its_derivatives(implicit, samples, tmp_path):
    """Morris's levels are where sines vanish: derivatives of nothing but rounding, whose digits are lost, and outputs that hold."""
    out = tmp_path / "m.h5"
    report = api.run(str(samples / "ishigami.yaml"), out, overrides=["sweep.design=morris", "sweep.samples=20"])
    assert any(status.label == "precision_lost" for status in report.counts)
    document = json.loads(implicit("analyze", out, "morris", "--json").out)[0]
    assert document["facts"]["cases"] == 80
    assert document["notes"] == []
