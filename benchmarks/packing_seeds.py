"""The paper's packing experiment over many seeds: what becomes of every case, and whether its derivatives and its saddles are true.

    python benchmarks/packing_seeds.py [--seeds 200] [--fewer 40] [-o FILE.json]

`sample_inputs/packing.yaml` as it is, by FIRE and by L-BFGS, at a packing fraction of 0.98 and, for `--fewer` seeds, at 0.86, near
jamming, and 0.80, below it. A case ends certified (`ok`, or `partial` with its rattlers and null modes listed) or named: a saddle
(`not_a_minimum`), a kink (`nondifferentiable`), unjammed (`singular`).

The witness knows nothing of the program: it takes the positions, sums over pairs in NumPy, prunes rattlers, polishes by Newton
steps with forces in 80 bits, and solves with the pseudo-inverse of the dense Hessian (numpy.linalg.eigh), refined in 80 bits.
Writes benchmarks/results/packing_seeds.json and the table of docs/explanation/packing-seeds.md.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from implicit_cli import runtime

runtime.configure("cpu")

from implicit_cli import engine, plugins  # noqa: E402
from implicit_cli.spec import load_spec  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "packing_seeds.json"
PAGE = ROOT / "docs" / "explanation" / "packing-seeds.md"
SOLVERS, FRACTIONS = ("fire", "lbfgs"), (0.98, 0.86, 0.80)
SMALL = 0.6
NAMED = ("not_a_minimum", "nondifferentiable", "singular")
CERTIFIED = ("ok", "partial")
GRAZING = 1e-7
"""Relative overlap below which two discs are not in contact for the witness."""
NULL = 1e-10
"""Eigenvalues below this part of the largest count as zero, and below minus this part as negative."""
ROUNDING = 4.0
"""How many units in the last place of the compared number a bound may be missed by: it is stored in float64."""
RIGHT = "Nothing is wrong: every case is certified or named, and the witness agrees."
Wide = np.longdouble


class Sums(NamedTuple):
    """Force (2n,), Hessian (2n, 2n), its slope in the diameter (2n,), and derivatives of energy and pressure, all from contacts.

    `energy` and `pressure` are partial derivatives in the diameter, `pressure_x` (2n,) that of the pressure in positions.
    """

    F: np.ndarray
    H: np.ndarray
    B: np.ndarray
    energy: Any
    pressure: Any
    pressure_x: np.ndarray
    contacts: tuple[np.ndarray, np.ndarray]


def sums(R: np.ndarray, small: float, side: float, held: np.ndarray | None = None) -> Sums:
    """By pairs, u = (1 - r / sigma)^2 / 2; with `held` (n,) only contacts between those."""
    n = len(R)
    i, j = np.triu_indices(n, 1)
    D = R[j] - R[i]
    D = D - side * np.round(D / side)
    r = np.sqrt((D**2).sum(axis=1))
    tiny = (np.arange(n) >= n // 2).astype(Wide)
    grows = (tiny[i] + tiny[j]) / 2  # d sigma / d diameter
    sigma = 1 - grows * (1 - Wide(small))
    touching = 1 - r / sigma > GRAZING
    if held is not None:
        touching &= held[i] & held[j]
    i, j, D, r, sigma, grows = (part[touching] for part in (i, j, D, r, sigma, grows))
    normal = D / r[:, None]
    slope, curve, slope_sigma = -(1 - r / sigma) / sigma, 1 / sigma**2, 1 / sigma**2 - 2 * r / sigma**3
    h = curve[:, None, None] * normal[:, :, None] * normal[:, None, :]
    h = h + (slope / r)[:, None, None] * (np.eye(2) - normal[:, :, None] * normal[:, None, :])
    H = np.zeros((n, n, 2, 2), Wide)
    for a, b, block in ((i, i, h), (j, j, h), (i, j, -h), (j, i, -h)):
        np.add.at(H, (a, b), block)
    pull = (slope + r * curve)[:, None] * normal / -(2 * side**2)
    return Sums(
        _on_ends(n, i, j, slope[:, None] * normal),
        H.transpose(0, 2, 1, 3).reshape(2 * n, 2 * n),
        _on_ends(n, i, j, (slope_sigma * grows)[:, None] * normal),
        ((1 - r / sigma) * r / sigma**2 * grows).sum(),
        (r * slope_sigma * grows).sum() / -(2 * side**2),
        _on_ends(n, i, j, pull),
        (i, j),
    )


def _on_ends(n: int, i: np.ndarray, j: np.ndarray, of_D: np.ndarray) -> np.ndarray:
    """Derivatives in D of each pair as derivatives in the positions of its ends."""
    found = np.zeros((n, 2), Wide)
    np.add.at(found, j, of_D)
    np.add.at(found, i, -of_D)
    return found.ravel()


def held_discs(n: int, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Discs with three contacts or more with others of that kind."""
    held = np.ones(n, bool)
    while True:
        live = held[i] & held[j]
        still = held & (np.bincount(i[live], minlength=n) + np.bincount(j[live], minlength=n) >= 3)
        if (still == held).all():
            return held
        held = still


