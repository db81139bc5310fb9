"""An independent witness for the packing problem, in NumPy and by hand: forces, Hessian and mixed derivative of soft discs."""

import numpy as np

N = 128


class Discs:
    """Energy: sum over pairs of (1 - r / sigma)^2 / 2 in a periodic square box, whose side `follows` the diameter or does not."""

    def __init__(self, diameter: float, phi: float, follows: bool, box_diameter: float = 0.6) -> None:
        small = diameter if follows else box_diameter
        self.L = np.sqrt(np.pi * N * (1 + small**2) / (8 * phi))
        self.dL = np.pi * N * small / (8 * phi) / self.L if follows else 0.0
        self.i, self.j = np.triu_indices(N, k=1)
        is_small = np.arange(N) >= N // 2
        number = is_small[self.i].astype(int) + is_small[self.j].astype(int)
        self.sigma = np.array([1.0, (1 + diameter) / 2, diameter])[number]
        self.dsigma = np.array([0.0, 0.5, 1.0])[number]

    def _contacts(self, R):
        d = R[self.i] - R[self.j]
        image = np.round(d / self.L)
        d = d - self.L * image
        r = np.linalg.norm(d, axis=1)
        touching = r < self.sigma
        return (
            self.i[touching],
            self.j[touching],
            d[touching] / r[touching, None],
            r[touching],
            self.sigma[touching],
            self.dsigma[touching],
            image[touching],
        )

    def force(self, R):
        """F = dE/dR, (N, 2)."""
        i, j, n, r, sigma, _, _ = self._contacts(R)
        pull = -((1 - r / sigma) / sigma)[:, None] * n
        F = np.zeros_like(R)
        np.add.at(F, i, pull)
        np.add.at(F, j, -pull)
        return F

    def derivatives(self, R):
        """A (2N, 2N) and B (2N,) = dF/d diameter."""
        i, j, n, r, sigma, dsigma, image = self._contacts(R)
        nn = n[:, :, None] * n[:, None, :]
        slope = -(1 - r / sigma) / sigma  # dU/dr
        block = nn / (sigma**2)[:, None, None] + (slope / r)[:, None, None] * (np.eye(2) - nn)
        A = np.zeros((N, 2, N, 2))
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            np.add.at(A, (a, slice(None), b), sign * block)
        push = ((sigma - 2 * r) / sigma**3 * dsigma)[:, None] * n - self.dL * np.einsum("kab,kb->ka", block, image)
        B = np.zeros((N, 2))
        np.add.at(B, i, push)
        np.add.at(B, j, -push)
        return A.reshape(2 * N, 2 * N), B.ravel()

    def minimise(self, R):
        """Newton's method with the pseudo-inverse, from nearby, down to rounding."""
        for _ in range(8):
            F = self.force(R).ravel()
            A, _ = self.derivatives(R)
            step = np.linalg.pinv(A, rcond=1e-11, hermitian=True) @ F
            if np.abs(step).max() < 1e-15:
                break
            R = R - step.reshape(N, 2)
        assert np.abs(self.force(R)).max() < 1e-13
        return R


def relative(found, true, keep):
    """Relative 2-norm of a difference of displacement fields (N, 2) on the discs to keep, common translation removed."""
    found, true = found[keep] - found[keep].mean(axis=0), true[keep] - true[keep].mean(axis=0)
    return np.linalg.norm(found - true) / np.linalg.norm(true)
