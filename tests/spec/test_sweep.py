"""The section `sweep`: what it may say, what comes of it, and each fault with its place.

Each block is the section of a spec and, after `!`, every line that `implicit` answers with.
"""

# ruff: noqa: E501

from __future__ import annotations

import json
from typing import get_args

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from implicit_cli import designs
from implicit_cli.errors import InputError
from implicit_cli.spec import DistributionSpec, LevelsSpec, RunSpec, SweepSpec, read_axis, read_value, split_target
from implicit_cli.spec import axes as spec_axes
from implicit_cli.spec import sweep as spec_sweep

HEAD = "problem: p\nsweep:\n"


@pytest.fixture
def sweep(load):
    """Load a spec whose section `sweep` is the text given."""

    def sweep(text):
        return load(HEAD + "".join(f"  {line}\n" for line in text.strip().splitlines())).model.sweep

    return sweep


def test_only_over_is_needed(sweep):
    found = sweep("over: {a: [1, 2.5]}")
    assert found.over == {"a": LevelsSpec("list", (1, 2.5))}
    assert (found.design, found.samples, found.second_order, found.levels) == ("grid", None, False, None)
    assert (found.seed, found.covariance, found.max_cases) == (None, None, 1_000_000)


def test_a_spec_without_it_has_none(load):
    assert load("problem: p\n").model.sweep is None


LEVELS = """
over:
  a: [1, [2, 3]]
  b[0]: d.h5:/x
  b[ 1 ]: d.csv:x
  M[0, 1]: {linspace: [0, [1, 2], 3]}
  c: {geomspace: [-1, -100, 3]}
  d: {logspace: [-300, 300, 3]}
  seed: {integers: [0, 9]}
  e: {centred: [0.1, 2]}
"""


def test_levels(sweep):
    over = sweep(LEVELS).over
    assert list(over) == ["a", "b[0]", "b[ 1 ]", "M[0, 1]", "c", "d", "seed", "e"]
    assert over["a"] == LevelsSpec("list", (1, (2, 3)))
    assert over["b[0]"] == LevelsSpec("reference", ("d.h5:/x",))
    assert over["b[ 1 ]"] == LevelsSpec("reference", ("d.csv:x",))
    assert over["M[0, 1]"] == LevelsSpec("linspace", (0, (1, 2), 3))
    assert [axis.count for axis in over.values()] == [2, None, None, 3, 3, 3, 10, 5]


SAMPLED = """
over: {a: {uniform: [[0, 1], 2]}, b: {loguniform: [1e-3, 1]}, c: {normal: [0, 2.5]}, d: {truncated_normal: [0, 1, 3, 4]}}
design: saltelli
samples: 64
second_order: true
seed: 5
max_cases: 10_000
""".replace("10_000", "10000")
CORRELATED = "over: {a: {normal: [0]}, b: {normal: [[1, 2]]}}\ndesign: sobol\nsamples: 8\ncovariance: d.h5:/C\n"
ARC = "over: {'a[0]': {linspace: [0, 1, 5]}}\ncontinue: arc\n"
MORRIS = "over: {a: {uniform: [0, 1]}}\ndesign: morris\nsamples: 10\nlevels: 6\n"


def test_distributions(sweep):
    found = sweep(SAMPLED)
    assert found.over["a"] == DistributionSpec("uniform", ((0, 1), 2))
    assert found.over["d"] == DistributionSpec("truncated_normal", (0, 1, 3, 4))
    assert (found.design, found.samples, found.second_order, found.seed, found.max_cases) == ("saltelli", 64, True, 5, 10_000)
    assert sweep(CORRELATED).over == {"a": DistributionSpec("normal", (0,)), "b": DistributionSpec("normal", ((1, 2),))}
    assert sweep(MORRIS).levels == 6


@pytest.mark.parametrize("text", [LEVELS, SAMPLED, CORRELATED, MORRIS, ARC])
def test_a_dump_is_a_valid_spec_again_and_so_are_its_parts(sweep, text):
    spec = RunSpec(problem="p", sweep=sweep(text))
    assert RunSpec.model_validate_json(spec.model_dump_json()) == spec
    assert RunSpec.model_validate(spec.model_dump()).sweep == spec.sweep
    assert (
        SweepSpec(**{info.alias or name: getattr(spec.sweep, name) for name, info in SweepSpec.model_fields.items()}) == spec.sweep
    )
    assert list(json.loads(spec.model_dump_json())["sweep"]["over"]) == list(spec.sweep.over)