class Witness(NamedTuple):
    """Which discs are held (n,), the held Hessian's lowest eigenvalue and null dimension, and derivatives in the diameter.

    `J` (n, 2) has zero mean over held discs, and NaN at the others; the lowest eigenvalue is relative to the largest.
    """

    held: np.ndarray
    lowest: float
    nullity: int
    J: np.ndarray
    energy: float
    pressure: float


def witness(position: np.ndarray, small: float, side: float) -> Witness:
    """From positions near a stationary point."""
    R, n = position.astype(Wide), len(position)
    held = held_discs(n, *sums(R, small, side).contacts)
    blank = np.full((n, 2), np.nan)
    if not held.any():
        return Witness(held, np.nan, 2 * n, blank, np.nan, np.nan)
    free = np.repeat(held, 2)
    for _ in range(3):
        at = sums(R, small, side, held)
        inverse, lowest, nullity = _pseudo_inverse(at.H[np.ix_(free, free)].astype(float))
        move = np.zeros(2 * n, Wide)
        move[free] = -inverse @ at.F[free].astype(float)
        R = R + move.reshape(n, 2)
    at = sums(R, small, side, held)
    H, B = at.H[np.ix_(free, free)], at.B[free]
    J = np.zeros(len(B), Wide)
    for _ in range(4):
        J = J - inverse @ (H @ J + B).astype(float)
    J = J.reshape(-1, 2)
    J = J - J.mean(axis=0)
    blank[held] = J.astype(float)
    pressure = at.pressure + at.pressure_x[free] @ J.ravel()
    return Witness(held, lowest, nullity, blank, float(at.energy), float(pressure))


def _pseudo_inverse(H: np.ndarray) -> tuple[np.ndarray, float, int]:
    """With the lowest eigenvalue relative to the largest, and how many are zero."""
    values, vectors = np.linalg.eigh((H + H.T) / 2)
    top = np.abs(values).max()
    zero = np.abs(values) <= NULL * top
    kept = vectors[:, ~zero]
    return (kept / values[~zero]) @ kept.T, float(values[0] / top), int(zero.sum())


def judged(case: Any, found: Witness) -> dict[str, Any]:
    """One case against the witness: errors over bounds, and what is wrong, in words."""
    status, wrong = case.status.label, []
    row: dict[str, Any] = {"status": status, "ratios": {}, "lowest": found.lowest, "held": int(found.held.sum())}
    undetermined = {reason: np.asarray(parts["position"]) for reason, parts in case.null_space.undetermined.items()}
    row["listed"] = {reason: int(mask.any(axis=1).sum()) for reason, mask in undetermined.items()}
    negative = bool(found.lowest < -NULL)
    if status in CERTIFIED:
        if negative:
            wrong.append(f"a saddle is called {status}: lowest eigenvalue {found.lowest:.1e} of the largest")
        named = np.zeros(len(found.held), bool)
        for mask in undetermined.values():
            named |= mask.any(axis=1)
        if "null mode" not in undetermined:
            if (named != ~found.held).any():
                wrong.append(f"{int(named.sum())} rattlers are listed, {int((~found.held).sum())} found")
            if found.nullity > 2:
                wrong.append(f"{found.nullity - 2} null modes are not listed")
        if (status == "partial") != bool(named.any()):
            wrong.append("partial, and nothing is listed" if status == "partial" else "rattlers, and called ok")
        row["ratios"] = ratios(case, found)
        wrong += [f"{name}: error is {ratio:.2g} bounds" for name, ratio in row["ratios"].items() if not ratio <= 1.0]
    elif status == "not_a_minimum" and not negative:
        wrong.append(f"called a saddle, lowest eigenvalue {found.lowest:.1e} of the largest")
    elif status not in NAMED:
        wrong.append(case.message or "neither certified nor named")
    return row | {"wrong": wrong}


def ratios(case: Any, found: Witness) -> dict[str, float]:
    """Error over bound of the Jacobians, what is rounding of the stored number apart; positions freed of their mean."""
    answer = {}
    for product in case.products:
        if product.kind != "jacobian":
            continue
        value, bound = np.asarray(product.value, float), float(np.max(product.bound.total))
        if product.of == "position":
            seen = np.isfinite(value).all(axis=1) & found.held
            true = found.J[seen] - found.J[seen].mean(axis=0)
            error = float(np.linalg.norm(value[seen] - value[seen].mean(axis=0) - true))
        else:
            true = np.asarray(getattr(found, product.of))
            error = float(abs(value - true))
        slack = ROUNDING * np.finfo(float).eps * float(np.linalg.norm(true))
        answer[product.of] = max(error - slack, 0.0) / bound if np.isfinite(bound) and bound > 0 else np.inf
    return answer


