"""`implicit optimize`: what it prints and writes, what it refuses, and that it goes on after an interruption and after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from implicit_cli import api
from implicit_cli.cli.signals import Signals
from implicit_cli.errors import Interrupted
from implicit_cli.status import Status

Q = np.array([[2.0, 0.5, 0.1], [0.5, 1.0, -0.3], [0.1, -0.3, 1.5]])
SPEC = f"""\
problem: quadratic
data: {{Q: {Q.tolist()}}}
parameters: {{b: [1.0, 1.5, 2.0]}}
sensitivity: {{of: [x], products: [{{jvp: {{up: {{b: 1.0}}}}}}]}}
outer: {{objective: minimum, sense: maximise, bounds: {{b: [0.5, 5.0]}}}}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("q.yaml").write_text(SPEC)
    return tmp_path


def everything(path):
    """All numbers of a result but wall times."""
    found = {}
    with h5py.File(path) as file:

        def look(name, node):
            if isinstance(node, h5py.Dataset) and "seconds" not in name and not name.startswith(("spec", "provenance", "checksum")):
                found[name] = node[()]

        file.visititems(look)
    return found


def same(a, b):
    one, other = everything(a), everything(b)
    assert set(one) == set(other)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


# What it prints and writes


def test_a_quadratic_ends_at_the_corner_of_its_closed_form(implicit):
    """The minimum over x is -b'Q^-1 b / 2; in the box it is largest at the corner next to 0, where its gradient -x points out."""
    done = implicit("optimize", "q.yaml", "-o", "q.h5")
    lines = done.err.splitlines()
    assert (done.code, done.out) == (0, "")
    assert lines[0] == "implicit: maximise minimum over b (3 entries) with lbfgs"
    assert lines[1].startswith("implicit: step 0: minimum -3.26351")
    assert lines[-2].startswith("implicit: minimum -3.26351")
    assert lines[-2].endswith("the projected gradient, 0.0e+00, is within outer.tol, 1e-06")
    assert lines[-1].startswith("implicit: wrote q.h5: 1 case, ok, ")
    found = everything("q.h5")
    b = found["cases/parameters/b"][0]
    np.testing.assert_array_equal(b, [0.5, 0.5, 0.5])
    x = np.linalg.solve(Q, b)
    assert (x > 0).all()
    np.testing.assert_allclose(found["solution/x"][0], x, rtol=1e-14)
    np.testing.assert_allclose(found["outputs/minimum"], [-b @ x / 2], rtol=1e-14)
    np.testing.assert_allclose(found["jvp/up/x"][0], np.linalg.solve(Q, np.ones(3)), rtol=1e-12)
    np.testing.assert_allclose(
        found["outer/objective"][0], -np.array([1, 1.5, 2]) @ np.linalg.solve(Q, [1, 1.5, 2]) / 2, rtol=1e-14
    )
    np.testing.assert_array_equal(found["outer/lambda/b"][found["outer/result"]], b)
    assert not Path("q.h5.outer").exists()
    assert implicit("show", "q.h5").code == 0
    assert implicit("verify", "q.h5", "-q").code == 0  # the result is one like any other


def test_at_an_optimum_the_derivative_of_the_objective_asks_for_no_digits(implicit):
    """There it is zero: what is left is rounding, and no accuracy relative to itself could be met."""
    Path("best.yaml").write_text(
        "problem: kernel_ridge\nparameters: {length: 1.0, penalty: 0.01}\ntransforms: {length: log}\n"
        "data: {X: [[0.0], [1.0], [2.0], [3.0]], y: [0.1, 0.8, 0.9, 0.2], X_validation: [[0.5], [2.5]], y_validation: [0.6, 0.3]}\n"
        "sensitivity: {of: [validation_loss], accuracy: 1e-11}\n"
        "outer: {objective: validation_loss, parameters: [length], tol: 1e-4}\n"
    )
    done = implicit("optimize", "best.yaml", "-o", "best.h5")
    assert done.code == 0
    assert done.err.splitlines()[-1].startswith("implicit: wrote best.h5: 1 case, ok, ")
    found = everything("best.h5")
    slope = found["sensitivity/validation_loss/length"].item()
    bound = found["certificate/jacobian/validation_loss/length/bound"].item()
    assert 0 < abs(slope) < 1e-4
    assert bound > 1e-11 * abs(slope)


def test_quiet_and_verbose_exclude_each_other(implicit):
    done = implicit("optimize", "q.yaml", "-o", "q.h5", "-v", "-q")
    assert (done.code, done.err) == (2, "implicit: error: --quiet: found with --verbose, allowed: one of the two\n")


