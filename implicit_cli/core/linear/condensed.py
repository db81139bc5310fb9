"""Unknowns that hang together in small groups are eliminated exactly: the Schur complement of all the others is what is left.

What a problem calls loose, such as rattlers, leaves A next to singular: hundreds of null vectors for a factorisation to find, and
for an iteration that does not end. Without them A is as regular as its other unknowns are, and about as sparse.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array, csr_array, diags_array, lil_array
from scipy.sparse.csgraph import connected_components

from implicit_cli.core.linear.base import FloatArray

LOOSE = 1e-6
"""Stiffness of what is loose that counts as none, relative to the largest there: contacts that graze leave some."""


def size_of(A: csc_array) -> float:
    """The length of A's largest column."""
    return float(np.sqrt(A.power(2).sum(axis=0).max(initial=0.0)))


class Condensed:
    """A without its loose unknowns f: with A_ff^+ by small blocks, the rest k answers by S = A_kk - A_kf A_ff^+ A_fk.

    `A` is S, with the loose unknowns on a diagonal of their own.
    """

    def __init__(self, A: csc_array, loose: NDArray[np.bool_]) -> None:
        f = np.flatnonzero(loose)
        self.loose = loose
        self._A_ff = _block_inverse(csr_array(A[f, :][:, f]))
        A_f = csr_array(A[f, :])
        self._follow = csr_array(self._A_ff @ A_f)  # (f, d): how what is loose follows the rest
        outer = csc_array(A_f.T @ self._follow)
        keep = diags_array(1.0 * ~loose)
        self.A = csc_array(keep @ (A - outer) @ keep + diags_array(size_of(A) * loose))
        self.A.eliminate_zeros()

    def without(self, u: FloatArray) -> FloatArray:
        """u with zeros for what is loose."""
        return np.where(self.loose[:, None], 0.0, u)

    def completed(self, Z: FloatArray) -> FloatArray:
        """An orthonormal basis of A's null vectors, from those of S."""
        return np.asarray(np.linalg.qr(self.whole(Z, np.zeros_like(Z)))[0])

    def rest(self, b: FloatArray) -> FloatArray:
        """The right-hand side that is left for the rest, for a symmetric A."""
        return self.without(b - self._follow.T @ b[self.loose])

    def whole(self, u: FloatArray, b: FloatArray) -> FloatArray:
        """u with what is loose: A_ff^+ (b_f - A_fk u_k)."""
        u = self.without(u)
        u[self.loose] = self._A_ff @ b[self.loose] - self._follow @ u
        return u


def _block_inverse(A: csr_array) -> csr_array:
    """Pseudo-inverse of a symmetric A that falls into small blocks."""
    count, label = connected_components(A, directed=False)
    inverse = lil_array(A.shape)
    members = np.argsort(label, kind="stable")
    for block in np.split(members, np.cumsum(np.bincount(label, minlength=count))[:-1]):
        inverse[np.ix_(block, block)] = np.linalg.pinv(A[block, :][:, block].toarray(), rcond=LOOSE, hermitian=True)
    return csr_array(inverse)
