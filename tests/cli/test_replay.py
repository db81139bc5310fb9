"""`implicit replay` as a user meets it: the same again, one case of many, data and code that have changed, files that are gone."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from implicit_cli import api, store

SPEC = """\
problem: ridge
data: {X: d.h5:/X, y: d.h5:/y, X_validation: d.h5:/X_validation, y_validation: d.h5:/y_validation}
labels: {feature: d.h5:/names}
parameters: {penalty: {value: d.h5:/penalty, unit: '1'}}
"""
PLUGIN = '''\
import jax.numpy as jnp
from implicit_cli.core import stationary
from implicit_cli.problem import Parameter, Problem, Unknown


class Bowl(Problem):
    """x* = theta."""

    theta = Parameter(default=2.0)
    x = Unknown(shape=())

    def condition(self):
        return stationary(lambda x, theta, data: (x.x - theta.theta) ** 2)
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with h5py.File("d.h5", "w") as file:
        file["X"], file["y"] = rng.normal(size=(20, 3)), rng.normal(size=20)
        file["X_validation"], file["y_validation"] = rng.normal(size=(5, 3)), rng.normal(size=5)
        file["penalty"] = np.array([0.1, 0.2, 0.3])
        file["names"] = ["one", "two", "three"]
    Path("s.yaml").write_text(SPEC)
    return tmp_path


def last(done):
    return done.out.splitlines()[-1]


def test_the_same_comes_out_again_with_and_without_its_files(implicit, folder):
    api.run("s.yaml", Path("r.h5"))
    again = implicit("replay", "r.h5", "-o", "new.h5")
    assert again.code == 0
    assert last(again).startswith("agree: ")
    assert store.read_run(Path("new.h5")).labels["feature"].tolist() == ["one", "two", "three"]
    Path("d.h5").unlink()  # the result has it all
    assert implicit("replay", "r.h5", "--quiet").code == 0
    assert [path.name for path in folder.iterdir() if "replay" in path.name] == []


def test_one_value_of_the_data_that_has_changed_is_named(implicit, folder):
    api.run("s.yaml", Path("r.h5"))
    with h5py.File("d.h5", "r+") as file:
        file["X"][4, 1] = 7.0
        was = store.read_run(Path("r.h5")).data["X"][4, 1]
    done = implicit("replay", "r.h5", "-q")
    assert done.code == 1
    assert last(done) == f"data.X: d.h5:/X has changed: 1 of 60 entries differ, the first X[4, 1] is 7 now and was {was:.10g}"
    with h5py.File("d.h5", "r+") as file:
        del file["penalty"]
        file["penalty"] = np.array([0.1, 0.2, 0.3, 0.4])
    document = json.loads(implicit("replay", "r.h5", "-q", "--json").out)
    assert document["verdict"] == "agree"  # what the result holds still leads to what it says
    assert document["changed"][1] == "parameters.penalty: d.h5:/penalty has the shape (4,) now, the result has (3,)"


def test_what_was_set_on_the_command_line_is_in_the_result(implicit, folder):
    api.run("s.yaml", Path("r.h5"), overrides=["parameters.penalty=0.5"])
    done = implicit("replay", "r.h5", "-q", "-o", "new.h5")
    assert done.code == 0
    assert store.read_run(Path("new.h5")).parameters["penalty"].tolist() == [0.5, 0.5, 0.5]


def test_a_sweep_and_one_case_of_it(implicit, folder):
    api.run("s.yaml", Path("r.h5"), overrides=["sweep.over={'penalty[1]': [0.1, 1.0, 10.0]}"])
    assert implicit("replay", "r.h5", "-q").code == 0
    ids = store.read_run(Path("r.h5")).ids
    done = implicit("replay", "r.h5", "--case", ids[1], "-o", "one.h5", "-q")
    assert done.code == 0
    assert store.read_run(Path("one.h5")).ids == (ids[1],)
    done = implicit("replay", "r.h5", "--case", "none")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert done.err.startswith("implicit: error: r.h5: no case 'none', allowed: ")


def test_a_plugin_is_taken_from_where_it_is_and_only_when_it_is_allowed(implicit, folder):
    Path("bowl.py").write_text(PLUGIN)
    Path("b.yaml").write_text("problem: ./bowl.py:Bowl\n")
    api.run("b.yaml", Path("r.h5"), allow_plugin=True)
    refused = implicit("replay", "r.h5", "-q")
    assert refused.code == 2
    assert "--allow-plugin" in refused.err
    assert implicit("replay", "r.h5", "-q", "--plugin", "bowl.py").code == 0
    Path("elsewhere").mkdir()
    shutil.move("bowl.py", "elsewhere/bowl.py")
    gone = implicit("replay", "r.h5", "-q", "--allow-plugin")
    assert gone.code == 2
    assert gone.err.startswith("implicit: error: r.h5: its spec names ./bowl.py, which is not in ")
    assert "allowed: --folder DIR, where it is" in gone.err
    assert implicit("replay", "r.h5", "-q", "--allow-plugin", "--folder", "elsewhere").code == 0
    changed = Path("elsewhere/bowl.py").read_text().replace("- theta.theta", "- 2 * theta.theta")
    Path("elsewhere/bowl.py").write_text(changed)
    differs = implicit("replay", "r.h5", "-q", "--allow-plugin", "--folder", "elsewhere")
    assert differs.code == 1
    assert "problem_sha256" in differs.out
    assert last(differs).startswith("differ: ")


def test_an_optimum_is_looked_for_again(implicit, folder):
    outer = "outer: {objective: validation_loss, bounds: {penalty: [0.01, 100.0]}}\n"
    Path("o.yaml").write_text(SPEC.replace("{value: d.h5:/penalty, unit: '1'}", "0.1") + "transforms: {penalty: log}\n" + outer)
    assert api.optimize("o.yaml", Path("r.h5")).path == Path("r.h5")
    assert implicit("replay", "r.h5", "-q").code == 0


def test_a_file_elsewhere_is_read_only_where_it_is_allowed(implicit, folder, tmp_path_factory):
    away = tmp_path_factory.mktemp("away")
    with h5py.File(away / "begin.h5", "w") as file:
        file["w"] = np.ones(3)
    api.run("s.yaml", Path("r.h5"), overrides=[f"initial={{w: '{away}/begin.h5:/w'}}"])
    refused = implicit("replay", "r.h5", "-q")
    assert refused.code == 2
    assert refused.err.startswith(f"implicit: error: r.h5: its spec names {away}/begin.h5, which is not in ")
    assert implicit("replay", "r.h5", "-q", "--allow-path", away).code == 0
    Path("linked.h5").symlink_to(away / "begin.h5")
    api.run("s.yaml", Path("r.h5"), overrides=["initial={w: 'linked.h5:/w'}"])
    refused = implicit("replay", "r.h5", "-q")
    assert refused.err.startswith("implicit: error: r.h5: its spec names linked.h5, which is not in ")
    assert implicit("replay", "r.h5", "-q", "--allow-path", away).code == 0
