"""Cases become results: a spec is bound to its problem, planned, solved, differentiated and certified. Nothing is written here."""

from implicit_cli.engine.bind import BoundProblem, bind
from implicit_cli.engine.branch import ENDS, Followed, check_branch, follow
from implicit_cli.engine.case import differentiate_at, run_case
from implicit_cli.engine.conformance import conformance
from implicit_cli.engine.deadline import TimedOut
from implicit_cli.engine.plan import Plan, make_plan
from implicit_cli.engine.solving import solved, solved_before, story_of
from implicit_cli.engine.spectrum import Spectrum, spectrum
from implicit_cli.engine.sweep import Cases
from implicit_cli.engine.sweeping import marked, run_cases
from implicit_cli.engine.vectors import Vectors
from implicit_cli.engine.verification import verify_case

__all__ = [
    "ENDS",
    "BoundProblem",
    "Cases",
    "Followed",
    "Plan",
    "Spectrum",
    "TimedOut",
    "Vectors",
    "bind",
    "check_branch",
    "conformance",
    "differentiate_at",
    "follow",
    "make_plan",
    "marked",
    "run_case",
    "run_cases",
    "solved",
    "solved_before",
    "spectrum",
    "story_of",
    "verify_case",
]
