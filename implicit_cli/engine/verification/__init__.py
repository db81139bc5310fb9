"""Claims checked by a witness that knows nothing of the implicit function theorem: problems that are solved again nearby.

trials    the directions along which each product is checked, and what it claims there
witness   differences of solutions: derivatives with their own error, Taylor remainders, kinks
theorem   the theorem's own numbers held against F itself: A J v + B v by differences of F, forward against adjoint
check     a case, judged
"""

from implicit_cli.engine.verification.check import verify_case

__all__ = ["verify_case"]
