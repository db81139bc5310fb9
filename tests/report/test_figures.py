"""Figures and pages of real results: each is drawn, says what it means, needs nothing else, and lets nothing through."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from implicit_cli import api

SAMPLES = Path(__file__).resolve().parents[2] / "sample_inputs"
RIDGE = (SAMPLES / "ridge.yaml").read_text()
HOLED = """\
problem: expression
formulas:
  parameters: {a: {}, b: {}}
  unknowns: {y: {unit: m}}
  equations: {y: "y - sqrt(1.9 - a) * exp(b)"}
parameters: {a: 1.0, b: 0.0}
sweep: {over: {a: {uniform: [1, 2]}, b: {normal: [0, 0.1]}}, design: latin_hypercube, samples: 60}
"""
SPITEFUL = """\
problem: expression
formulas:
  parameters: {a: {shape: [n]}}
  unknowns: {y: {shape: [n]}}
  equations: {y: y - a * a}
parameters: {a: [1.0, 2.0]}
labels: {n: ['<script>alert(1)</script>', '"><img src=x onerror=alert(2)>']}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, known = tmp_path_factory.mktemp("figures"), {}

    def make(text):
        if text not in known:
            spec = folder / f"s{len(known)}.yaml"
            spec.write_text(text.replace("diabetes.h5", str(SAMPLES / "diabetes.h5")))
            known[text] = api.run(str(spec), spec.with_suffix(".h5"), allow_paths=[SAMPLES]).path
        return known[text]

    return make