def test_nothing_of_it_can_be_changed(sweep):
    found = sweep("over: {a: [[1, 2], [3, 4]]}")
    with pytest.raises(TypeError):
        found.over["b"] = LevelsSpec("list", (1,))
    with pytest.raises(TypeError):
        found.over["a"].arguments[0][0] = 3
    with pytest.raises(AttributeError):
        found.over["a"].kind = "reference"


def test_every_field_says_what_it_means_and_the_designs_are_those_of_the_room():
    for name, info in SweepSpec.model_fields.items():
        assert info.description, name
    names = get_args(SweepSpec.model_fields["design"].annotation)
    assert names == (*designs.LISTED, *designs.SAMPLED) == (*spec_sweep.LISTED, *spec_sweep.SAMPLED)
    assert set(spec_axes.DISTRIBUTIONS) == set(designs.LAWS)
    assert {kind: rule.arguments for kind, rule in spec_axes.DISTRIBUTIONS.items()} == {
        kind: law.arguments for kind, law in designs.LAWS.items()
    }
    assert set(spec_axes.LEVELS) == set(designs.RULES)


# Targets


@pytest.mark.parametrize(
    ("text", "name", "index"),
    [
        ("a", "a", ()),
        ("a b", "a b", ()),
        ("é_1", "é_1", ()),
        ("a[0]", "a", (0,)),
        ("a[1,20]", "a", (1, 20)),
        ("a[ 1 , 2, 3 ]", "a", (1, 2, 3)),
    ],
)
def test_targets(text, name, index):
    assert split_target(text) == (name, index)


@pytest.mark.parametrize(
    "text",
    ["", " ", "[0]", "a[]", "a[", "a]", "a[-1]", "a[1.5]", "a[0][1]", "a[0]b", " a", "a [0] ", "a[x]", "a[0,]", "a[²]", "a\n", 3],
)
def test_refused_targets(text):
    with pytest.raises(ValueError, match="allowed: NAME, NAME"):
        split_target(text)


NAMES = st.text("ab_é", min_size=1, max_size=5)


@given(NAMES, st.lists(st.integers(0, 10**17), max_size=4), st.sampled_from([",", ", ", " ,"]))
def test_a_target_is_what_it_was_made_of(name, index, comma):
    text = f"{name}[{comma.join(map(str, index))}]" if index else name
    assert split_target(text) == (name, tuple(index))


@given(st.text("a[0], ]-1\n", max_size=8))
def test_a_text_is_a_target_or_refused(text):
    try:
        name, index = split_target(text)
    except ValueError:
        return
    again = f"{name}[{','.join(map(str, index))}]" if index else name
    assert split_target(again) == (name, index)
    assert name == name.strip() != ""
    assert not set(name) & set("[]\n")


# Faults

