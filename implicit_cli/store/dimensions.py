"""What tells the dimensions of result files apart: their names do not, for they step aside for whatever else a file has.

A dimension that is called `atom` in one file may be `atom_2` in another, which has an array of that name.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from implicit_cli.store import layout

Use = tuple[str, int]
"""An array and one of its axes."""
Key = tuple[str, str, str, int]
"""What tells a dimension: the name that it would like, what it is, the products it is for, how many like it came before."""

CASES: Key = (layout.CASE, "identifier of the case", "", 0)

K = TypeVar("K", bound=Hashable)


def wanted(name: str, long_name: str) -> str:
    """The name that a dimension would have liked, from the one that was free (`layout.unique`)."""
    candidates = [layout.CASE, layout.ITERATION, layout.GAUGE, layout.EVALUATION, layout.OUTER_STEP, long_name]
    parts = long_name.split(" of ")
    splits = [(" of ".join(parts[:cut]), " of ".join(parts[cut:])) for cut in range(1, len(parts))]
    candidates += [f"{owner}_{axis}" for axis, owner in splits]
    if found := re.fullmatch(r"right-hand side of the (.*) solves", long_name):
        candidates.append(f"{found[1]}_right_hand_side")
    components = {layout.component(candidate): candidate for candidate in candidates}
    for stem in (name, re.sub(r"_\d+$", "", name)):
        if stem in components:
            return components[stem]
    return layout.original(name)


def of_products(wanted: str, long_name: str, uses: Iterable[Use]) -> str:
    """Kind of the products that many directions are for: jvp and hessian_along have their own, though they may share a name."""
    word, _, name = long_name.partition(" of ")
    if word not in ("direction", "cotangent") or wanted != f"{name}_{word}":
        return ""
    return min((array for array, _ in uses), default="").removeprefix(f"{layout.CERTIFICATE}/").partition("/")[0]


def woven(old: Sequence[K], new: Sequence[K]) -> list[K]:
    """All of both, each in its order; what is new comes as late as its successors let it, as in a file of all cases."""
    known = set(old)
    before: dict[K, list[K]] = {}
    waiting: list[K] = []
    for key in new:
        if key in known:
            before[key], waiting = waiting, []
        else:
            waiting.append(key)
    return [*(item for key in old for item in (*before.get(key, ()), key)), *waiting]