class Page(HTMLParser):
    """Elements and their attributes, and the text between."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


@pytest.mark.parametrize("text", [RIDGE, HOLED, SPITEFUL], ids=["case", "sweep", "spiteful"])
def test_every_figure_is_drawn_in_every_format_with_a_caption(made, tmp_path, text):
    result = made(text)
    names = [name for name, _ in api.figures(result)]
    assert len(names) == len(set(names)) >= 3
    for number, name in enumerate(names):
        out = tmp_path / f"{number}.svg"
        done = api.plot(result, name, out)
        assert len(done.caption) > 40
        ElementTree.fromstring(out.read_text())
    for suffix, mark in ((".png", b"\x89PNG"), (".pdf", b"%PDF")):
        out = tmp_path / f"x{suffix}"
        api.plot(result, names[0], out)
        assert out.read_bytes().startswith(mark)


@pytest.mark.parametrize("text", [RIDGE, HOLED, SPITEFUL], ids=["case", "sweep", "spiteful"])
def test_a_page_needs_nothing_but_itself_and_runs_nothing(made, tmp_path, text):
    out = tmp_path / "report.html"
    done = api.report(made(text), out)
    page = Page(out.read_text())
    tags = [tag for tag, _ in page.elements]
    assert tags.count("figcaption") == tags.count("figure") == done.figures
    assert not {"script", "img", "link", "iframe", "object", "embed", "form"} & set(tags)
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,")), name
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = re.findall(r"url\(#([^)]+)\)", out.read_text()) + [
        a["xlink:href"][1:] for _, a in page.elements if a.get("xlink:href", "").startswith("#")
    ]
    assert set(used) <= set(ids)


def test_eigenvalues_are_those_of_the_matrix_and_zeros_are_counted(tmp_path):
    from implicit_cli.api.reporting import _Allowed, _spectrum
    from implicit_cli.store import read_stored

    stiff = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, -2.0]])
    turned = np.array([[1.0, 5.0], [0.0, 2.0]])
    cases = {
        "saddle": ("equations: {x: 'K @ x - a * ones'}", stiff, np.linalg.svd(stiff, compute_uv=False)[::-1]),
        "turned": ("equations: {x: 'K @ x - a * ones'}", turned, np.linalg.svd(turned, compute_uv=False)[::-1]),
        "energy": ("minimise: 0.5 * x @ K @ x - a * sum(x)", stiff @ stiff, np.linalg.eigvalsh(stiff @ stiff)),
    }
    for name, (formula, K, expected) in cases.items():
        spec = tmp_path / f"{name}.yaml"
        data = "{K: [n, n], ones: [n]}"
        spec.write_text(
            f"problem: expression\nformulas:\n  parameters: {{a: {{}}}}\n  data: {data}\n  unknowns: {{x: [n]}}\n  {formula}\n"
            f"data: {{K: {K.tolist()}, ones: {[1.0] * len(K)}}}\nparameters: {{a: 1.0}}\n"
        )
        result = api.run(str(spec), tmp_path / f"{name}.h5").path
        found = _spectrum(result, read_stored(result), _Allowed(False, ()))()
        np.testing.assert_allclose(found.values, expected, rtol=1e-12)
        assert (found.symmetric, found.nullity) == (name == "energy", 0)
    changed = ["options.particle=32", "sensitivity.products=[jacobian]"]
    packing = api.run(str(SAMPLES / "packing.yaml"), tmp_path / "p.h5", overrides=changed).path
    found = _spectrum(packing, read_stored(packing), _Allowed(False, ()))()
    zero = found.values[: found.nullity]
    assert found.nullity >= len(found.gauges) == 2
    assert np.abs(zero).max() < 1e-10 * found.values[-1]
    assert np.abs(found.values[found.nullity :]).min() > 1e-6 * found.values[-1]


def test_a_plug_in_that_may_not_be_imported_costs_the_spectrum_only(tmp_path, capsys):
    from implicit_cli.cli import main

    plugin = tmp_path / "my_problem.py"
    plugin.write_text((SAMPLES / "my_problem.py").read_text())
    spec = tmp_path / "my_problem.yaml"
    spec.write_text((SAMPLES / "my_problem.yaml").read_text())
    (tmp_path / "blood.h5").write_bytes((SAMPLES / "blood.h5").read_bytes())
    result, out = tmp_path / "r.h5", tmp_path / "r.html"
    assert main(["run", str(spec), "--plugin", str(plugin), "-o", str(result), "--quiet"]) == 0
    assert main(["report", str(result), "-o", str(out)]) == 0
    assert "left out: spectrum: " in capsys.readouterr().err
    assert "Stiff and soft modes" not in out.read_text()
    assert main(["report", str(result), "-o", str(out), "--plugin", str(plugin)]) == 0
    assert "left out" not in capsys.readouterr().err
    assert "Stiff and soft modes" in out.read_text()


def test_a_page_of_a_sweep_names_failed_cases_with_reason_and_remedy(made, tmp_path):
    out = tmp_path / "report.html"
    api.report(made(HOLED), out)
    words = " ".join(Page(out.read_text()).words)
    assert "not_finite" in words
    assert "check the data, the initial guess, and F at the edge of its domain" in words


def test_the_same_result_gives_the_same_page(made, tmp_path):
    pages = []
    for name in ("one.html", "two.html"):
        api.report(made(RIDGE), tmp_path / name)
        pages.append((tmp_path / name).read_text())
    assert pages[0] == pages[1]


def test_the_command_lists_draws_and_refuses(made, tmp_path, capsys):
    from implicit_cli.cli import main

    result = str(made(RIDGE))
    assert main(["plot", result]) == 0
    assert "tornado-validation_loss" in capsys.readouterr().out
    assert main(["plot", result, "tornado", "-o", str(tmp_path / "t.svg")]) == 0
    assert "What moves validation_loss. Each bar" in capsys.readouterr().out
    for words, message in (
        (["plot", result, "tornedo"], "FIGURE: found 'tornedo', allowed for this result: 'all"),
        (
            ["plot", result, "tornado", "-o", "x.gif"],
            "x.gif: found a name that tells no format, allowed: one that ends in '.pdf', '.png', '.svg'",
        ),
        (["plot", result, "tornado", "--of", "z"], "--of: found 'z', allowed: "),
        (["report", result, "-o", result], "found an input of this run, allowed: another name for the result"),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert message.replace("'all", "'") in error