REFUSED = r"""
design: grid
! s.yaml:2:1: sweep.over: missing, allowed: {TARGET: AXIS}; a target is NAME, NAME[i] or NAME[i, j]: a parameter, data or an unknown's initial guess, or one entry of it, or `seed`; the last one varies fastest in a grid

over: {}
! s.yaml:3:9: sweep.over: found an empty mapping, allowed: {TARGET: AXIS}, such as {penalty: [0.1, 1.0]}

over: [1, 2]
! s.yaml:3:9: sweep.over: found a list of 2, allowed: {TARGET: AXIS}, such as {penalty: [0.1, 1.0]}

over: {'a[-1]': [1]}
! s.yaml:3:19: sweep.over.a[-1]: found the target 'a[-1]', allowed: NAME, NAME[i] or NAME[i, j], with indices from 0 on

over: {a: [1], 'a[0]': [1]}
! s.yaml:3:26: sweep.over.a[0]: found beside 'a', which gives the same entries, allowed: one of them

over: {'a[0, 1]': [1], b: [1], 'a[0,1]': [1]}
! s.yaml:3:44: sweep.over.a[0,1]: found beside 'a[0, 1]', which gives the same entries, allowed: one of them

over: {'a[0]': [1], 'a[0, 1]': [1]}
! s.yaml:3:34: sweep.over.a[0, 1]: found beside 'a[0]', allowed: as many indices in both

over: {a: 3}
! s.yaml:3:13: sweep.over.a: found 3, allowed: a list of values, 'file.h5:/path', 'file.csv:column', or {KIND: [...]} with one of 'centred', 'geomspace', 'integers', 'linspace', 'logspace', 'loguniform', 'normal', 'truncated_normal', 'uniform'; did you mean [3]?

over: {a: true}
! s.yaml:3:13: sweep.over.a: found true, allowed: a list of values, 'file.h5:/path', 'file.csv:column', or {KIND: [...]} with one of 'centred', 'geomspace', 'integers', 'linspace', 'logspace', 'loguniform', 'normal', 'truncated_normal', 'uniform'

over: {a: d.csv}
! s.yaml:3:13: sweep.over.a: found 'd.csv', allowed: a list of values, 'file.h5:/path', 'file.csv:column', or {KIND: [...]} with one of 'centred', 'geomspace', 'integers', 'linspace', 'logspace', 'loguniform', 'normal', 'truncated_normal', 'uniform'

over: {a: '0.5'}
! s.yaml:3:13: sweep.over.a: found '0.5', allowed: a list of values, 'file.h5:/path', 'file.csv:column', or {KIND: [...]} with one of 'centred', 'geomspace', 'integers', 'linspace', 'logspace', 'loguniform', 'normal', 'truncated_normal', 'uniform'; did you mean the number 0.5, in a list?

over: {a: {linspace: [0, 1, 3], unit: m}}
! s.yaml:3:13: sweep.over.a: found a mapping with 2 keys, allowed: a list of values, 'file.h5:/path', 'file.csv:column', or {KIND: [...]} with one of 'centred', 'geomspace', 'integers', 'linspace', 'logspace', 'loguniform', 'normal', 'truncated_normal', 'uniform'

over: {a: {linspce: [0, 1, 3]}}
! s.yaml:3:14: sweep.over.a.linspce: unknown key, allowed: 'centred', 'geomspace', 'integers', 'linspace', 'logspace', 'loguniform', 'normal', 'truncated_normal', 'uniform'; did you mean 'linspace'?

over: {a: [1, x]}
! s.yaml:3:17: sweep.over.a.1: found 'x', allowed: a number or a list of numbers

over: {a: {linspace: [0, 1]}}
! s.yaml:3:24: sweep.over.a.linspace: found a list of 2, allowed: [FIRST, LAST, COUNT]

over: {a: {linspace: 5}}
! s.yaml:3:24: sweep.over.a.linspace: found 5, allowed: [FIRST, LAST, COUNT]

over: {a: {linspace: [0, 1, 2.0]}, b: {linspace: [0, 1, 0]}, c: {linspace: [0, 1, true]}}
! s.yaml:3:31: sweep.over.a.linspace.2: found 2.0, allowed: COUNT, an integer, at least 1
! s.yaml:3:59: sweep.over.b.linspace.2: found 0, allowed: COUNT, an integer, at least 1
! s.yaml:3:85: sweep.over.c.linspace.2: found true, allowed: COUNT, an integer, at least 1

over: {a: {linspace: [0, x, 2]}, b: {linspace: [0, '1', 2]}, c: {linspace: [0, .nan, 2]}, d: {linspace: [[0, .inf], 1, 2]}}
! s.yaml:3:28: sweep.over.a.linspace.1: found 'x', allowed: LAST, a number or a list of numbers
! s.yaml:3:54: sweep.over.b.linspace.1: found '1', allowed: LAST, a number or a list of numbers; did you mean the number 1.0?
! s.yaml:3:78: sweep.over.c.linspace: found NaN, allowed: finite numbers
! s.yaml:3:107: sweep.over.d.linspace: found an infinite number, allowed: finite numbers

over: {a: {linspace: [[0, 1], [1, 2, 3], 5]}}
! s.yaml:3:24: sweep.over.a.linspace: found lists of 2 and 3, allowed: equally long ones

over: {a: {geomspace: [0, 1, 5]}, b: {geomspace: [[1, -1], 2, 5]}}
! s.yaml:3:25: sweep.over.a.geomspace: found FIRST 0 and LAST 1, allowed: both above 0, or both below
! s.yaml:3:52: sweep.over.b.geomspace: found FIRST -1 and LAST 2 at [1], allowed: both above 0, or both below

over: {a: {logspace: [1, 1e4, 5]}}
! s.yaml:3:24: sweep.over.a.logspace: found the exponent 10000.0, allowed: -300 to 300; did you mean 'geomspace', which takes the first and the last level themselves?

over: {a: {integers: [3, 1]}, b: {integers: [0.5, 2]}}
! s.yaml:3:24: sweep.over.a.integers: found FIRST 3 and LAST 1, allowed: FIRST at most LAST
! s.yaml:3:48: sweep.over.b.integers.0: found 0.5, allowed: FIRST, an integer

over: {a: {centred: [0.0, 2]}}
! s.yaml:3:23: sweep.over.a.centred: found STEP 0, allowed: another number

over: {seed: [1, 2.5]}
! s.yaml:3:20: sweep.over.seed.1: found 2.5, allowed: an integer, at least 0

over: {seed: {integers: [-1, 2]}}
! s.yaml:3:28: sweep.over.seed.integers.0: found -1, allowed: an integer, at least 0

over: {seed: {linspace: [0, 1, 2]}}
! s.yaml:3:16: sweep.over.seed: found {linspace: ...}, allowed: a list of integers, a reference, or {integers: [FIRST, LAST]}

over: {'seed[0]': [1]}
! s.yaml:3:21: sweep.over.seed[0]: found an index, allowed: 'seed', which is one number

over: {a: {uniform: [1, 0]}, b: {uniform: [0, [1, 0]]}, c: {loguniform: [0, 1]}, d: {loguniform: [2, 1]}}
design: random
samples: 5
! s.yaml:3:23: sweep.over.a.uniform: found LOW 1 and HIGH 0, allowed: LOW below HIGH
! s.yaml:3:45: sweep.over.b.uniform: found LOW 0 and HIGH 0 at [1], allowed: LOW below HIGH
! s.yaml:3:75: sweep.over.c.loguniform: found LOW 0, allowed: above 0
! s.yaml:3:100: sweep.over.d.loguniform: found LOW 2 and HIGH 1, allowed: LOW below HIGH

over: {a: {normal: [0, 0]}, b: {truncated_normal: [0, -1, 0, 1]}, c: {truncated_normal: [0, 1, 1, 1]}, d: {normal: []}}
design: random
samples: 5
! s.yaml:3:22: sweep.over.a.normal: found DEVIATION 0, allowed: above 0
! s.yaml:3:53: sweep.over.b.truncated_normal: found DEVIATION -1, allowed: above 0
! s.yaml:3:91: sweep.over.c.truncated_normal: found LOW 1 and HIGH 1, allowed: LOW below HIGH
! s.yaml:3:118: sweep.over.d.normal: found an empty list, allowed: [MEAN, DEVIATION]

over: {a: {uniform: [0, 1]}}
! s.yaml:3:13: sweep.over.a: found {uniform: ...} with design 'grid', allowed: a list, a reference, or one of 'centred', 'geomspace', 'integers', 'linspace', 'logspace'; distributions go with 'fast', 'halton', 'latin_hypercube', 'morris', 'random', 'saltelli', 'sobol'

over: {a: [1, 2]}
design: random
samples: 3
! s.yaml:3:13: sweep.over.a: found levels with design 'random', allowed: a distribution: 'loguniform', 'normal', 'truncated_normal', 'uniform'; levels go with 'grid', 'one_at_a_time', 'zip'

over: {a: {uniform: [0, 1]}}
design: random
! s.yaml:2:1: sweep.samples: missing, allowed with design 'random': number of points; with saltelli base samples N of N (D + 2) points, D being the number of all entries that vary; with morris trajectories of D + 1 points; with fast samples for each of the D entries

over: {a: [1, 2]}
samples: 3
seed: 0
covariance: 1
second_order: true
levels: 4
! s.yaml:4:12: sweep.samples: found with design 'grid', allowed with: 'fast', 'halton', 'latin_hypercube', 'morris', 'random', 'saltelli', 'sobol'
! s.yaml:5:9: sweep.seed: found with design 'grid', allowed with: 'fast', 'halton', 'latin_hypercube', 'morris', 'random', 'saltelli', 'sobol'
! s.yaml:6:15: sweep.covariance: found with design 'grid', allowed with: 'halton', 'latin_hypercube', 'random', 'sobol'
! s.yaml:7:17: sweep.second_order: found with design 'grid', allowed with: 'saltelli'
! s.yaml:8:11: sweep.levels: found with design 'grid', allowed with: 'morris'

over: {a: [1]}
design: latin_hypercub
! s.yaml:4:11: sweep.design: found 'latin_hypercub', allowed: 'fast', 'grid', 'halton', 'latin_hypercube', 'morris', 'one_at_a_time', 'random', 'saltelli', 'sobol', 'zip'; did you mean 'latin_hypercube'?

over: {a: {uniform: [0, 1]}}
design: sobol
samples: 1000
! s.yaml:5:12: sweep.samples: found 1000, allowed: a power of two, such as 512 or 1024; other counts lose Sobol's balance

over: {a: {uniform: [0, 1]}}
design: saltelli
samples: 3
! s.yaml:5:12: sweep.samples: found 3, allowed: a power of two, such as 2 or 4; other counts lose Sobol's balance

over: {a: {uniform: [0, 1]}}
design: fast
samples: 64
! s.yaml:5:12: sweep.samples: found 64, allowed with design 'fast': at least 65

over: {a: {uniform: [0, 1]}}
design: morris
samples: 4
levels: 5
! s.yaml:6:11: sweep.levels: found 5, allowed: an even number

over: {a: {uniform: [0, 1]}, b: {normal: [1, 2]}, c: {normal: [3]}}
design: random
samples: 4
covariance: [[1]]
! s.yaml:3:13: sweep.over.a: found {uniform: ...} with sweep.covariance, allowed: {normal: [MEAN]}, whose deviations are in the covariance
! s.yaml:3:35: sweep.over.b: found {normal: [MEAN, DEVIATION]} with sweep.covariance, allowed: {normal: [MEAN]}, whose deviations are in the covariance

over: {a: {normal: [3]}}
design: random
samples: 4
! s.yaml:3:13: sweep.over.a: found {normal: [MEAN]} without sweep.covariance, allowed: {normal: [MEAN, DEVIATION]}

over: {a: {normal: [3]}}
design: saltelli
samples: 4
covariance: d.h5:/C
! s.yaml:6:15: sweep.covariance: found with design 'saltelli', allowed with: 'halton', 'latin_hypercube', 'random', 'sobol'

over: {a: [1, 2], b: {linspace: [0, 1, 3]}, c: d.h5:/c}
design: zip
! s.yaml:3:9: sweep.over: found 2 of 'a', 3 of 'b', allowed with design 'zip': as many values of each target

over: {a: {linspace: [0, 1, 100000]}, b: {centred: [0.5, 50000]}}
! s.yaml:3:9: sweep.over: found 10,000,100,000 cases, allowed: at most 1,000,000, which is sweep.max_cases

over: {a: {integers: [-9223372036854775808, 9223372036854775807]}, b: d.h5:/b}
! s.yaml:3:9: sweep.over: found at least 18,446,744,073,709,551,616 cases, allowed: at most 1,000,000, which is sweep.max_cases

over: {a: [1, 2, 3]}
design: one_at_a_time
max_cases: 2
! s.yaml:3:9: sweep.over: found at least 3 cases, allowed: at most 2, which is sweep.max_cases

over: {a: {uniform: [0, 1]}}
design: random
samples: 2000000
! s.yaml:5:12: sweep.samples: found 2,000,000, allowed: at most 1,000,000, which is sweep.max_cases

over: {a: [1, 2], b: [1, 2]}
continue: arc
start: neighbour
design: zip
on_failure: abort
! s.yaml:3:9: sweep.over: found 2 targets with continue: arc, allowed: one, a parameter or one entry of it
! s.yaml:5:10: sweep.start: found 'neighbour' with continue: arc, allowed: 'cold'
! s.yaml:6:11: sweep.design: found 'zip' with continue: arc, allowed: 'grid'
! s.yaml:7:15: sweep.on_failure: found 'abort' with continue: arc, allowed: 'skip'

over: {a: [1]}
continue: arc
! s.yaml:3:13: sweep.over.a: found 1 level with continue: arc, allowed: at least 2, of which the second says which way to go

over: {seed: [1, 2]}
continue: arc
! s.yaml:3:16: sweep.over.seed: found the seed with continue: arc, allowed: a parameter or one entry of it

over: {a: [1, 2]}
continue: bow
! s.yaml:4:13: sweep.continue: found 'bow', allowed: 'arc'

over: {a: [1]}
sampels: 3
! s.yaml:4:3: sweep.sampels: unknown key, allowed: 'continue', 'covariance', 'design', 'fallback', 'levels', 'max_cases', 'on_failure', 'over', 'samples', 'second_order', 'seed', 'start', 'timeout'; did you mean 'samples'?
"""


