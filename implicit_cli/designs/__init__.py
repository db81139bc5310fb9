"""The designs of parameter sweeps: which values the targets take in which case. Pure NumPy, and SciPy where points are sampled.

It knows neither specs nor problems nor files. Its messages say what was found and what is allowed; where that stands in a spec is
known to whoever calls.
"""

from implicit_cli.designs.base import LAWS, Design, Distribution, Levels, filled
from implicit_cli.designs.counts import LISTED, SAMPLED, check_count, count_of
from implicit_cli.designs.listed import grid, one_at_a_time, zipped
from implicit_cli.designs.sampled import Sample, sampled
from implicit_cli.designs.spaced import RULES, length_of, spaced

__all__ = [
    "LAWS",
    "LISTED",
    "RULES",
    "SAMPLED",
    "Design",
    "Distribution",
    "Levels",
    "Sample",
    "check_count",
    "count_of",
    "filled",
    "grid",
    "length_of",
    "one_at_a_time",
    "sampled",
    "spaced",
    "zipped",
]
