"""The docs are true: commands run and print what is shown, code runs, specs are valid, links lead somewhere, nothing is left out.

How a page is run and what counts as the same output is told in docs/transcripts.py.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from implicit_cli.cli import app, main
from implicit_cli.spec import load_spec

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page.name: page.read_text(encoding="utf-8") for page in PAGES}
ALL = "\n".join(TEXTS.values())
ELSEWHERE = {"file-format.md"}
"""Its examples are run by tests/store/test_file_format.py, on a result made for them."""


def module(name: str) -> ModuleType:
    """A script in docs/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[name] = loaded
    spec.loader.exec_module(loaded)
    return loaded


GENERATE, TRANSCRIPTS = module("generate"), module("transcripts")
FENCE, agrees = TRANSCRIPTS.FENCE, TRANSCRIPTS.agrees


def blocks(page: str) -> list[Any]:
    return TRANSCRIPTS.blocks(TEXTS[page])


# What is shown against what is printed


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a 1.234e-3 b", "a  1.2345e-3  b", True),
        ("a 1.234 b", "a 1.25 b", False),
        ("a 1.234 b", "a -1.234 b", False),
        ("bound 3e-12", "bound 8e-13", True),
        ("bound 3e-12", "bound 8e-3", False),
        ("position[87, 0]", "position[78, 0]", False),
        ("wrote x.h5: 1 case, ok, 7.1 s", "wrote x.h5: 1 case, ok, 20 s", True),
        ("wrote x.h5: 1 case, ok, 7.1 s", "wrote x.h5: 1 case, partial, 7.1 s", False),
        ("fire: ok, 477 steps and 2 polish steps", "fire: ok, 480 steps and 1 polish step", True),
        ("a\n...\nz", "a\nb\nc\nz", True),
        ("a\n...\nz", "a\nz", True),
        ("a\n...\nz", "a\nb", False),
        ("a", "a\nb", False),
        ("d x[s5] / d y[s1]", "d x[s5] / d y[s2]", False),
    ],
)
def test_the_comparison_can_fail(shown: str, printed: str, same: bool):
    assert agrees(shown.splitlines(), printed.splitlines()) is same


# Commands and code


def test_every_console_block_is_of_commands():
    for page in TEXTS:
        for block in blocks(page):
            assert block.language, f"{page}: a block without a language"
            assert block.language != "console" or block.text.startswith("$ "), f"{page}: {block.text}"
            assert block.language not in ("bash", "shell"), f"{page}: console for what is run, sh for what is not"


def runnable(page: str) -> bool:
    return page not in ELSEWHERE and any(block.language in ("console", "python") for block in blocks(page))


def implicit(words: list[str], folder: Path) -> tuple[int, list[str]]:
    """The command line in this process, where much of what it compiles is there already."""
    out = io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(words)
    return code, [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in TEXTS if runnable(page)])
def test_what_is_shown_runs_and_prints_what_is_shown(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "100")
    wrong = []
    # those of the first page as a shell runs them
    for step in TRANSCRIPTS.steps(TEXTS[page], tmp_path, None if page == "README.md" else implicit):
        if not step.good or not agrees(step.shown, step.printed):
            wrong.append("\n".join([step.label, *step.printed, f"--- {page} shows:", *step.shown]))
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize(
    ("shown", "printed", "result"),
    [
        ("a 1\n...", "a 2\nb\nc", "a 2\n..."),
        ("z\n...\na 1", "a 2\nb\n\nz", "a 2\n...\nz"),
        ("a 1", "a 2\nb", "a 2\nb"),
    ],
)
def test_outputs_are_renewed_as_short_as_they_were(shown: str, printed: str, result: str):
    assert TRANSCRIPTS.renewed(shown.splitlines(), printed.splitlines()) == result.splitlines()


def test_every_spec_shown_is_valid(tmp_path: Path):
    count = 0
    for page in TEXTS:
        for block in blocks(page):
            if block.language == "yaml" and re.search(r"^problem:", block.text, re.MULTILINE):
                path = tmp_path / "spec.yaml"
                path.write_text(block.text)
                assert load_spec(path).model.problem
                count += 1
    assert count >= 5


