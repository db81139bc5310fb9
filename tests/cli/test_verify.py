"""`implicit verify`: what holds passes, what is wrong is named and ends with 1, and the file gets what was found."""

import hashlib
import json
import shutil
from pathlib import Path

import h5py
import pytest

from implicit_cli import api
from implicit_cli.store import layout


def edit(path, inner, change):
    """Change a dataset, and seal the file again as its writer would have."""
    with h5py.File(path, "r+") as file:
        file[inner][...] = change(file[inner][...])
    content = bytearray(Path(path).read_bytes())
    begin = content.rfind(layout.CHECKSUM_MARK) + len(layout.CHECKSUM_MARK)
    content[begin : begin + layout.CHECKSUM_LENGTH] = b"0" * layout.CHECKSUM_LENGTH
    content[begin : begin + layout.CHECKSUM_LENGTH] = hashlib.sha256(content).hexdigest().encode()
    Path(path).write_bytes(content)


@pytest.fixture(scope="module")
def kepler(tmp_path_factory, request):
    """A result of Kepler's equation."""
    path = tmp_path_factory.mktemp("whole") / "kepler.h5"
    api.run(str(request.path.parents[2] / "sample_inputs" / "kepler.yaml"), path)
    return path


@pytest.fixture(scope="module")
def wide(tmp_path_factory, kepler):
    """The same with bounds so wide that a witness can see them."""
    path = shutil.copy(kepler, tmp_path_factory.mktemp("wide") / "kepler.h5")
    for of in ("E", "radius"):
        for wrt in ("eccentricity", "mean_anomaly"):
            edit(path, f"certificate/jacobian/{of}/{wrt}/bound", lambda bound: bound + 1e-6)
    return path


@pytest.fixture
def result(wide, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(wide, "k.h5")
    return "k.h5"


def verdicts(document):
    (case,) = document["cases"]
    return {f"{found['of']} {found['wrt']}": found["verdict"] for found in case["findings"]}


def test_what_holds_passes_and_is_told(implicit, result):
    done = implicit("verify", result)
    assert done.code == 0, done.out
    assert done.out.startswith("kepler, case 0: holds: 4 hold\nstatus ok; max |F| = ")
    assert done.err == "implicit: verifying: 6 directions, at most 97 solves\n"
    document = json.loads(implicit("verify", result, "--json", "-q", "--of", "E", "--wrt", "mean_anomaly").out)
    assert (document["problem"], document["violated"]) == ("kepler", False)
    assert verdicts(document) == {"E mean_anomaly": "holds"}
    (found,) = document["cases"][0]["findings"]
    assert found["trials"] == 3
    assert found["observed"] <= found["bound"] + 4 * found["witness"]


def test_an_altered_entry_ends_with_1_and_is_named(implicit, result):
    def change(value):
        value[0, 1, 2] += 0.125
        return value

    edit(result, "sensitivity/radius/eccentricity", change)
    done = implicit("verify", result, "-q", "--json")
    assert done.code == 1
    found = {name for name, verdict in verdicts(json.loads(done.out)).items() if verdict == "violated"}
    assert found == {"radius eccentricity"}
    done = implicit("verify", result, "-q")
    assert done.code == 1
    assert done.out.startswith("kepler, case 0: violated: 1 violated, 3 hold\n")
    assert "d radius / d eccentricity (column 2): off by 0.12; the bound and the witness's error allow " in done.out


def test_a_bound_made_too_small_is_found(implicit, result):
    edit(result, "sensitivity/E/mean_anomaly", lambda value: value + 1e-7)
    assert implicit("verify", result, "-q").code == 0  # the bound allows for that
    edit(result, "certificate/jacobian/E/mean_anomaly/bound", lambda bound: bound * 0)
    document = json.loads(implicit("verify", result, "-q", "--json").out)
    assert {name for name, verdict in verdicts(document).items() if verdict == "violated"} == {"E mean_anomaly"}


HIDDEN = '''
import jax
import jax.numpy as jnp
from implicit_cli.core import root
from implicit_cli.problem import Parameter, Problem, Unknown

class Hidden(Problem):
    """x^3 + x = a + b, where b is kept from JAX."""
    a = Parameter(default=1.0)
    b = Parameter(default=2.0)
    x = Unknown(initial=1.0)

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**3 + x.x - theta.a - jax.lax.stop_gradient(theta.b)))
'''


def test_a_spec_is_run_and_what_it_hides_is_found(implicit, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hidden.py").write_text(HIDDEN)
    (tmp_path / "hidden.yaml").write_text("problem: ./hidden.py:Hidden\ntransforms: {a: log}\n")
    done = implicit("verify", "hidden.yaml")
    assert (done.code, done.out) == (2, "")
    done = implicit("verify", "hidden.yaml", "--plugin", "hidden.py", "-o", "out.h5")
    assert done.code == 1
    assert "d x / d b: off by 0.18; " in done.out
    assert "d x / d log(a)" in done.out
    assert "implicit: wrote out.h5, " in done.err
    with h5py.File("out.h5") as file:
        codes = dict(zip(file["verify/verdict"].attrs["flag_meanings"].split(), (-1, 0, 1, 2), strict=True))
        assert file["verify/verdict"][0] == file["verify/sensitivity/x/b/verdict"][0] == codes["violated"]
        assert file["verify/sensitivity/x/a/verdict"][0] != codes["violated"]
    assert implicit("show", "out.h5").code == 0
    (tmp_path / "sub").mkdir()
    shutil.move("out.h5", "sub/out.h5")
    assert implicit("verify", "sub/out.h5", "--wrt", "a", "--allow-plugin", "-q").code == 0


def test_the_findings_go_into_a_copy_or_into_the_file_itself(implicit, result):
    before = Path(result).read_bytes()
    assert implicit("verify", result, "--of", "E", "-o", "sub/copy.h5", "-q").code == 0
    assert Path(result).read_bytes() == before
    with h5py.File("sub/copy.h5") as file:
        assert list(file["verify/sensitivity"]) == ["E"]
    done = implicit("verify", result, "--full", "--in-place")
    assert (done.code, done.err.splitlines()[-1].partition(",")[0]) == (0, "implicit: wrote k.h5")
    with h5py.File(result) as file:
        assert file["verify/full"][()] == 1
        assert file["verify/verdict"][0] == 0
    # and whatever reads a result reads it still
    assert implicit("show", result).out == implicit("show", "sub/copy.h5").out.replace("sub/copy.h5", "k.h5")
    assert implicit("jvp", result, "-d", "mean_anomaly=1.0", "-q").code in (0, 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["k.h5", "--in-place", "-o", "x.h5"], "--in-place: found with --output, allowed: alone, with a result file"),
        (["spec.yaml", "--in-place"], "--in-place: found with a spec, allowed: alone, with a result file"),
        (["k.h5", "-o", "k.h5"], "k.h5: found an input of this run, allowed: another name for the result"),
        (["k.h5", "--set", "seed=1"], "--set: found with a result file, allowed: with a spec"),
        (["k.h5", "--of", "Radius"], "--of: found 'Radius', allowed: 'E', 'radius'; did you mean 'radius'?"),
        (["k.h5", "--wrt", "time"], "--wrt: found 'time', allowed: 'eccentricity', 'mean_anomaly'"),
        (["k.h5", "--case", "3"], "k.h5: no case '3', allowed: '0'"),
        (["k.h5", "-q", "-v"], "--quiet: found with --verbose, allowed: one of the two"),
        (["none.h5"], "none.h5: no such file"),
    ],
)
def test_what_does_not_fit_is_refused(implicit, result, words, message):
    done = implicit("verify", *words)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"implicit: error: {message}")
    assert done.err.count("\n") == 1


