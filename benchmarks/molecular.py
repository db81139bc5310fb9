"""Minimisation of random packings of soft spheres and its derivatives, against jax-md's FIRE and LAMMPS, in one run.

    python benchmarks/molecular.py [--quick] [--largest N] [--seconds 90] [-o FILE.json]

Discs are those of the problem `packing` at a packing fraction of 0.98; spheres have the same two diameters, 1 and 0.6, half each,
at 0.75 (`soft_sphere`). All start from the same random places and go on to a largest force of 1e-10, which is recomputed from the
formula. Programs are warm, compilation is counted apart; small sizes take turns and medians are told, sizes from 8,192 on run once
after a run that compiles, and the largest runs once, in a process of its own, compilation included. Peers stop after `--seconds`:
their time is a lower bound then.

Derivatives of all positions: with respect to the smaller diameter, and to 256 diameters, one for every 256th part of the
particles, at the same minimum. Writes benchmarks/results/molecular.json and the table of docs/explanation/molecular-speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from implicit_cli import runtime

runtime.configure("cpu")

import jax  # noqa: E402

from implicit_cli import engine, plugins  # noqa: E402
from implicit_cli.core.implicit import Point  # noqa: E402
from implicit_cli.engine.linearise import linearise  # noqa: E402
from implicit_cli.spec import load_spec  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
import molecular_peers as peers  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "molecular.json"
PAGE = ROOT / "docs" / "explanation" / "molecular-speed.md"
SIZES = [(128, 2), (128, 3), (1024, 2), (1024, 3), (8192, 2), (8192, 3), (65536, 2)]
PHI, SMALL = {2: 0.98, 3: 0.75}, 0.6
TOL = 1e-10
MANY = 256
"""Diameters of the large Jacobian, at most one for each particle."""
REPEATS, ONCE, ALONE = 5, 8192, 65536
"""Runs of small sizes; the size from which one run must do, and that from which it has a process of its own."""
QUICKER, SHARE, SHARE_MANY, GIB = 3.0, {2: 0.02, 3: 0.05}, 1.0, 24.0
"""The aims: times quicker than jax-md from 1,024 on; one and many parameters over minimisation at 8,192; memory at 65,536."""


def start(n: int, axis: int, seed: int = 0) -> peers.Start:
    """Uniform random places in a box that the particles fill to `PHI`."""
    diameter = np.where(np.arange(n) < n // 2, 1.0, SMALL)
    volume = np.pi * np.sum(diameter**axis) / (4 if axis == 2 else 6)
    side = float((volume / PHI[axis]) ** (1 / axis))
    return peers.Start(np.random.default_rng(seed).uniform(size=(n, axis)) * side, side, SMALL)


def bound(folder: Path, begin: peers.Start, solver: str, kinds: int = 2) -> tuple[engine.Vectors, Any]:
    """The packing as a problem that is ready to run; `kinds` above 2: with so many diameters."""
    n, axis = begin.position.shape
    solving = f"{{name: {solver}, tol: {TOL}, max_steps: 1000000}}"
    if axis == 2 and kinds == 2:
        name = "packing"
        content = {"position": begin.position}
        text = f"""\
problem: packing
options: {{particle: {n}}}
parameters: {{diameter: {SMALL}, phi: {PHI[2]}}}
initial: {{position: data.h5:/position}}
solver: {solving}
sensitivity: {{of: [position], wrt: [diameter]}}
"""
    else:
        name = "soft_sphere"
        species = np.arange(n) * kinds // n
        sizes = begin.diameter[np.searchsorted(species, np.arange(kinds))]
        cell, periodic = begin.side * np.eye(axis), np.ones(axis, int)
        content = {"start": begin.position, "cell": cell, "periodic": periodic, "species": species}
        content |= {"diameter": sizes, "small": np.array([0.0, 1.0])}
        products = "[jacobian]" if kinds > 2 else "[{jvp: {small: {diameter: data.h5:/small}}}]"
        text = f"""\
