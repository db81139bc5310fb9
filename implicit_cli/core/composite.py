"""Optimality mappings made of a gradient step and an operator: f minimised together with a prox-friendly r, or on a set C.

T takes one step from x with a step size eta, and `F = T - x`. Each is a function of the catalogue in `conditions`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from implicit_cli.core.conditions import Condition, Function, Step, difference

TINY = 1e-8
"""Entries of a point of the simplex that are next to its boundary."""


def proximal_gradient(f: Function, prox: Function, *, eta: Step = 1.0, margin: Function | None = None) -> Condition:
    """`F = prox_{eta r}(x - eta grad_x f) - x`: the solution minimises f + r, with f smooth and r known by its proximal operator.

    `prox(v, eta, theta, *data)` is argmin_u abs(u - v)^2 / 2 + eta r(u, theta), for instance

        lambda v, eta, theta: prox.lasso(v, eta * theta.l1)

    and `margin(v, eta, theta, *data)` its distance in v to the nearest kink, such as `prox.lasso.margin`. The distance in x is at
    least that for eta below 2 / L, L the Lipschitz constant of grad f.
    """
    return _composite("proximal_gradient", f, prox, eta, margin)


def projected_gradient(
    f: Function,
    project: Function | None = None,
    *,
    bounds: Function | None = None,
    eta: Step = 1.0,
    margin: Function | None = None,
) -> Condition:
    """`F = proj_C(x - eta grad_x f) - x`: the solution minimises f on a convex set C(theta).

    `project(v, theta, *data)` is the Euclidean projection of v on C; or `bounds(x, theta, *data)` gives the lower and upper limits
    of a box, each x with its arrays replaced, and L-BFGS-B may then be used. `margin(v, theta, *data)` is the distance in v to
    the nearest kink.
    """
    if (project is None) == (bounds is None):
        raise ValueError("projected_gradient: give either project or bounds")

    def in_box(v: Any, theta: Any, *data: Any) -> Any:
        assert bounds is not None
        return jax.tree.map(jnp.clip, v, *bounds(v, theta, *data))

    def to_kink(v: Any, theta: Any, *data: Any) -> jax.Array:
        assert bounds is not None
        gaps = jax.tree.map(lambda v, a, b: jnp.minimum(jnp.abs(v - a), jnp.abs(v - b)), v, *bounds(v, theta, *data))
        return jnp.min(ravel_pytree(gaps)[0], initial=jnp.inf)

    chosen, kink = (project, margin) if project is not None else (in_box, margin or to_kink)
    return _composite(
        "projected_gradient",
        f,
        lambda v, eta, theta, *data: chosen(v, theta, *data),
        eta,
        None if kink is None else lambda v, eta, theta, *data: kink(v, theta, *data),
        bounds,
    )


def mirror_descent(f: Function, mirror: Function | None = None, project: Function | None = None, *, eta: Step = 1.0) -> Condition:
    """`F = projKL_C(grad phi(x) - eta grad_x f) - x`: the solution minimises f on C, in the geometry of the mirror map phi.

    `mirror(x)` is grad phi, `project(v, theta, *data)` the Bregman projection of the dual point v on C. Left out, phi is the
    negative entropy and C the probability simplex along the last axis of every leaf: the step is then x exp(-eta g) / sum. That
    is softmax(log x - eta g), but it has its derivatives also where entries of x are zero: A is regular there as long as the
    gradient exceeds its mean over x. Where both vanish the solution has a kink: the margin is the smallest over the entries of the
    larger of x and eta (g - <x, g>); the natural map is the projected gradient.
    """
    if (mirror is None) != (project is None):
        raise ValueError("mirror_descent: give both mirror and project, or neither")

    def step(x: Any, g: Any, theta: Any, *data: Any) -> Any:
        if mirror is None or project is None:
            return jax.tree.map(_entropic, x, g)
        return project(jax.tree.map(jnp.subtract, mirror(x), g), theta, *data)

    def T(x: Any, theta: Any, *data: Any) -> Any:
        return step(x, _scaled(_size(eta, theta, data), jax.grad(f)(x, theta, *data)), theta, *data)

    condition = Condition("mirror_descent", F=difference(T), objective=f, mapping=T, mirror=step)
    if mirror is not None:
        return condition

    def natural(x: Any, theta: Any, *data: Any) -> Any:
        down = _scaled(_size(eta, theta, data), jax.grad(f)(x, theta, *data))
        return jax.tree.map(lambda a, g: _on_simplex(a - g) - a, x, down)

    def margin(x: Any, theta: Any, *data: Any) -> jax.Array:
        def slope(x: Any) -> Any:
            return _scaled(_size(eta, theta, data), jax.grad(f)(x, theta, *data))

        tiny = jax.tree.map(lambda a: jnp.where(a < TINY, a, 0.0), x)
        gaps = jax.tree.map(_to_boundary, x, *jax.jvp(slope, (x,), (tiny,)))
        return jnp.min(ravel_pytree(gaps)[0], initial=jnp.inf)

    return condition.tagged(natural=natural, margin=margin)


def block_proximal_gradient(
    f: Function, proxes: Any, *, eta: Step | tuple[Step, ...] = 1.0, margin: Function | None = None
) -> Condition:
    """`F_j = prox_{eta_j r_j}(x_j - eta_j grad_j f) - x_j`: the solution minimises f(x_1 .. x_m) + sum of r_j(x_j).

    x is a tuple (or named tuple) of blocks and `proxes` a tuple of as many proximal operators, each as for `proximal_gradient`;
    `eta` may be a tuple too. `margin` takes the tuple of all v_j.
    """

    def sizes(theta: Any, data: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(_size(one, theta, data) for one in (eta if isinstance(eta, tuple) else (eta,) * len(proxes)))

    def each(v: Any, steps: tuple[Any, ...], theta: Any, data: tuple[Any, ...]) -> Any:
        moved = [one(block, step, theta, *data) for one, block, step in zip(proxes, v, steps, strict=True)]
        return type(v)(*moved) if hasattr(v, "_fields") else type(v)(moved)

    def prox(v: Any, step: Any, theta: Any, *data: Any) -> Any:
        return each(v, (step,) * len(proxes), theta, data)  # one step size for all: solvers bring their own

    def point(x: Any, theta: Any, *data: Any) -> Any:
        slope = jax.grad(f)(x, theta, *data)
        moved = [
            jax.tree.map(lambda a, g, s=step: a - s * g, block, down)
            for block, down, step in zip(x, slope, sizes(theta, data), strict=True)
        ]
        return type(x)(*moved) if hasattr(x, "_fields") else type(x)(moved)

    def T(x: Any, theta: Any, *data: Any) -> Any:
        return each(point(x, theta, *data), sizes(theta, data), theta, data)

    return Condition(
        "block_proximal_gradient",
        F=difference(T),
        objective=f,
        mapping=T,
        prox=prox,
        blocks=True,
        margin=None if margin is None else lambda x, theta, *data: margin(point(x, theta, *data), theta, *data),
    )


def frank_wolfe(f: Function, vertices: Function, *, eta: Step = 1.0) -> Condition:
    """`F = proj_simplex(w - eta grad_w f(V' w)) - w`: f minimised over the convex hull of vertices, by their weights w.

    `vertices(theta, *data)` is V (k, *shape of a point), `f(point, theta, *data)` the objective of the point V' w. The weights are
    one array (k,), or a named tuple with one field, and f then receives a point in that field. Where vertices are affinely
    dependent, the weights are not unique, A is singular, and the derivative of the point is what is determined.
    """
    from implicit_cli.core import projections

    def of_weights(w: Any, theta: Any, *data: Any) -> jax.Array:
        V = vertices(theta, *data)
        return f(jax.tree.map(lambda a: jnp.tensordot(a, V, axes=1), w), theta, *data)

    def prox(v: Any, eta: Any, theta: Any, *data: Any) -> Any:
        return jax.tree.map(projections.simplex, v)

    def margin(v: Any, eta: Any, theta: Any, *data: Any) -> jax.Array:
        return jnp.min(jnp.stack([projections.simplex.margin(leaf) for leaf in jax.tree.leaves(v)]))

    return _composite("frank_wolfe", of_weights, prox, eta, margin)


def _composite(
    kind: str, f: Function, prox: Function, eta: Step, margin: Function | None, bounds: Function | None = None
) -> Condition:
    """`T = prox(x - eta grad f)`, what all gradient steps with a prox or projection share."""

    def point(x: Any, theta: Any, *data: Any) -> tuple[Any, Any]:
        size = _size(eta, theta, data)
        return jax.tree.map(lambda a, g: a - size * g, x, jax.grad(f)(x, theta, *data)), size

    def T(x: Any, theta: Any, *data: Any) -> Any:
        return prox(*point(x, theta, *data), theta, *data)

    def to_kink(x: Any, theta: Any, *data: Any) -> jax.Array:
        assert margin is not None
        return margin(*point(x, theta, *data), theta, *data)

    return Condition(
        kind, F=difference(T), objective=f, mapping=T, prox=prox, bounds=bounds, margin=None if margin is None else to_kink
    )


def _size(eta: Step, theta: Any, data: tuple[Any, ...]) -> Any:
    return eta(theta, *data) if callable(eta) else eta


def _scaled(eta: Any, tree: Any) -> Any:
    return jax.tree.map(lambda leaf: eta * leaf, tree)


def _on_simplex(v: jax.Array) -> jax.Array:
    """Projection on the simplex along the last axis."""
    from implicit_cli.core import projections

    return jax.vmap(projections.simplex)(v.reshape(-1, v.shape[-1])).reshape(v.shape)


def _to_boundary(x: jax.Array, g: jax.Array, change: jax.Array) -> jax.Array:
    """Distance of each entry to where it and its multiplier vanish; infinite where the gradient itself keeps the entry off zero.

    `change` is that of g as tiny entries of x go to zero: of order one under an entropy in f, whose slope at zero is infinite.
    """
    multiplier = g - jnp.sum(x * g, axis=-1, keepdims=True)
    return jnp.where(jnp.abs(change) > 1e-4, jnp.inf, jnp.maximum(jnp.abs(x), jnp.abs(multiplier)))


def _entropic(x: jax.Array, g: jax.Array) -> jax.Array:
    """x exp(-g), normalised along the last axis; shifted so that the largest factor that counts is one."""
    shift = jax.lax.stop_gradient(jnp.max(jnp.where(x > 0, -g, -jnp.inf), axis=-1, keepdims=True))
    weights = x * jnp.exp(jnp.minimum(-g - shift, 700.0))
    return weights / jnp.sum(weights, axis=-1, keepdims=True)
