"""The mathematics, on pytrees and vectors: no files, no problem names. What problems need of it is the catalogue."""

from implicit_cli.core.conditions import Condition, fixed_point, root, stationary

__all__ = ["Condition", "fixed_point", "root", "stationary"]