def blocks(transcript: str) -> list[tuple[str, list[str]]]:
    """Section and messages of each block."""
    found = []
    for block in transcript.strip("\n").split("\n\n"):
        lines = block.split("\n")
        text = [line for line in lines if not line.startswith("! ")]
        found.append((HEAD + "".join(f"  {line}\n" for line in text), [line[2:] for line in lines if line.startswith("! ")]))
    return found


def test_a_branch_needs_float64_the_theorem_and_newton_steps(faults):
    asked = "precision: float32\nsolver: {polish: false}\nsensitivity: {method: unrolled}\n"
    assert faults(f"{HEAD}  over: {{a: [1, 2]}}\n  continue: arc\n{asked}") == [
        "s.yaml:5:12: precision: found 'float32' with sweep.continue: arc, allowed: 'float64'",
        "s.yaml:6:18: solver.polish: found false with sweep.continue: arc, allowed: true",
        "s.yaml:7:23: sensitivity.method: found 'unrolled' with sweep.continue: arc, allowed: 'implicit'",
    ]


@pytest.mark.parametrize(("text", "messages"), blocks(REFUSED))
def test_refused(faults, text, messages):
    assert faults(text) == messages


def test_as_many_cases_as_allowed_are_taken(sweep):
    assert sweep("over: {a: {integers: [1, 1000]}, b: {integers: [1, 1000]}}").max_cases == 1_000_000
    assert sweep("over: {a: [1, 2, 3]}\ndesign: one_at_a_time\nmax_cases: 3").max_cases == 3
    assert sweep("over: {a: {uniform: [0, 1]}}\ndesign: fast\nsamples: 65\nmax_cases: 65").samples == 65


