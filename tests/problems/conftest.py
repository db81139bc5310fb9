"""A spec goes in, records come out: the path of the command, without the file."""

import pytest

from implicit_cli import engine, plugins
from implicit_cli.spec import load_spec


@pytest.fixture
def solve(tmp_path):
    """Run a spec given as text; returns the case and its products by (kind, name, of, wrt)."""

    def run(text):
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        loaded = load_spec(path)
        cls = plugins.load(loaded.model.problem, base=tmp_path, allow_plugin=False, plugins=())
        vectors = engine.Vectors(engine.bind(loaded, cls))
        result = engine.run_case(vectors, engine.make_plan(loaded, vectors), identity="0", seed=loaded.model.seed)
        return result, {(p.kind, p.name, p.of, p.wrt): p for p in result.products}

    return run