# --integrity


@pytest.fixture
def whole(kepler, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(kepler, "k.h5")
    return "k.h5"


def test_a_file_that_is_whole(implicit, whole):
    done = implicit("verify", "--integrity", whole)
    assert (done.code, done.err) == (0, "")
    rows = [line.split(maxsplit=1) for line in done.out.splitlines()]
    assert [row[0] for row in rows] == ["file", "SHA-256", "groups", "datasets"]
    assert rows[0][1].startswith("k.h5, 0.")
    assert rows[1][1].endswith(", holds")
    document = json.loads(implicit("verify", "--integrity", whole, "--json").out)
    assert (document["file"], document["whole"], document["size"]) == ("k.h5", True, Path(whole).stat().st_size)
    assert document["sha256"] == rows[1][1].removesuffix(", holds")
    assert rows[2][1] == f"{document['groups']} as they were signed"
    assert rows[3][1] == f"{document['datasets']} read, no checksum fails"


def test_a_file_that_is_not(implicit, whole):
    content = bytearray(Path(whole).read_bytes())
    content[content.find(b"problem: kepler")] ^= 1
    Path(whole).write_bytes(content)
    done = implicit("verify", "--integrity", whole)
    assert (done.code, done.out) == (2, "")
    cure = "run again, or restore the file from a copy"
    assert done.err == f"implicit: error: k.h5: damaged or edited, checksum error in /spec; {cure}\n"


@pytest.mark.parametrize("words", [["--full"], ["-o", "out.h5"], ["--in-place"], ["--of", "E"], ["--set", "seed=1"]])
def test_integrity_goes_alone(implicit, whole, words):
    done = implicit("verify", "--integrity", whole, *words)
    assert (done.code, done.out) == (2, "")
    assert "--integrity: found with other options of a check, allowed: alone, with a result file" in done.err


def test_integrity_of_a_spec(implicit, samples):
    done = implicit("verify", "--integrity", samples / "kepler.yaml")
    assert done.code == 2
    assert "kepler.yaml: not an HDF5 file, expected a result of `implicit run`" in done.err