problem: soft_sphere
data: {{start: data.h5:/start, cell: data.h5:/cell, periodic: data.h5:/periodic, species: data.h5:/species}}
options: {{axis: {axis}, kinds: {kinds}}}
parameters: {{diameter: data.h5:/diameter}}
solver: {solving}
sensitivity: {{of: [position], wrt: [diameter], products: {products}}}
"""
    with h5py.File(folder / "data.h5", "w") as file:
        for key, value in content.items():
            file[key] = value
    (folder / "spec.yaml").write_text(text)
    loaded = load_spec(folder / "spec.yaml")
    vectors = engine.Vectors(engine.bind(loaded, plugins.load(name, base=ROOT, allow_plugin=False, plugins=())))
    return vectors, engine.make_plan(loaded, vectors)


class Ours:
    """Minimisation and the derivatives of one size by `implicit`."""

    def __init__(self, begin: peers.Start, solver: str, folder: Path) -> None:
        self.begin, self.solver, self.folder = begin, solver, folder
        self.vectors, self.plan = bound(folder, begin, solver)

    def run(self) -> Any:
        begun = time.perf_counter()
        case = engine.run_case(self.vectors, self.plan, identity="0", seed=0)
        self.seconds = time.perf_counter() - begun
        return case

    def row(self, cases: list[Any], compilation: float | None) -> dict[str, Any]:
        """What was found in `cases`, medians of their seconds."""
        last = cases[-1]
        seconds = {stage: statistics.median(case.seconds[stage] for case in cases) for stage in last.seconds}
        position = np.asarray(last.solution["position"])
        return {
            "solver": last.solver.name,
            "status": last.status.label,
            "message": last.message,
            "steps": last.solver.steps,
            "polish_steps": last.solver.polish_steps,
            "force": peers.largest_force(self.begin, position),
            "seconds": seconds["solve"],
            "compilation": compilation,
            "one": self._derivative(last, seconds),
        }

    def _derivative(self, case: Any, seconds: dict[str, float]) -> dict[str, Any]:
        position = next(product for product in case.products if product.of in ("position", ""))
        total = float(np.max(position.bound.total, initial=0.0))
        return {
            "columns": int(np.prod(np.shape(position.bound.total))) or 1,
            "status": case.status.label,
            "method": case.linear[0].method if case.linear else "",
            "seconds": seconds["differentiate"],
            "certificate": seconds["certify"],
            "bound": total,
            "relative": total / float(np.linalg.norm(np.nan_to_num(position.value))) if position.value.size else np.nan,
        }

    def factor(self, case: Any) -> float:
        """Seconds for A alone at the minimum: its pattern, its entries, and the factor or what stands in for it."""
        vectors = self.vectors
        p = vectors.refreshed(Point(vectors.x.join(case.solution), vectors.start, vectors.data))
        linearise(vectors, self.plan, p)
        begun = time.perf_counter()
        A = linearise(vectors, self.plan, p)
        jax.block_until_ready(A.null_space)
        return time.perf_counter() - begun

    def many(self, case: Any, *, warm: bool) -> dict[str, Any]:
        """The derivatives with respect to `MANY` diameters at the minimum of `case`."""
        position = np.asarray(case.solution["position"])
        kinds = min(MANY, len(position))
        vectors, plan = bound(self.folder, self.begin._replace(position=position), self.solver, kinds)
        x = {"position": position, "deformation": np.zeros(0)}
        for _ in range(2 if warm else 1):
            found = engine.differentiate_at(vectors, plan, x, identity="0")
        return self._derivative(found, dict(found.seconds))


def measure(n: int, axis: int, solver: str, limit: float, with_lammps: bool) -> dict[str, Any]:
    """One size: everybody in turn."""
    begin = start(n, axis)
    repeats = 1 if n >= ONCE else REPEATS
    row: dict[str, Any] = {"n": n, "axis": axis, "repeats": repeats}
    peer: dict[str, list[peers.Minimised]] = {"jax_md": []} | ({"lammps_fire": [], "lammps_cg": []} if with_lammps else {})

    def turn() -> None:
        peer["jax_md"].append(peers.jax_md_fire(begin, TOL, limit))
        for name in list(peer)[1:]:
            peer[name].append(peers.lammps(begin, TOL, limit, name.split("_")[1]))

    if n >= ALONE:
        row["ours"] = alone(n, axis, solver)
        turn()
    else:
        with tempfile.TemporaryDirectory() as folder:
            ours = Ours(begin, solver, Path(folder))
            ours.run()
            compilation, cases = ours.seconds, []
            for _ in range(repeats):
                cases.append(ours.run())
                turn()
            row["ours"] = ours.row(cases, compilation - ours.seconds)
            row["ours"]["one"]["factor"] = ours.factor(cases[-1])
            row["ours"]["many"] = ours.many(cases[-1], warm=True)
    for name, runs in peer.items():
        last = runs[-1]
        row[name] = {
            "seconds": statistics.median(run.seconds for run in runs),
            "steps": last.steps,
            "compilation": runs[0].compilation,
            "force": last.force,
            "reached": last.reached(1.1 * TOL),  # a sum in another order may miss it by a rounding
            "note": last.note,
        }
    row["quicker"] = row["jax_md"]["seconds"] / row["ours"]["seconds"]
    for which in ("one", "many"):
        part = row["ours"][which]
        part["share"] = (part["seconds"] + part["certificate"]) / row["ours"]["seconds"]
    return row


def alone(n: int, axis: int, solver: str) -> dict[str, Any]:
    """Ours in a process of its own, for its memory."""
    command = [sys.executable, __file__, "--alone", str(n), str(axis), "--solver", solver]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{n} particles: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_process(n: int, axis: int, solver: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours = Ours(start(n, axis), solver, Path(folder))
        case = ours.run()
        row = ours.row([case], None)
        row["gib"] = _gib()
        row["one"]["factor"] = ours.factor(case)
        row["many"] = ours.many(case, warm=False)
        row["gib_many"] = _gib()
    print(json.dumps(row))


def _gib() -> float:
    """Peak resident memory of this process."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def facts() -> dict[str, Any]:
    found: dict[str, Any] = {"cpus": os.cpu_count(), "load": os.getloadavg()[0], "machine": platform.machine()}
    found |= {"python": platform.python_version(), "lammps": peers.lammps_version() or "not installed"}
    for name in ("jax", "jaxlib", "jax-md", "scipy", "numpy", "cholespy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _time(seconds: float) -> str:
    return "-" if not np.isfinite(seconds) else f"{seconds * 1e3:.0f} ms" if seconds < 10 else f"{seconds:.0f} s"


def _peer(row: dict[str, Any], name: str) -> str:
    found = row.get(name)
    if found is None or not np.isfinite(found["seconds"]):
        return "-"
    return f"{'' if found['reached'] else '> '}{_time(found['seconds'])} ({found['steps']:,})"


def table(rows: list[dict[str, Any]]) -> str:
    """Minimisation, then derivatives: two tables of Markdown."""
    head = ["N", "axes", "ours (steps + Newton)", "status", "jax-md FIRE (steps)", "quicker", "LAMMPS FIRE", "LAMMPS CG"]
    lines = [_line(head), _line(["---"] * len(head))]
    for row in rows:
        ours, slow = row["ours"], "" if row["jax_md"]["reached"] else "> "
        steps = f"{ours['steps']:,} + {ours['polish_steps']}"
        cells = [f"{row['n']:,}", str(row["axis"]), f"{_time(ours['seconds'])} ({steps})", f"`{ours['status']}`"]
        cells += [_peer(row, "jax_md"), f"{slow}{row['quicker']:.2g}", _peer(row, "lammps_fire"), _peer(row, "lammps_cg")]
        lines.append(_line(cells))
    head = ["N", "axes", "parameters", "A alone", "derivatives", "certificate", "share", "linear solver", "largest bound, relative"]
    head += ["status", "memory"]
    lines += ["", _line(head), _line(["---"] * len(head))]
    for row in rows:
        for which in ("one", "many"):
            ours, part = row["ours"], row["ours"][which]
            cells = [f"{row['n']:,}", str(row["axis"]), str(part["columns"])]
            cells += [_time(part["factor"]) if "factor" in part else "", _time(part["seconds"]), _time(part["certificate"])]
            cells += [f"{100 * part['share']:.3g} %", part["method"], f"{part['relative']:.1e}", f"`{part['status']}`"]
            memory = ours.get("gib" if which == "one" else "gib_many")
            lines.append(_line([*cells, "" if memory is None else f"{memory:.1f} GiB"]))
    return "\n".join(lines)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def misses(rows: list[dict[str, Any]]) -> list[str]:
    """The aims that were not met, in words."""
    found = []
    for row in rows:
        n, axis, ours = row["n"], row["axis"], row["ours"]
        where = f"{n:,} in {axis} dimensions"
        if not ours["force"] <= 1.1 * TOL or ours["status"] not in ("ok", "partial"):
            found.append(f"{where}: {ours['status']}, largest force {ours['force']:.1e}")
        if n >= 1024 and row["quicker"] < QUICKER and row["jax_md"]["reached"]:
            found.append(f"{where}: {row['quicker']:.2g} times as quick as jax-md, aim {QUICKER:g}")
        if n == ONCE and ours["one"]["share"] > SHARE[axis]:
            found.append(f"{where}: one parameter takes {100 * ours['one']['share']:.3g} %, aim {100 * SHARE[axis]:g} %")
        if n == ONCE and ours["many"]["share"] > SHARE_MANY:
            found.append(f"{where}: {MANY} parameters take {100 * ours['many']['share']:.3g} %, aim {100 * SHARE_MANY:g} %")
        if ours.get("gib_many", 0.0) > GIB:
            found.append(f"{where}: {ours['gib_many']:.1f} GiB, aim {GIB:g}")
    return found


def write_page(rows: list[dict[str, Any]]) -> None:
    """The table and the aims that were missed, between the marks of the page."""
    lacks = misses(rows)
    said = "All aims are met." if not lacks else "Aims that are not met:\n\n" + "\n".join(f"- {line}" for line in lacks)
    text = f"<!-- measured -->\n\n{table(rows)}\n\n{said}\n\n<!-- end -->"
    PAGE.write_text(re.sub(r"<!-- measured -->.*?<!-- end -->", lambda _: text, PAGE.read_text(), flags=re.DOTALL))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--quick", action="store_true", help="128 and 1,024 particles only")
    options.add_argument("--largest", type=int, default=None, metavar="N", help="stop at N particles")
    options.add_argument("--seconds", type=float, default=90.0, help="after which peers are stopped, at each size")
    options.add_argument("--solver", default="lbfgs", help="ours: lbfgs or fire")
    options.add_argument("-o", "--output", type=Path, default=RESULTS)
    options.add_argument("--alone", nargs=2, type=int, metavar=("N", "AXES"), help="one size of ours, as JSON")
    args = options.parse_args()
    if args.alone:
        one_process(*args.alone, args.solver)
        return
    largest = args.largest or (1024 if args.quick else SIZES[-1][0])
    with_lammps = peers.lammps_version() is not None
    rows = []
    for n, axis in SIZES:
        if n <= largest:
            rows.append(measure(n, axis, args.solver, args.seconds, with_lammps))
            print(json.dumps(rows[-1]), flush=True)
    print(table(rows))
    print("\n".join(misses(rows)) or "all aims are met")
    args.output.parent.mkdir(parents=True, exist_ok=True)
    found = {"facts": facts(), "tolerance": TOL, "seconds": args.seconds, "rows": rows}
    args.output.write_text(json.dumps(found, indent=1) + "\n")
    if args.output == RESULTS:
        write_page(rows)


if __name__ == "__main__":
    main()
