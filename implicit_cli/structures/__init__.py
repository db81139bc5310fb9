"""Particles with their cell: from files, lattices and random numbers, and out to the formats of viewers. Imports no JAX."""

from implicit_cli.structures.build import build
from implicit_cli.structures.structure import Structure

__all__ = ["Structure", "build"]
