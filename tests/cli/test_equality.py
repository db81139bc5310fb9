"""How a sweep is computed is no part of its answer: `implicit compare` finds results equal within the bounds that both give."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import h5py
import pytest

from implicit_cli.engine import batch, sweep, sweeping

pytestmark = pytest.mark.slow

PROBLEMS = {
    "ridge": ("ridge_sweep", "penalty", [0.01, 0.1, 1.0, 10.0, 100.0], ()),
    "qp": ("qp", "h", [-0.1, -0.095, -0.085, -0.075, -0.07], ()),
    # so close to each other that all starts lead to the same packing
    "packing": (
        "packing",
        "diameter",
        [0.6, 0.600001, 0.600002, 0.600003, 0.600004],
        ("options.particle=16", "sensitivity.products=[jacobian]"),
    ),
}
"""Sample input, what varies and its values, and what else is set."""

VARIATIONS = {
    "a right-hand side at a time": {"settings": ("sensitivity.memory=1 kB",)},
    "in one batch": {"width": 32},
    "in batches of 2, from neighbour to neighbour": {"width": 2, "settings": ("sweep.start=neighbour",)},
    "the last one first": {"order": (4, 3, 2, 1, 0)},
    "from neighbour to neighbour, in another order": {"order": (2, 0, 4, 1, 3), "settings": ("sweep.start=neighbour",)},
    "two cases, then all": {"before": (3, 1)},
    "in three shards": {"shards": 3},
    "by two processes": {"words": ("--jobs", "2")},
    "on a host of three devices": {"flags": "--xla_force_host_platform_device_count=3"},
}
OFTEN = {
    "a right-hand side at a time": ("ridge", "packing"),
    "in batches of 2, from neighbour to neighbour": ("ridge",),
    "two cases, then all": ("qp",),
    "in three shards": ("ridge",),
    "by two processes": ("ridge",),
    "on a host of three devices": (),
}
"""Problems of which a variation is tried in every run, where it starts processes or compiles anew; of all by `-m exhaustive`."""
ROWS = [
    pytest.param(name, how, marks=[] if name in OFTEN.get(how, PROBLEMS) else [pytest.mark.exhaustive], id=f"{name}, {how}")
    for how in VARIATIONS
    for name in PROBLEMS
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("equality")


@pytest.fixture
def run(implicit, samples, folder):
    """Computes cases of a problem as a user would; the path of the result, all of whose cases are good."""

    def run(name, out, values, *words, settings=(), flags=""):
        sample, target, _, own = PROBLEMS[name]
        sets = [word for given in (*own, f"sweep={{over: {{{target}: {list(values)}}}}}", *settings) for word in ("--set", given)]
        command = ["run", str(samples / f"{sample}.yaml"), "-o", str(folder / f"{out}.h5"), *words, *sets]
        if flags:
            there = {**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {flags}"}
            done = subprocess.run([sys.executable, "-m", "implicit_cli", *command], env=there, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        else:
            done = implicit(*command)
            assert done.code == 0, done.err
        return folder / f"{out}.h5"

    return run


@pytest.fixture
def whole(run, folder):
    """The cases one by one, in the order of the design, each from its own guess."""

    def whole(name):
        return folder / f"{name}.h5" if (folder / f"{name}.h5").exists() else run(name, name, PROBLEMS[name][2])

    return whole


@pytest.mark.parametrize(("name", "variation"), ROWS)
def test_results_agree(implicit, run, whole, monkeypatch, name, variation):
    first = whole(name)
    how, values, out = VARIATIONS[variation], PROBLEMS[name][2], f"{name}, {variation}"
    if "width" in how:
        monkeypatch.setattr(sweep, "WORTH_A_BATCH", 1)
        for module in (batch, sweep, sweeping):
            monkeypatch.setattr(module, "WIDTH", how["width"])
    some = [values[place] for place in how.get("order", range(len(values)))]
    rest = {key: how[key] for key in ("settings", "flags") if key in how}
    if "before" in how:
        run(name, out, [values[place] for place in how["before"]], **rest)
    for number in range(1, how.get("shards", 0) + 1):
        run(name, out, some, "--shard", f"{number}/{how['shards']}", **rest)
    second = run(name, out, some, *how.get("words", ()), **rest)

    done = implicit("compare", first, second, "--json")
    found = json.loads(done.out)
    judged = [row for case in found["cases"] for row in case["quantities"]]
    apart = [(row["kind"], row["name"], row["of"], row["verdict"]) for row in judged if row["verdict"] not in ("agree", "gauge")]
    assert (done.code, found["verdict"], apart) == (0, "agree", [])
    assert (len(found["cases"]), found["only_a"], found["only_b"]) == (len(values), [], [])
    assert any(row["kind"] == "jacobian" and row["bound_kind"] in ("bound", "estimate") for row in judged)


@pytest.mark.parametrize("name", PROBLEMS)
def test_another_value_differs(implicit, run, whole, name):
    """A millionth of the parameter is seen in the solution, or where that has a gauge in the outputs, and in the derivatives."""
    value, first = PROBLEMS[name][2][2], whole(name)
    other = run(name, f"{name}, moved", [value * 1.000001])
    with h5py.File(first) as file:
        case = file["cases/id"].asstr()[2]
    done = implicit("compare", first, other, "--case", case, "--json")
    found = json.loads(done.out)
    assert (done.code, found["verdict"]) == (1, "differ")
    kinds = {row["kind"] for row in found["cases"][0]["quantities"] if row["verdict"] == "differ"}
    assert {"parameter", "output"} <= kinds
    if name != "qp":  # the weights are linear in the return
        assert "jacobian" in kinds