def prepared(solver: str, fraction: float) -> tuple[engine.Vectors, Any]:
    """The sample's problem, bound and planned, with another solver and packing fraction."""
    changes = [f"solver.name={solver}", f"parameters.phi={fraction}", "sensitivity.products=[jacobian]"]
    loaded = load_spec(ROOT / "sample_inputs" / "packing.yaml", changes)
    vectors = engine.Vectors(engine.bind(loaded, plugins.load("packing", base=ROOT, allow_plugin=False, plugins=())))
    return vectors, engine.make_plan(loaded, vectors)


def witnessed(case: Any, fraction: float) -> Witness:
    """The witness where the case ended."""
    position = np.asarray(case.solution["position"])
    side = float(np.sqrt(np.pi * len(position) * (1 + SMALL**2) / (8 * fraction)))
    return witness(position, SMALL, side)


def study(solver: str, fraction: float, seeds: int) -> dict[str, Any]:
    """All seeds with one solver at one packing fraction."""
    vectors, plan = prepared(solver, fraction)
    rows = []
    for seed in range(seeds):
        case = engine.run_case(vectors, plan, identity=str(seed), seed=seed)
        row = judged(case, witnessed(case, fraction))
        rows.append({"seed": seed} | row)
        if row["wrong"]:
            print(f"{solver}, {fraction}, seed {seed}, {row['status']}: {'; '.join(row['wrong'])}", flush=True)
    statuses = Counter(row["status"] for row in rows)
    largest = [max(row["ratios"].values()) for row in rows if row["ratios"]]
    return {
        "solver": solver,
        "fraction": fraction,
        "seeds": seeds,
        "statuses": dict(statuses),
        "rattlers": sum("rattler" in row["listed"] for row in rows),
        "null modes": sum("null mode" in row["listed"] for row in rows),
        "compared": len(largest),
        "above its bound": sum(not ratio <= 1.0 for ratio in largest),
        "largest error over bound": max(largest, default=None),
        "saddles": statuses["not_a_minimum"],
        "wrong": [{"seed": row["seed"], "status": row["status"], "what": row["wrong"]} for row in rows if row["wrong"]],
        "cases": rows,
    }


def table(found: list[dict[str, Any]]) -> str:
    """What became of all cases, as Markdown."""
    labels = [*CERTIFIED, *NAMED]
    labels += sorted({label for row in found for label in row["statuses"]} - set(labels))
    head = ["solver", "packing fraction", "seeds", *(f"`{label}`" for label in labels), "with rattlers", "with null modes"]
    head += ["compared", "error above bound", "largest error over bound", "wrong"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in found:
        cells = [row["solver"], f"{row['fraction']:g}", str(row["seeds"])]
        cells += [str(row["statuses"].get(label, 0)) for label in labels]
        cells += [str(row["rattlers"]), str(row["null modes"]), str(row["compared"]), str(row["above its bound"])]
        largest = row["largest error over bound"]
        cells += ["-" if largest is None else f"{largest:.2g}", str(len(row["wrong"]))]
        lines.append(_line(cells))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write_page(found: list[dict[str, Any]]) -> None:
    said = [f"- {r['solver']}, {r['fraction']:g}, seed {w['seed']}: {'; '.join(w['what'])}" for r in found for w in r["wrong"]]
    below = "Wrong:\n\n" + "\n".join(said) if said else RIGHT
    text = f"<!-- measured -->\n\n{table(found)}\n\n{below}\n\n<!-- end -->"
    PAGE.write_text(re.sub(r"<!-- measured -->.*?<!-- end -->", lambda _: text, PAGE.read_text(), flags=re.DOTALL))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--seeds", type=int, default=200)
    options.add_argument("--fewer", type=int, default=40, help="seeds at the other packing fractions")
    options.add_argument("-o", "--output", type=Path, default=RESULTS)
    args = options.parse_args()
    found = []
    for fraction in FRACTIONS:
        for solver in SOLVERS:
            found.append(study(solver, fraction, args.seeds if fraction == FRACTIONS[0] else args.fewer))
            print({key: value for key, value in found[-1].items() if key not in ("cases", "wrong")}, flush=True)
    print(table(found))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(found, indent=1) + "\n")
    if args.output == RESULTS:
        write_page(found)


if __name__ == "__main__":
    main()
