"""Plug-ins as users have them: installed distributions (a real dist-info on sys.path) and files beside a spec."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from implicit_cli import plugins
from implicit_cli.errors import InputError, PluginError
from implicit_cli.problem import Problem

SPRING = '''
"""A module docstring."""
from implicit_cli.problem import Data, Option, Output, Parameter, Problem, Unknown


class Spring(Problem):
    """Spring at rest: x*(k) = argmin_x k x^2 / 2 - f x.

    More text.
    """

    example = """
        problem: spring
        parameters: {k: 1.0}
    """
    count = Option(3, choices=(1, 3), doc="springs in a row")
    stiff = Option(1.5, minimum=0.5)
    k = Parameter(shape=("count",), bounds=(0, None), unit="N/m", doc="stiffness", default=2.0)
    f = Data(shape=(2, "count"), doc="force")
    x = Unknown(shape=("count",), unit="m", initial=0.5)
    energy = Output(unit="J", bounds=(0.0, 9.0))
'''

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a distribution: its entry points and its modules, in a folder of its own on sys.path."""
    before = set(sys.modules)

    def install(distribution: str, points: dict[str, str], **modules: str) -> Path:
        folder = tmp_path / distribution
        info = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = [f"{name} = {target}" for name, target in points.items()]
        (info / "entry_points.txt").write_text("\n".join(["[implicit_cli.problems]", *lines]) + "\n")
        for dotted, source in modules.items():
            path = folder.joinpath(*dotted.split("__")).with_suffix(".py")
            for package in reversed(path.relative_to(folder).parents[:-1]):
                (folder / package).mkdir(exist_ok=True)
                (folder / package / "__init__.py").touch()
            path.write_text(source)
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        return folder

    yield install
    for name in set(sys.modules) - before:
        if name.startswith(("acme", "implicit_plugin_")):
            del sys.modules[name]


def entry(name: str) -> plugins.ProblemEntry:
    (found,) = [candidate for candidate in plugins.installed() if candidate.name == name]
    return found


def load(name: str, base: Path | None = None, **allowed: object) -> type[Problem]:
    return plugins.load(name, base=base or Path.cwd(), **allowed)


def refusal(name: str, base: Path | None = None, *, kind: type[InputError] = PluginError, **allowed: object) -> str:
    """The one line with which a problem is refused."""
    with pytest.raises(InputError) as caught:
        load(name, base, **allowed)
    assert type(caught.value) is kind
    (message,) = caught.value.messages
    assert "\n" not in message
    return message


# Listing


def test_own_problems_are_listed_as_anyone_elses():
    ridge = entry("ridge")
    assert (ridge.target, ridge.distribution) == ("implicit_problems.ridge:Ridge", "implicit-cli")
    assert ridge.summary.startswith("Ridge regression: ")


def test_listing_imports_nothing(install: Install):
    install("acme-springs", {"spring": "acme.deep.springs:Spring"}, acme__deep__springs=SPRING + "\nraise SystemExit(9)\n")
    assert entry("spring") == plugins.ProblemEntry(
        "spring", "acme.deep.springs:Spring", "acme-springs", "Spring at rest: x*(k) = argmin_x k x^2 / 2 - f x."
    )
    assert not [name for name in sys.modules if name.startswith("acme")]


@pytest.mark.parametrize(
    ("target", "summary"),
    [
        ("acme_nowhere:Spring", "broken: no module 'acme_nowhere'"),
        ("acme_springs.inside:Spring", "broken: no module 'acme_springs.inside'"),
        ("acme_springs:Sprung", "broken: no class 'Sprung' in acme_springs"),
        ("acme_wrong:Spring", "broken: syntax error in line 2 of acme_wrong"),
        ("acme_binary:Spring", "broken: "),
        ("acme_again:Renamed", ""),
        ("acme_again:Other", ""),
    ],
)
def test_a_broken_problem_is_listed_with_its_fault(install: Install, target: str, summary: str):
    modules = {
        "acme_springs": SPRING,
        "acme_wrong": "x = 1\nclass Spring(:\n",
        "acme_again": "from acme_springs import Spring as Renamed\nOther = Renamed\n",
    }
    folder = install("acme-springs", {"spring": target}, **modules)
    (folder / "acme_binary.py").write_bytes(b"\xff\xfe\x00")
    found = entry("spring").summary
    assert found.startswith(summary)
    assert bool(found) == bool(summary)


# Loading what is installed


def test_only_the_named_problem_is_imported(install: Install):
    install("acme-one", {"spring": "acme_springs:Spring"}, acme_springs=SPRING)
    install("acme-two", {"other": "acme_other:Other"}, acme_other="raise RuntimeError('never imported')")
    cls = load("spring")
    assert issubclass(cls, Problem)
    assert cls.__module__ == "acme_springs"
    assert "acme_other" not in sys.modules