def test_a_run_that_uses_up_its_steps_ends_with_1_and_goes_on_with_more_of_the_same(implicit):
    few = ("--set", "outer.method=gradient_descent", "--set", "outer.step=0.4", "--set", "outer.max_steps=3")
    done = implicit("optimize", "q.yaml", "-o", "a.h5", *few)
    assert done.code == 1
    assert "outer.max_steps, 3, are done; the projected gradient is" in done.err
    assert (
        done.err.splitlines()[-1] == "implicit: kept a.h5.outer: the same command with a larger outer.max_steps goes on from there"
    )
    assert everything("a.h5")["outer/converged"] == 0
    done = implicit("optimize", "q.yaml", "-o", "a.h5", *few[:2], "--set", "outer.step=0.3", "--set", "parameters.b=[1, 1, 1]")
    assert done.code == 2
    assert done.err.splitlines() == [
        "implicit: error: a.h5.outer: belongs to another run: spec.parameters.b: found [1, 1, 1], it was [1.0, 1.5, 2.0]",
        "implicit: error: a.h5.outer: belongs to another run: spec.outer.step: found 0.3, it was 0.4",
        "implicit: error: a.h5.outer: belongs to another run: values.parameters.b differs",
        "implicit: error: a.h5.outer: belongs to another run: go on with what it belongs to, or remove the file to start anew",
    ]
    many = (*few[:-1], "outer.max_steps=300")
    done = implicit("optimize", "q.yaml", "-o", "a.h5", *many)
    assert done.code == 0
    assert done.err.splitlines()[0].endswith(", going on from a.h5.outer: 4 evaluations")
    assert done.err.splitlines()[1].startswith("implicit: step 4: ")
    assert not Path("a.h5.outer").exists()
    assert implicit("optimize", "q.yaml", "-o", "b.h5", *many, "-q").err == ""
    same("a.h5", "b.h5")


# Failed inner solves


WALLED = """
import jax.numpy as jnp
from implicit_cli.core import root
from implicit_cli.problem import Output, Parameter, Problem, Unknown

class Walled(Problem):
    '''x^2 = 1 - t: no solution beyond t = 1.'''
    t = Parameter(default=-3.0)
    x = Unknown(initial=1.0)
    y = Output()

    def condition(self):
        return root(lambda x, theta, data: x._replace(x=x.x**2 - 1 + theta.t))

    def outputs(self, x, theta, data):
        return {"y": (x.x - 0.5) ** 2}
"""


def test_the_search_turns_back_from_where_nothing_is_solved(implicit):
    Path("walled.py").write_text(WALLED)
    Path("w.yaml").write_text(
        "problem: ./walled.py:Walled\nsolver: {max_steps: 30}\n"
        "outer: {objective: y, method: gradient_descent, step: 8.0, decay: 5.0, tol: 1.0e-4, max_steps: 30}\n"
    )
    done = implicit("optimize", "w.yaml", "-o", "w.h5", "--allow-plugin")
    assert done.code == 0, done.err
    found = everything("w.h5")
    assert found["cases/parameters/t"][0] == pytest.approx(0.75, abs=1e-3)
    failed = found["outer/status"] != Status.OK
    assert failed.any()
    assert np.isnan(found["outer/objective"][failed]).all()
    assert not failed[found["outer/steps"]].any()
    assert all(found["outer/message"][failed])
    # at a start that fails nothing can be done: the file says so
    done = implicit("optimize", "w.yaml", "-o", "v.h5", "--allow-plugin", "--set", "parameters.t=2.0")
    assert done.code == 1
    assert "the inner solve failed at the start" in done.err
    found = everything("v.h5")
    assert found["outer/steps"].size == 0
    assert found["cases/status"][0] != Status.OK


# Interruptions


@pytest.fixture
def replies(monkeypatch):
    """`api.optimize` in which a signal comes, and a second one where `twice` is set."""

    def make(number, twice=False):
        def run(spec, output, *, stopped, **rest):
            assert not stopped()
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            if twice:
                os.kill(os.getpid(), number)
                time.sleep(0.01)
            assert stopped()
            raise Interrupted("stopped after 3 evaluations, saved in x.h5.outer: the same command goes on from there")

        monkeypatch.setattr(api, "optimize", run)

    return make


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_lets_the_evaluation_end(implicit, replies, number, code):
    replies(number)
    before = signal.getsignal(number)
    done = implicit("optimize", "q.yaml", "-o", "x.h5")
    assert done.code == code
    assert done.err.splitlines() == [
        "implicit: stopping when this evaluation is done; once more: at once",
        "implicit: stopped after 3 evaluations, saved in x.h5.outer: the same command goes on from there",
    ]
    assert signal.getsignal(number) is before


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Signals("nothing") as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not signals.stopped()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_ctrl_c_acts_at_once(implicit, replies):
    replies(signal.SIGINT, twice=True)
    done = implicit("optimize", "q.yaml", "-o", "x.h5")
    assert (done.code, done.err.splitlines()[-1]) == (130, "implicit: interrupted")


