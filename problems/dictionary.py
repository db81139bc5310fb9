"""Task-driven dictionary learning: sparse codes of the samples, and how well a classifier does on them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from implicit_cli.core import Condition, prox, proximal_gradient
from implicit_cli.problem import Data, Output, Parameter, Problem, Unknown

Array = jax.Array

MAIRAL = "J. Mairal, F. Bach, J. Ponce, Task-Driven Dictionary Learning, IEEE Trans. Pattern Anal. 34, 791 (2012)"


class Dictionary(Problem):
    """Sparse codes: code_i = argmin_c |X_i - c'dictionary|^2 / 2 + l1 |c|_1 + l2/2 |c|^2 for each sample i, and a classifier.

    The classifier is logistic regression on the codes, with the weights `w` and the constant `b`. `implicit optimize` learns it and
    the dictionary together.

    With D the atoms that a sample uses and s the signs of its code, code = (D D' + l2 I)^-1 (D X_i - l1 s), and zero elsewhere.
    Kinks: an atom that is not used has |dictionary_j (X_i - code_i'dictionary)| = l1, or one that is used has no weight.
    """

    X = Data(shape=("sample", "feature"), doc="features of the training samples")
    y = Data(shape=("sample",), doc="their classes, 0 or 1")
    X_validation = Data(shape=("validation_sample", "feature"), doc="features of the held-out samples")
    y_validation = Data(shape=("validation_sample",), doc="their classes")
    dictionary = Parameter(shape=("atom", "feature"), doc="atoms, one in each row", source=MAIRAL)
    l1 = Parameter(bounds=(0.0, None), doc="makes codes sparse")
    l2 = Parameter(bounds=(0.0, None), default=0.0, doc="makes codes unique where atoms are alike")
    w = Parameter(shape=("atom",), default=0.0, doc="weights of the classifier")
    b = Parameter(default=0.0, doc="its constant")
    ridge = Parameter(bounds=(0.0, None), default=0.0, doc="regularisation of w in `objective`")
    code = Unknown(shape=("sample", "atom"), doc="codes of the training samples")
    code_validation = Unknown(shape=("validation_sample", "atom"), doc="codes of the held-out samples")
    loss = Output(doc="mean logistic loss on the training samples")
    objective = Output(doc="loss + ridge/2 |w|^2: what is to be small in w, b and the dictionary")
    validation_loss = Output(doc="mean logistic loss on the held-out samples")

    example = """\
problem: dictionary
data:
  X: [[1.0, 0.2, 0.1], [0.1, 0.9, 0.8]]
  y: [1, 0]
  X_validation: [[0.9, 0.1, 0.3]]
  y_validation: [1]
parameters:
  dictionary: [[1.0, 0.0, 0.2], [0.1, 0.7, 0.7]]
  w: [1.0, -1.0]
  l1: 0.1
  l2: 0.01
sensitivity: {of: [loss], wrt: [dictionary, w, b, l1]}
"""

    def misfit(self, x: Any, theta: Any, data: Any) -> Array:
        """The smooth part, of all samples together: none feels another."""

        def of(X: Array, code: Array) -> Array:
            return jnp.sum((X - code @ theta.dictionary) ** 2) / 2 + theta.l2 / 2 * jnp.sum(code**2)

        return of(data.X, x.code) + of(data.X_validation, x.code_validation)

    def pattern(self, x: Any, theta: Any, data: Any) -> tuple[Array, Array]:
        """A has a block for each sample, and nothing beside them."""
        atoms = theta.dictionary.shape[0]
        samples = (x.code.size + x.code_validation.size) // atoms
        first, atom = atoms * jnp.arange(samples)[:, None, None], jnp.arange(atoms)
        block = (samples, atoms, atoms)
        rows, cols = (jnp.broadcast_to(first + inner, block) for inner in (atom[None, :, None], atom[None, None, :]))
        return rows.ravel(), cols.ravel()

    def condition(self) -> Condition:
        return proximal_gradient(
            self.misfit,
            lambda v, eta, theta, data: jax.tree.map(lambda leaf: prox.lasso(leaf, eta * theta.l1), v),
            # 1 / L at most, for the largest eigenvalue of D D' is no larger than its trace
            eta=lambda theta, data: 1 / (jnp.sum(theta.dictionary**2) + theta.l2),
            margin=lambda v, eta, theta, data: prox.lasso.margin(ravel_pytree(v)[0], eta * theta.l1),
        ).tagged(pattern=self.pattern)

    def outputs(self, x: Any, theta: Any, data: Any) -> dict[str, Array]:
        def of(code: Array, y: Array) -> Array:
            score = code @ theta.w + theta.b
            return jnp.mean(jax.nn.softplus(score) - y * score)

        loss = of(x.code, data.y)
        return {
            "loss": loss,
            "objective": loss + theta.ridge / 2 * jnp.sum(theta.w**2),
            "validation_loss": of(x.code_validation, data.y_validation),
        }