def test_an_unknown_name_gets_the_nearest(install: Install):
    install("acme-one", {"spring": "acme_springs:Spring"}, acme_springs=SPRING)
    message = refusal("sprint", kind=InputError)
    assert message.startswith("no problem 'sprint' is installed, allowed: ")
    assert "'spring', 'stillinger_weber', 'svm', 'tersoff', 'transport' or a file './file.py:Class'" in message
    assert message.endswith("; did you mean 'spring'?")


def test_two_distributions_with_one_name(install: Install):
    install("acme-one", {"spring": "acme_springs:Spring"}, acme_springs=SPRING)
    install("acme-two", {"spring": "acme_other:Spring"}, acme_other=SPRING)
    expected = (
        "the problem 'spring' is offered twice, by acme-one (acme_springs:Spring) and acme-two (acme_other:Spring): uninstall one"
    )
    assert refusal("spring") == expected


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("acme_nowhere:Spring", "no module 'acme_nowhere' for acme_nowhere:Spring"),
        ("acme_springs", "the entry point 'acme_springs' names no class, allowed: 'module:Class'"),
        (
            "acme_springs:Sprin",
            "{file} has no class 'Sprin', allowed: 'Spring'; did you mean 'Spring'?",
        ),
        (
            "acme_springs:Path",
            "{file}: 'Path' is the class Path, needed: a subclass of implicit_cli.problem.Problem",
        ),
        (
            "acme_springs:Problem",
            "{file}: 'Problem' is the class Problem, needed: a subclass of implicit_cli.problem.Problem",
        ),
        (
            "acme_springs:NUMBER",
            "{file}: 'NUMBER' is an object of type int, needed: a subclass of implicit_cli.problem.Problem",
        ),
    ],
)
def test_entry_points_that_lead_nowhere(install: Install, target: str, message: str):
    folder = install("acme-one", {"spring": target}, acme_springs=SPRING + "\nfrom pathlib import Path\nNUMBER = 3\n")
    assert refusal("spring") == f"problem 'spring' of acme-one: {message.format(file=folder / 'acme_springs.py')}"


def test_an_import_error_names_its_line_inside_the_plugin(install: Install):
    """The innermost frame that the author can mend, not json's own."""
    source = "import json\n\n\ndef read():\n    return json.loads('{')\n\n\nread()\n"
    folder = install("acme-one", {"spring": "acme.springs:Spring"}, acme__springs=source)
    file = folder / "acme" / "springs.py"
    message = refusal("spring")
    start = f"problem 'spring' of acme-one: {file} cannot be imported: JSONDecodeError: Expecting property name"
    assert message.startswith(start)
    assert message.endswith(f" ({file}:5)")


def test_the_line_may_be_in_another_file_of_the_package(install: Install):
    folder = install(
        "acme-one",
        {"spring": "acme.springs:Spring"},
        acme__springs="from acme import helper\n",
        acme__helper="\n\nimport acme_missing\n",
    )
    message = refusal("spring")
    assert message.endswith(f"ModuleNotFoundError: No module named 'acme_missing' ({folder / 'acme' / 'helper.py'}:3)")


def test_a_plugin_that_exits_is_refused_not_obeyed(install: Install):
    install("acme-one", {"spring": "acme_springs:Spring"}, acme_springs="import sys\nsys.exit(0)\n")
    assert "cannot be imported: SystemExit: 0 (" in refusal("spring")


# Loading a file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "spring.py").write_text(SPRING)
    return tmp_path