def test_an_interrupted_run_goes_on_to_the_same_numbers(here):
    chosen = ("outer.bounds={b: [-1.0, 5.0]}", "outer.tol=1e-9")
    whole = api.optimize("q.yaml", Path("a.h5"), overrides=chosen)
    count = iter(range(99))
    with pytest.raises(Interrupted, match=r"stopped after 3 evaluations, saved in b\.h5\.outer: the same command"):
        api.optimize("q.yaml", Path("b.h5"), overrides=chosen, stopped=lambda: next(count) == 2)
    assert not Path("b.h5").exists()
    again = api.optimize("q.yaml", Path("b.h5"), overrides=chosen)
    assert (whole.reason, whole.steps, whole.evaluations) == (again.reason, again.steps, again.evaluations)
    assert whole.evaluations > 5
    same("a.h5", "b.h5")


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers(here):
    """A process of its own, killed where it cannot notice."""
    Path("slow.py").write_text(
        "import time\n"
        "from implicit_cli import plugins\n"
        "Quadratic = plugins.load('quadratic', base=None, allow_plugin=False, plugins=())\n"
        "class Slow(Quadratic):\n"
        "    '''Slowly.'''\n"
        "    def constants(self, theta, data):\n"
        "        time.sleep(0.1)\n"
        "        return super().constants(theta, data)\n"
    )
    Path("q.yaml").write_text(SPEC.replace("problem: quadratic", "problem: ./slow.py:Slow"))
    chosen = ["--allow-plugin", "-q", "--set", "outer.method=adam", "--set", "outer.max_steps=15"]
    words = [
        sys.executable,
        "-c",
        "import sys; from implicit_cli.cli import main; sys.exit(main())",
        "optimize",
        "q.yaml",
        *chosen,
        "-o",
    ]
    killed = subprocess.Popen([*words, "b.h5"], stderr=subprocess.DEVNULL)
    while not Path("b.h5.outer").exists():
        assert killed.poll() is None
        time.sleep(0.02)
    time.sleep(0.5)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert not Path("b.h5").exists()
    for name in ("b.h5", "a.h5"):
        done = subprocess.run([*words, name], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
    same("a.h5", "b.h5")


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("outer=null", "q.yaml:1:1: 'outer' is missing, allowed: a mapping such as {objective: OUTPUT, parameters: [NAME]}"),
        (
            "outer.objective=minimumm",
            "--set outer.objective: found 'minimumm', allowed: an output or unknown that is a single number: 'minimum'; "
            "did you mean 'minimum'?",
        ),
        (
            "outer.objective=x",
            "--set outer.objective: 'x' has shape (3), allowed: a single number: 'minimum'; to come near a target: {x: TARGET}",
        ),
        ("outer.bounds={b: [2, 5]}", "q.yaml:3:17: parameters.b: found 1, allowed: within outer.bounds, 2 to 5"),
        ("outer.sense=up", "--set outer.sense: found 'up', allowed: 'maximise', 'minimise'"),
    ],
)
def test_refusals_come_before_any_work_and_name_their_place(implicit, change, message):
    done = implicit("optimize", "q.yaml", "-o", "q.h5", "-q", "--set", change)
    assert (done.code, done.out, done.err) == (2, "", f"implicit: error: {message}\n")
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["q.yaml"]


def test_an_input_is_not_written_over(implicit):
    assert implicit("optimize", "q.yaml", "-o", "q.yaml").code == 2
    with h5py.File("t.h5", "w") as file:
        file["x"] = np.ones(3)
    targets = ("--set", "outer={objective: {x: 't.h5:/x'}}")
    done = implicit("optimize", "q.yaml", "-o", "t.h5", *targets)
    assert (done.code, done.err) == (2, "implicit: error: t.h5: found an input of this run, allowed: another name for the result\n")


def test_check_prints_the_plan_and_refuses_as_optimize_does(implicit):
    done = implicit("check", "q.yaml")
    assert done.out.splitlines()[-1] == (
        "outer          maximise minimum over b (3 entries) with lbfgs, at most 100 steps, |projected gradient| <= 1e-06"
    )
    assert implicit("check", "q.yaml", "--set", "outer.objective=x").code == 2


def test_the_refusal_of_a_spec_without_the_section_needs_no_jax(here):
    script = (
        "import sys; from implicit_cli.cli import main; code = main(sys.argv[1:]); sys.exit(9 if 'jax' in sys.modules else code)"
    )
    words = [sys.executable, "-c", script, "optimize", "q.yaml", "-o", "q.h5", "--set", "outer=null"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr


def test_signals_are_left_alone_outside_of_the_main_thread():
    import threading

    found = []

    def work():
        with Signals("this") as signals:
            found.append(signals.stopped())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
