"""Sensitivities of anything that is solved, each with an error bound. Importing this package does not import JAX."""

__version__ = "0.1.0"
