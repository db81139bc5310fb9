"""Specs that are well formed and do not fit their problem: one clear line each, with its place; nothing is solved."""

import h5py
import numpy as np
import pytest

from implicit_cli import engine, plugins
from implicit_cli.engine.bind import bind, check_declarations
from implicit_cli.errors import InputError, PluginError
from implicit_cli.problem import Data, Option, Output, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec

RIDGE = """\
problem: ridge
data:
  X: [[1.0, 2.0], [3.0, -1.0], [0.5, 1.5]]
  y: [1.0, 2.0, 0.5]
  X_validation: [[2.0, 1.0]]
  y_validation: [1.5]
parameters: {penalty: 0.1}
"""
PACKING = "problem: packing\n"
KEPLER = "problem: kepler\nparameters: {eccentricity: [0.1, 0.2], mean_anomaly: [1.0, 1.0]}\n"

FAULTS = [
    (RIDGE, "data.Z=1", "--set data.Z: ridge declares no such name here, allowed: 'X', 'X_validation', 'y', 'y_validation'"),
    (
        RIDGE,
        "data.penalty=1",
        "--set data.penalty: ridge declares no such name here, allowed: 'X', 'X_validation', 'y', 'y_validation'"
        "; it belongs under 'parameters'",
    ),
    (
        RIDGE,
        "data={}",
        [
            "--set data: 'X' is missing: features of the training samples (shape (sample, feature))",
            "--set data: 'y' is missing: targets of the training samples (shape (sample))",
            "--set data: 'X_validation' is missing: features of the held-out samples (shape (validation_sample, feature))",
            "--set data: 'y_validation' is missing: targets of the held-out samples (shape (validation_sample))",
        ],
    ),
    (RIDGE, "data.y=[1, 2]", "--set data.y: found 2 entries along 'sample', allowed: 3, as data.X has"),
    (RIDGE, "data.y=3", "--set data.y: found shape a single number, allowed: (sample)"),
    (RIDGE, "data.X=[1, 2, 3]", "--set data.X: found shape (3), allowed: (sample, feature)"),
    (RIDGE, "parameters.penalty=[1, 2, 3]", "--set parameters.penalty: found 3 entries along 'feature', allowed: 2, as data.X has"),
    (RIDGE, "parameters.penalty=[0.1, -2]", "--set parameters.penalty: found -2 at [1], allowed: at least 0"),
    (RIDGE, "parameters={}", "--set parameters: 'penalty' is missing: regularisation of each weight (shape (feature))"),
    (RIDGE, "parameters.penalty={value: 1, unit: kg}", "--set parameters.penalty: found unit 'kg', allowed: '1'"),
    (RIDGE, "initial={v: 1}", "--set initial: initial.v: ridge declares no such name here, allowed: 'w'"),
    (RIDGE, "options={n: 3}", "--set options: options.n: ridge has no such option, allowed: nothing"),
    (
        RIDGE,
        "labels={features: [a, b]}",
        "--set labels: labels.features: ridge has no such axis, allowed: 'feature', 'sample', 'validation_sample'"
        "; did you mean 'feature'?",
    ),
    (RIDGE, "labels={feature: [a]}", "--set labels: labels.feature: found 1 labels, allowed: 2, as data.X has"),
    (
        RIDGE,
        "transforms={penalti: log}",
        "--set transforms: transforms.penalti: ridge has no such parameter, allowed: 'penalty'; did you mean 'penalty'?",
    ),
    (RIDGE, "sensitivity.of=[v]", "--set sensitivity.of: sensitivity.of.0: found 'v', allowed: 'validation_loss', 'w'"),
    (RIDGE, "sensitivity.wrt=[w]", "--set sensitivity.wrt: sensitivity.wrt.0: found 'w', allowed: 'penalty'"),
    (PACKING, "options.box=round", "--set options.box: found 'round', allowed: 'fixed', 'follows'"),
    (PACKING, "options.particle=2", "--set options.particle: found 2, allowed: at least 4"),
    (PACKING, "options.particle=8.5", "--set options.particle: found 8.5, allowed: an integer"),
    (PACKING, "parameters.phi=0", "--set parameters.phi: found 0, allowed: 0.001 to 2"),
    (
        PACKING,
        "initial.position=[[1, 2], [3, 4]]",
        "--set initial.position: found 2 entries along 'particle', allowed: 128, as options.particle has",
    ),
    (KEPLER, "parameters.eccentricity=0.1", None),
    (
        KEPLER,
        "parameters.mean_anomaly=[1]",
        "--set parameters.mean_anomaly: found 1 entries along 'orbit', allowed: 2, as parameters.eccentricity has",
    ),
]


def bound(tmp_path, text, *overrides):
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    loaded = load_spec(path, overrides)
    return loaded, bind(loaded, plugins.load(loaded.model.problem, base=tmp_path, allow_plugin=False, plugins=()))