def test_the_problem_in_the_readme_is_the_sample():
    assert (ROOT / "sample_inputs" / "my_problem.py").read_text().strip() in TEXTS["README.md"]
    spec = (ROOT / "sample_inputs" / "my_problem.yaml").read_text().strip()
    assert spec.partition("\n")[2] in TEXTS["README.md"]


# Generated parts


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_generated_parts_are_fresh(page: Path):
    assert GENERATE.filled(page.read_text()) == page.read_text(), "run 'python docs/generate.py'"


def test_a_stale_part_is_found():
    text = TEXTS["cli.md"]
    assert GENERATE.filled(text.replace("Usage: implicit run", "Usage: implicit walk")) == text


@pytest.mark.parametrize("key", GENERATE.EXAMPLES)
def test_every_example_of_a_key_is_valid(key: str, tmp_path: Path):
    example = GENERATE.EXAMPLES[key]
    path = tmp_path / "spec.yaml"
    path.write_text(example if example.startswith("problem:") else f"problem: some\n{example}\n")
    load_spec(path)
    assert key.rpartition(".")[2] in example or (key, example) == ("solver.name", "solver: newton")


# Nothing is left out, nothing leads nowhere


def test_every_key_of_a_spec_is_documented():
    for section in (*GENERATE.SECTIONS, "values", "products"):
        for key, _, _ in GENERATE.properties(section):
            assert f"| `{key}` |" in TEXTS["spec.md"], key


def test_every_command_and_option_is_documented():
    def walk(command: typer.core.TyperCommand | typer.core.TyperGroup, path: tuple[str, ...]) -> None:
        heading = " ".join(path)
        assert re.search(rf"^##+ `{heading}`$|^# {heading}", TEXTS["cli.md"], re.MULTILINE), heading
        for parameter in command.params:
            for option in parameter.opts:
                assert option in TEXTS["cli.md"], f"{heading} {option}"
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*path, name))

    walk(typer.main.get_command(app), ("implicit",))


def test_the_how_to_has_a_task_for_every_command():
    for name in typer.main.get_command(app).commands:
        assert re.search(rf"^## .*`implicit {name}`", TEXTS["howto.md"], re.MULTILINE), name


@pytest.mark.parametrize("sample", sorted(path.name for path in (ROOT / "sample_inputs").iterdir() if path.is_file()))
def test_every_sample_input_is_named(sample: str):
    assert sample in ALL


def test_every_make_target_named_exists():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`make (\w+)|^make (\w+)", ALL, re.MULTILINE))
    assert {first or second for first, second in named} <= targets


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make, as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", TEXTS[page.name])):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_the_index_names_every_page():
    for page in (ROOT / "docs").rglob("*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        index = "problems.md" if name.startswith("problems/") else "index.md"
        assert name == "index.md" or f"({name})" in TEXTS[index], name


# The site


def test_the_nav_names_every_page():
    nav = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2])
    pages = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(nav) == sorted(pages | {"overview.md", "changelog.md"})


def test_the_gallery_shows_each_kind_of_figure():
    exhibits = [exhibit for group in module("gallery").EXHIBITS.values() for exhibit in group]
    shown = {figure.partition("-")[0] for exhibit in exhibits for figure in exhibit.figures}
    rows = re.findall(r"^\| (`.*?`) \| ", TEXTS["report.md"], re.MULTILINE)
    assert shown == set(re.findall(r"`([a-z]+)", " ".join(rows))) - {"borgonovo"}
    for exhibit in exhibits:
        assert (ROOT / exhibit.spec.partition(" ")[0]).is_file(), exhibit.spec


# The catalogue


def test_the_catalogue_lists_all_there_is_and_every_error_is_small():
    from implicit_cli import core
    from implicit_cli.core import projections, prox

    rows = re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXTS["catalogue.md"], re.MULTILINE)
    rooms = {**vars(projections), **vars(prox)}
    operators = {name for name, thing in rooms.items() if isinstance(thing, projections.Operator)}
    assert {name for name, _ in rows} == {*core.__all__, "conic", *operators} - {"Condition"}
    for name, cells in rows:
        values = [float(cell) for cell in cells.split(" | ") if cell != "-"]
        assert len(values) >= 5, name
        assert max(values) < 1e-7, name
