"""What a problem derives from x, a list of neighbours: kept fresh while the solver runs, and of no influence on the result."""

import h5py
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import engine, plugins
from implicit_cli.core import stationary
from implicit_cli.core.implicit import Point
from implicit_cli.errors import InputError, PluginError, RanAway
from implicit_cli.problem import Data, Derived, Option, Parameter, Problem, Unknown
from implicit_cli.spec import load_spec
from implicit_cli.status import Status

N = 9


class Chain(Problem):
    """Points on a line that repel each other where they are nearer than `size`, and are drawn to the origin."""

    skin = Option(0.3, minimum=0.0)
    wrong = Option(False)
    widest = Option(100.0, doc="no list is made for points that are further out")
    size = Parameter(default=1.0)
    start = Data(shape=("point",))
    pairs = Derived(doc="pairs nearer than size and the skin")
    x = Unknown(shape=("point",))

    def condition(self):
        def energy(x, theta, data):
            i, j, _ = data.pairs
            overlap = jnp.maximum(theta.size - jnp.abs(x.x[i] - x.x[j]), 0.0)
            return jnp.sum(jnp.where(i < j, overlap**2, 0.0)) / 2 + 0.05 * jnp.sum(x.x**2)

        return stationary(energy)

    def initial(self, theta, data, key):
        return {"x": data.start}

    def derive(self, x, theta, data):
        self.calls = getattr(self, "calls", 0) + 1
        if self.wrong:
            return {"other": 0}
        at = np.asarray(x.x)
        if np.abs(at).max() > self.widest:
            raise RanAway(f"a point is more than {self.widest:g} away")
        i, j = np.nonzero(np.triu(np.abs(at[:, None] - at) < float(theta.size) + self.skin, k=1))
        i, j = (np.concatenate([part, np.zeros(N * N - part.size, int)]) for part in (i, j))  # fillers are no pair: i = j
        return {"pairs": (i, j, at)}

    def stale(self, x, theta, data):
        return jnp.max(jnp.abs(x.x - data.pairs[2])) > 0.4 * self.skin


def prepare(folder, **options):
    with h5py.File(folder / "start.h5", "w") as file:
        file["start"] = np.random.default_rng(0).normal(size=N) * 0.2
    lines = "".join(f", {name}: {str(value).lower()}" for name, value in options.items())
    (folder / "chain.yaml").write_text(
        f"problem: ridge\noptions: {{{lines[2:]}}}\ndata: {{start: start.h5:/start}}\nsolver: {{name: lbfgs}}\n"
    )
    loaded = load_spec(folder / "chain.yaml")
    vectors = engine.Vectors(engine.bind(loaded, Chain))
    return loaded, vectors


def run(folder, **options):
    loaded, vectors = prepare(folder, **options)
    result = engine.run_case(vectors, engine.make_plan(loaded, vectors), identity="0", seed=0)
    return vectors, result


def test_a_list_that_goes_stale_is_made_anew_and_changes_nothing(tmp_path):
    often, short = run(tmp_path, skin=0.05)
    seldom, long = run(tmp_path, skin=50.0)
    assert often.problem.calls > seldom.problem.calls
    assert short.status is long.status is Status.OK
    np.testing.assert_allclose(short.solution["x"], long.solution["x"], atol=1e-11)
    np.testing.assert_allclose(short.products[0].value, long.products[0].value, atol=1e-9)
    # an independent look at all pairs: forces vanish
    x = short.solution["x"]
    gap = x[:, None] - x
    force = np.sum(np.maximum(1.0 - np.abs(gap), 0.0) * np.sign(gap), axis=1) - 0.1 * x
    assert np.abs(force).max() < 1e-12


def test_a_solve_that_runs_away_ends_with_its_status_and_a_start_that_has_is_refused(tmp_path):
    _, result = run(tmp_path, skin=0.05, widest=1.0)
    assert result.status is Status.NOT_CONVERGED
    x = result.solution["x"]
    assert np.abs(x).max() <= 1.0
    force = np.sum(np.maximum(1.0 - np.abs(x[:, None] - x), 0.0) * np.sign(x[:, None] - x), axis=1) - 0.1 * x
    assert np.abs(force).max() == pytest.approx(result.solver.residual)
    assert result.message.startswith(f"max |F| is {result.solver.residual:.2e} after ")
    with pytest.raises(InputError, match=r"a point is more than 0\.1 away"):
        run(tmp_path, widest=0.1)


def test_what_is_derived_belongs_to_the_point(tmp_path):
    _, vectors = prepare(tmp_path, skin=0.1)
    x = jnp.linspace(-3.0, 3.0, N)
    p = vectors.refreshed(Point(x, vectors.start, vectors.data))
    np.testing.assert_array_equal(p.data[0].pairs[2], x)
    np.testing.assert_array_equal(vectors.data[0].start, p.data[0].start)


def test_unrolling_is_refused_where_lists_change(tmp_path):
    prepare(tmp_path)
    loaded = load_spec(tmp_path / "chain.yaml", ["sensitivity.method=unrolled"])
    with pytest.raises(InputError, match=r"pairs change during the steps; allowed: 'implicit', 'finite_difference'"):
        engine.make_plan(loaded, engine.Vectors(engine.bind(loaded, Chain)))


def test_a_problem_that_derives_something_else_is_told(tmp_path):
    with pytest.raises(PluginError, match=r"Chain.derive gives \['other'\], declared: \['pairs'\]"):
        prepare(tmp_path, wrong=True)


def test_skins_change_no_packing(tmp_path):
    found = []
    for skin in (0.05, 1.0):
        (tmp_path / "packing.yaml").write_text(
            f"problem: packing\noptions: {{particle: 24, skin: {skin}}}\nparameters: {{diameter: 0.6, phi: 1.1}}\n"
            "sensitivity: {of: [energy], wrt: [diameter]}\n"
        )
        loaded = load_spec(tmp_path / "packing.yaml")
        cls = plugins.load("packing", base=tmp_path, allow_plugin=False, plugins=())
        vectors = engine.Vectors(engine.bind(loaded, cls))
        found.append(engine.run_case(vectors, engine.make_plan(loaded, vectors), identity="0", seed=3))
    assert found[0].status is found[1].status
    np.testing.assert_allclose(found[0].outputs["energy"], found[1].outputs["energy"], rtol=1e-10)
