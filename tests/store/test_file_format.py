"""The description of the format is part of the product: its examples run, and it names what the code knows."""

import re
from pathlib import Path

import h5py
import pytest

from implicit_cli.result import Axis, Header, Product, Variable
from implicit_cli.status import Status
from implicit_cli.store import layout, write_result

from .conftest import FEATURES, bound, filled

TEXT = (Path(__file__).parents[2] / "docs" / "file-format.md").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path, monkeypatch, case):
    """A folder with the result that the examples speak of."""
    import dataclasses

    import numpy as np

    unknown, parameter = Variable("w", ("feature",), "mol"), Variable("penalty", ("feature",))
    header = Header("ridge", "", (Axis("feature", 3, np.array(FEATURES)),), (unknown,), (parameter,), (), (), {}, "", "{}", {})
    products = (Product("jacobian", "", "w", "penalty", filled(3, 3), bound(3)),)
    small = dataclasses.replace(case, theta={"penalty": np.ones(3)}, solution={"w": np.ones(3)}, outputs={}, products=products)
    write_result(tmp_path / "result.h5", header, [small])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("number", "output"), [(0, "mol -6.0\n"), (1, "0 ok (3,)\n")])
def test_the_examples_run(folder, capsys, number, output):
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2
    exec(blocks[number], {})
    assert capsys.readouterr().out == output


def test_every_status_is_in_the_table():
    rows = dict(re.findall(r"^\| (-?\d+) \| `(\w+)` \|", TEXT, re.MULTILINE))
    assert {int(code): name for code, name in rows.items()} == {status: status.label for status in Status} | {-1: "absent"}


def test_every_encoding_constant_and_part_is_named():
    for name in {*layout.ENCODINGS.values(), layout.FORMAT, layout.CHECKSUM_MARK.decode()}:
        assert f"`{name}`" in TEXT, name
    for path in layout.ENCODINGS:
        assert f"`/{path}`" in TEXT or not path, path
    for name in layout.CONSTANTS:
        assert f"`/certificate/{name}`" in TEXT
    for name in layout.PARTS:
        assert f"`/certificate/jacobian/<y>/<theta>/{name}`" in TEXT
    assert f"describes format version {layout.FORMAT_VERSION}," in TEXT


def patterns() -> list[re.Pattern[str]]:
    """The paths of the page as patterns; `<path of a value>` may have slashes, other placeholders may not."""
    texts = [text for row in re.findall(r"^\| (`/.*?) \|", TEXT, re.MULTILINE) for text in re.findall(r"`(.*?)`", row)]
    texts += ["/checksum"]
    made = []
    for text in texts:
        text = re.escape(text).replace(r"\.\.\.", r"(bound|truncation|linear|rounding|kind)").replace(r"<path\ of\ a\ value>", ".+")
        made.append(re.compile(re.sub(r"<\w+>", "[^/]+", text)))
    return made


def test_everything_in_a_file_is_described(finished):
    described, missing = patterns(), []

    def look(name, node):
        if isinstance(node, h5py.Dataset) and not node.is_scale and not any(p.fullmatch(f"/{name}") for p in described):
            missing.append(name)

    with h5py.File(finished) as file:
        file.visititems(look)
    assert missing == []


def test_every_array_that_is_described_can_be_found(finished):
    names = []
    with h5py.File(finished) as file:
        file.visit(lambda name: names.append(f"/{name}"))
    # what an outer loop adds is looked for in tests/store/test_outer.py, what an analysis adds in tests/cli/test_analyze.py
    looked_for = [pattern for pattern in patterns() if not pattern.pattern.startswith(("/outer", "/analysis"))]
    unused = [pattern.pattern for pattern in looked_for if not any(pattern.fullmatch(name) for name in names)]
    assert unused == []