def test_a_file_is_refused_unless_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The words it asks for work from here, wherever the spec lies."""
    message = refusal("./spring.py:Spring", folder, kind=InputError)
    assert message == (
        "the problem './spring.py:Spring' is a file, and importing it runs its code: read it, then allow it with "
        f"--plugin {folder}/spring.py (this file only) or --allow-plugin (any file that the spec names)"
    )
    monkeypatch.chdir(folder.parent)
    assert f" --plugin {folder.name}/spring.py (" in refusal("./spring.py:Spring", folder, kind=InputError)


def test_a_file_is_relative_to_the_spec(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir("/")
    assert load("./spring.py:Spring", folder, allow_plugin=True).__name__ == "Spring"
    assert load("spring.py", folder, allow_plugin=True).__name__ == "Spring"
    assert load(f"{folder}/spring.py:Spring", Path("/"), allow_plugin=True).__name__ == "Spring"


def test_one_file_may_be_allowed_and_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch):
    (folder / "other.py").write_text(SPRING)
    (folder / "link.py").symlink_to("spring.py")
    monkeypatch.chdir(folder)
    assert load("./spring.py", folder, plugins=[Path("spring.py")]).__name__ == "Spring"
    assert load("./link.py", folder, plugins=[Path("spring.py")]).__name__ == "Spring"
    assert "is a file" in refusal("./other.py", folder, plugins=[Path("spring.py")], kind=InputError)
    assert refusal("./spring.py", folder, plugins=[Path("gone.py")], kind=InputError) == "--plugin: no file 'gone.py'"


def test_a_missing_file_gets_the_nearest(folder: Path):
    message = refusal("./sping.py:Spring", folder, allow_plugin=True, kind=InputError)
    assert message == f"no file '{folder}/sping.py' for the problem './sping.py:Spring'; did you mean 'spring.py'?"


def test_a_file_leaves_no_trace(folder: Path):
    path = list(sys.path)
    cls = load("./spring.py", folder, allow_plugin=True)
    assert sys.path == path
    assert sorted(os.listdir(folder)) == ["spring.py"]
    assert cls.__module__.startswith("implicit_plugin_")
    assert sys.modules[cls.__module__].__file__ == str(folder / "spring.py")


def test_two_files_of_one_name_are_two_modules_and_an_edit_is_a_third(folder: Path):
    (folder / "sub").mkdir()
    (folder / "sub" / "spring.py").write_text(SPRING)
    first = load("./spring.py", folder, allow_plugin=True)
    assert load("./spring.py:Spring", folder, allow_plugin=True) is first
    assert load("./sub/spring.py", folder, allow_plugin=True) is not first
    # Same length, same second: a bytecode cache would take it for the old one.
    (folder / "spring.py").write_text(SPRING.replace("stiffness", "weakness!"))
    assert load("./spring.py", folder, allow_plugin=True).k.doc == "weakness!"


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("x = 1\n", "./bad.py", "{file} defines nothing, needed: one problem class, or its name as in './file.py:Class'"),
        (
            SPRING + "\nclass Damped(Spring):\n    pass\n",
            "./bad.py",
            "{file} defines 'Damped', 'Spring', needed: one problem class, or its name as in './file.py:Class'",
        ),
        (SPRING, "./bad.py:Sprung", "{file} has no class 'Sprung', allowed: 'Spring'; did you mean 'Spring'?"),
        ("class Spring:\n    pass\n", "./bad.py:Spring", "{file}: 'Spring' is the class Spring, needed: a subclass of "),
        ("def f(:\n", "./bad.py", "{file} cannot be imported: SyntaxError: invalid syntax ({file}:1)"),
        (
            "\nimport acme_missing\n",
            "./bad.py",
            "{file} cannot be imported: ModuleNotFoundError: No module named 'acme_missing' ({file}:2)",
        ),
        ("raise ValueError('two\\nlines')\n", "./bad.py", "{file} cannot be imported: ValueError: two lines ({file}:1)"),
    ],
)
def test_files_that_do_not_work(tmp_path: Path, source: str, name: str, message: str):
    file = tmp_path / "bad.py"
    file.write_text(source)
    before = set(sys.modules)
    found = refusal(name, tmp_path, allow_plugin=True)
    assert found.startswith(message.format(file=file))
    if "cannot be imported" in message:
        assert set(sys.modules) == before


def test_an_imported_problem_does_not_count_as_the_files_own(folder: Path, install: Install):
    install("acme-one", {}, acme_springs=SPRING)
    (folder / "mine.py").write_text("from acme_springs import Spring\n\n\nclass Mine(Spring):\n    pass\n")
    assert load("./mine.py", folder, allow_plugin=True).__name__ == "Mine"


# Describing


def test_describe(folder: Path):
    found = plugins.describe("spring", load("./spring.py", folder, allow_plugin=True))
    assert found == plugins.ProblemDescription(
        "spring",
        "Spring at rest: x*(k) = argmin_x k x^2 / 2 - f x.\n\nMore text.",
        (
            plugins.QuantityRow("parameter", "k", ("count",), "N/m", (0, None), 2.0, "stiffness"),
            plugins.QuantityRow("data", "f", (2, "count"), "1", (None, None), None, "force"),
            plugins.QuantityRow("unknown", "x", ("count",), "m", (None, None), 0.5, ""),
            plugins.QuantityRow("output", "energy", (), "J", (0.0, 9.0), None, ""),
            plugins.QuantityRow("option", "count", (), "1", (None, None), 3, "springs in a row", (1, 3)),
            plugins.QuantityRow("option", "stiff", (), "1", (0.5, None), 1.5, ""),
        ),
        "problem: spring\nparameters: {k: 1.0}",
    )


def test_a_class_without_a_docstring_does_not_borrow_one(folder: Path):
    (folder / "bare.py").write_text("from implicit_cli.problem import Problem\n\n\nclass Bare(Problem):\n    pass\n")
    assert plugins.describe("bare", load("./bare.py", folder, allow_plugin=True)).doc == ""
