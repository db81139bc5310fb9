"""Core tests run under strict dtype and rank promotion: what passes here makes no silent conversion."""

import sys

import jax
import pytest

from implicit_cli import runtime


@pytest.fixture(autouse=True)
def _strict_promotion():
    # hypothesis looks through all modules, which loads the lazy parts of jax_md: they do not load under strict promotion
    for name in sorted(runtime._LAZY & sys.modules.keys()):
        getattr(sys.modules[name], "__file__", None)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
