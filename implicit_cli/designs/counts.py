"""How many cases a design has, before any of them is made."""

from __future__ import annotations

import math
from collections.abc import Sequence

from implicit_cli.errors import InputError, listing, nearest

LISTED = ("grid", "zip", "one_at_a_time")
"""Designs of levels."""
SAMPLED = ("random", "latin_hypercube", "sobol", "halton", "saltelli", "morris", "fast")
"""Designs of distributions."""


def count_of(design: str, *, lengths: Sequence[int] = (), samples: int = 0, entries: int = 0, second_order: bool = False) -> int:
    """Number of cases of a design, exact however large; nothing is allocated.

    `grid`, `zip` and `one_at_a_time` ask for the number of levels of each target in `lengths`; the last may have fewer cases than
    told, since levels that are the base values are left out. The sampled ones ask for `samples` and for `entries`, D, the number of
    all entries that vary. Raises InputError for another design.
    """
    match design:
        case "grid":
            return math.prod(lengths)
        case "zip":
            return max(lengths)
        case "one_at_a_time":
            return 1 + sum(lengths)
        case "random" | "latin_hypercube" | "sobol" | "halton":
            return samples
        case "saltelli":
            return samples * ((2 * entries if second_order else entries) + 2)
        case "morris":
            return samples * (entries + 1)
        case "fast":
            return samples * entries
        case _:
            known = (*LISTED, *SAMPLED)
            raise InputError(f"found the design '{design}', allowed: {listing(known)}{nearest(design, known)}")


def check_count(count: int, most: int) -> None:
    """Raise InputError, with the count, where a design has more cases than `most`."""
    if count > most:
        raise InputError(f"found {count:,} cases, allowed: at most {most:,}")