@pytest.mark.parametrize(("text", "override", "messages"), FAULTS, ids=[override for _, override, _ in FAULTS])
def test_a_spec_that_does_not_fit_is_refused_in_one_line(tmp_path, text, override, messages):
    if messages is None:
        assert bound(tmp_path, text, override)[1].parameters["eccentricity"].tolist() == [0.1, 0.1]
        return
    with pytest.raises(InputError) as refused:
        bound(tmp_path, text, override)
    assert list(refused.value.messages) == ([messages] if isinstance(messages, str) else messages)


def test_the_place_in_the_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"spec\.yaml:7:23: parameters\.penalty: found -1, allowed: at least 0|at \[0\]"):
        bound(tmp_path, RIDGE.replace("0.1", "-1.0"))


@pytest.mark.parametrize("missing", ["parameters: {eccentricity: 0.1, mean_anomaly: 1.0}"])
def test_an_axis_that_nothing_sizes_is_said_so(tmp_path, missing):
    with pytest.raises(
        InputError, match="the length of axis 'orbit' of 'eccentricity' is not known: give 'eccentricity' as a list"
    ):
        bound(tmp_path, f"problem: kepler\n{missing}\n")


def test_transform_domains(tmp_path):
    with pytest.raises(InputError, match="found 0, allowed with transform 'log': above 0"):
        bound(tmp_path, RIDGE + "transforms: {penalty: log}\n", "parameters.penalty=[0, 1]")
    with pytest.raises(InputError, match="found 2, allowed with transform 'logit': below 1"):
        bound(tmp_path, RIDGE + "transforms: {penalty: logit}\n", "parameters.penalty=[0.5, 2]")


def test_units_of_hdf5_are_compared(tmp_path):
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["M"] = np.array([1.0, 2.0])
        file["M"].attrs["units"] = "deg"
    with pytest.raises(InputError, match=r"found unit 'deg' \(d\.h5:/M\), allowed: 'rad'"):
        bound(tmp_path, KEPLER, "parameters.mean_anomaly=d.h5:/M")


def test_directions_are_checked_and_broadcast(tmp_path):
    spec = RIDGE + "sensitivity: {products: [{jvp: {up: {penalty: 2.0}}}, {vjp: {first: {w: [1, 0]}}}]}\n"
    directions = bound(tmp_path, spec)[1].directions
    assert [(d.kind, d.name) for d in directions] == [("jvp", "up"), ("vjp", "first")]
    assert directions[0].parts["penalty"].tolist() == [2.0, 2.0]
    with pytest.raises(InputError, match=r"found 'w', allowed: 'penalty'"):
        bound(tmp_path, spec.replace("{penalty: 2.0}", "{w: 2.0}"))
    with pytest.raises(InputError, match=r"found shape \(3\), allowed: \(2\) or a single number"):
        bound(tmp_path, spec.replace("[1, 0]", "[1, 0, 0]"))


# A problem's own mistakes


def problem(**members):
    return type("Odd", (Problem,), members)


def test_declarations_that_cannot_work_are_named():
    with pytest.raises(PluginError, match="Odd declares no Unknown"):
        check_declarations(problem()())
    with pytest.raises(PluginError, match=r"Odd\.y: axis 'row' has no length, allowed: 'n'"):
        check_declarations(problem(n=Option(3), x=Unknown(shape=("n",)), y=Output(shape=("row",)))())
    with pytest.raises(PluginError, match=r"Odd\.t: no transform 'exp'"):
        check_declarations(problem(x=Unknown(), t=Parameter(transform="exp"))())


class Wrong(Problem):
    """Each mistake that abstract evaluation can see, by option."""

    n = Option(3)
    mistake = Option("none")
    d = Data(shape=("n",))
    t = Parameter(default=1.0)
    x = Unknown(shape=("n",))
    y = Output()

    def condition(self):
        from implicit_cli.core import root

        return root(self.equation)

    def equation(self, x, theta, data):
        match self.mistake:
            case "shape":
                return x._replace(x=x.x[:2])
            case "type":
                return x.x
            case "raises":
                return x._replace(x=x.x + data.nothing)
        return x._replace(x=x.x - theta.t * data.d)

    def outputs(self, x, theta, data):
        return {} if self.mistake == "output" else {"y": x.x[0]}


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ("shape", r"Wrong: F: 'x' has shape \(2,\), declared: \(3,\)"),
        ("type", r"Wrong: its condition returned .*, expected x with each unknown replaced: x\._replace"),
        (
            "raises",
            r"Wrong: its root condition raised AttributeError: 'data' object has no attribute 'nothing' \(test_bind\.py:\d+\)",
        ),
        ("output", r"Wrong\.outputs gives \[\], declared: \['y'\]"),
    ],
)
def test_a_problem_that_does_not_keep_its_word_is_told_where(tmp_path, mistake, message):
    path = tmp_path / "spec.yaml"
    path.write_text(f"problem: wrong\noptions: {{mistake: {mistake}}}\ndata: {{d: [1, 2, 3]}}\n")
    with pytest.raises(PluginError, match=message):
        engine.Vectors(bind(load_spec(path), Wrong))