# What the axes are given, as arrays


def test_axes_as_arrays(load, folder):
    with h5py.File(folder / "d.h5", "w") as file:
        file["x"] = np.arange(6.0).reshape(3, 2)
        file["x"].attrs["units"] = "K"
        file["one"] = 1.5
    (folder / "d.csv").write_text("t,x\n1,2.5\n3,4\n")
    loaded = load(
        HEAD + "  over: {a: [[1, 2], [3, 4]], b: d.h5:/x, c: d.csv:x, d: {linspace: [[0, 1], 2.5, 3]}, e: d.h5:/one, f: [[1], 2]}\n"
    )
    (found,) = read_axis(loaded, "a")
    assert (found.array.tolist(), found.array.dtype) == ([[1, 2], [3, 4]], np.int64)
    (found,) = read_axis(loaded, "b")
    assert (found.array.tolist(), found.unit, found.origin) == ([[0, 1], [2, 3], [4, 5]], "K", "d.h5:/x")
    (found,) = read_axis(loaded, "c")
    assert (found.array.tolist(), found.array.flags.writeable, found.origin) == ([2.5, 4.0], False, "d.csv:x")
    assert [part.array.tolist() for part in read_axis(loaded, "d")] == [[0, 1], 2.5, 3]
    with pytest.raises(
        InputError, match=r"sweep.over.e: d.h5:/one: found a single number, allowed: a value for each entry of the first axis$"
    ):
        read_axis(loaded, "e")
    with pytest.raises(InputError, match=r"s.yaml:3:\d+: sweep.over.f.1: found 2, allowed: a list of 1, as the first one is"):
        read_axis(loaded, "f")


def test_columns_of_a_csv_file_are_for_sweeps_only(load, faults, folder):
    (folder / "d.csv").write_text("x\n1\n")
    assert faults("problem: p\ndata: {X: d.csv:x}\n") == [
        "s.yaml:2:11: data.X: found 'd.csv:x', allowed: a number, a list of numbers, 'file.h5:/path', or {value: ..., unit: ...}"
    ]
    loaded = load("problem: p\n")
    with pytest.raises(InputError, match=r"found 'd.csv:x', allowed: 'file.h5:/path'"):
        read_value(loaded, ("data", "X"), "d.csv:x")
