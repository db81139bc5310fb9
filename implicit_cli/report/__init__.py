"""Figures of a result, one at a time or together on a page. Matplotlib and jinja2; no JAX, and no HDF5: the store reads."""
