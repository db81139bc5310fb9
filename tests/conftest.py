"""Common to all tests: float64, a device, a compilation cache of this run's own, hypothesis without a clock, the command line."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from implicit_cli.engine import Plan, Vectors
    from implicit_cli.result import CaseResult, Product
    from implicit_cli.spec import LoadedSpec

# gpu or gpu:N runs the tests that need one; everything else runs there too.
DEVICE = os.environ.get("IMPLICIT_TEST_DEVICE", "cpu")

COMPILER = "--xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
"""Plain code in one piece: a third less work for a test, most of whose time goes into compiling what runs for milliseconds."""

MAPS = 18_000
"""Memory maps of a process beyond which its compiled programs are dropped; one test alone may take tens of thousands."""

# The first call of a compiled function takes seconds, and that is no fault.
settings.register_profile("house", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    # In the background of a script Ctrl-C is ignored, which processes inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Inherited by workers and by the subprocesses that tests start, so that no program is compiled twice.
    if not hasattr(config, "workerinput"):
        cache = tempfile.mkdtemp(prefix="implicit-tests-")
        config.add_cleanup(lambda: shutil.rmtree(cache, ignore_errors=True))
        os.environ["IMPLICIT_CACHE_DIR"] = cache
        # Flags of whoever runs the tests come last, and count: .ci/run has some tests use the code that users get.
        os.environ["XLA_FLAGS"] = f"{COMPILER} {os.environ.get('XLA_FLAGS', '')}".strip()
        # There are as many processes as cores, and threads that wait for work burn the time of the others.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from implicit_cli import runtime

    runtime.configure(DEVICE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not DEVICE.startswith("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU: IMPLICIT_TEST_DEVICE=gpu"))


@pytest.fixture(autouse=True)
def _room_for_programs() -> Iterator[None]:
    """Each compiled program takes memory maps, of which Linux gives a process 65,530: beyond them the compiler crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_bytes().splitlines()) > MAPS:
        import jax

        jax.clear_caches()
        gc.collect()


@dataclass(frozen=True)
class Done:
    """What a command ended with."""

    code: int
    out: str
    err: str


@pytest.fixture
def implicit(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """The command line in this process: `implicit("run", "x.yaml")` gives code, standard output and standard error."""
    from implicit_cli.cli import main

    def implicit(*arguments: object) -> Done:
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return implicit


@pytest.fixture
def samples() -> Path:
    """The folder of sample specs."""
    return Path(__file__).resolve().parent.parent / "sample_inputs"


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[[str], tuple[LoadedSpec, Vectors, Plan]]:
    """From a spec given as text to what is solved: the loaded spec, the problem's vectors and the plan."""
    from implicit_cli import engine, plugins
    from implicit_cli.api.cases import with_formulas
    from implicit_cli.spec import load_spec

    def prepare(text: str) -> tuple[LoadedSpec, Vectors, Plan]:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        loaded = load_spec(path)
        cls = with_formulas(plugins.load(loaded.model.problem, base=tmp_path, allow_plugin=False, plugins=()), loaded)
        vectors = engine.Vectors(engine.bind(loaded, cls))
        return loaded, vectors, engine.make_plan(loaded, vectors)

    return prepare


@pytest.fixture
def solve(
    prepared: Callable[[str], tuple[LoadedSpec, Vectors, Plan]],
) -> Callable[[str], tuple[CaseResult, dict[tuple[str, str, str, str], Product]]]:
    """Runs a spec given as text, without the file: the case and its products by (kind, name, of, wrt)."""
    from implicit_cli import engine

    def run(text: str) -> tuple[CaseResult, dict[tuple[str, str, str, str], Product]]:
        loaded, vectors, plan = prepared(text)
        result = engine.run_case(vectors, plan, identity="0", seed=loaded.model.seed)
        return result, {(p.kind, p.name, p.of, p.wrt): p for p in result.products}

    return run
