"""Tables, page and figure of the calibration study, from its results alone: docs/explanation/certificate.md and .svg."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1] / "docs" / "explanation"
PAGE, FIGURE = DOCS / "certificate.md", DOCS / "certificate.svg"
MARKED = re.compile(r"(<!-- measured: (?P<name>[^\n]*?) -->\n).*?(<!-- end of measured part -->\n)", re.DOTALL)
WORDS = {
    "column": "column of J",
    "entry": "entry of J",
    "corrected": "column of J, corrected",
    "output": "entry of dy/dtheta",
    "adjoint row": "row of J or dy/dtheta by an adjoint solve",
    "x": "x itself",
}
WHY = {"h": "h at least 1/2", "steps": "Newton steps do not shrink", "kink": "a kink is near", "singular": "A is singular"}
PLACES = ("least", "5 %", "25 %", "median", "75 %", "95 %", "largest")


def write(results: dict[str, Any]) -> None:
    """Page and figure anew."""
    fill(PAGE, {"aims": aims(results), "problems": problems(results), "levels": levels(results), "products": products(results)})
    draw(results)


def fill(page: Path, parts: dict[str, str]) -> None:
    """Put each part between its markers `<!-- measured: NAME -->` and `<!-- end of measured part -->`."""
    page.write_text(MARKED.sub(lambda found: f"{found[1]}\n{parts[found['name']]}\n{found[3]}", page.read_text()))


def tables(results: dict[str, Any]) -> str:
    return "\n".join(part(results) for part in (problems, levels, products, aims, violations))


def markdown(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    head = list(head)
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def number(value: float) -> str:
    """Three figures, powers of ten where they are many, and what is missing to 1 where that is little."""
    if 0.99 < value < 1:
        return f"1 - {1 - value:.0e}"
    return f"{value:.3g}" if value < 1e4 else f"{value:.0e}"


def cells(row: dict[str, Any]) -> list[str]:
    """What is compared, at rounding, below 1, and the quantiles of a row."""
    below = f"**{row['below']}**" if row["below"] else "0"
    if not row["compared"]:
        return [str(row["compared"]), str(row["at_rounding"]), below, "-", "-", "-", "-"]
    least, _, _, median, _, high, most = row["quantiles"]
    return [str(row["compared"]), str(row["at_rounding"]), below, *map(number, (least, median, high, most))]


EFFECTIVITY = ("numbers", "at rounding", "below 1", "least", "median", "95 %", "largest")


def problems(results: dict[str, Any]) -> str:
    """A row per problem and precision: columns of J (outputs, where x is not unique), all levels together."""
    rows = []
    for row in results["rows"]:
        only_outputs = row["product"] == "output" and row["problem"] == "cone_of_any_scale"
        if row["level"] == "all" and (row["product"] == "column" or only_outputs):
            none = sum(row["refused"].values())
            why = ", ".join(f"{count} {WHY[name]}" for name, count in row["refused"].items() if count)
            if row["h"]:
                why += f" (median {number(row['h'][1])})" if row["refused"]["h"] else ""
            rows.append(
                [
                    f"`{row['problem']}`",
                    row["mapping"].replace("_", " "),
                    row["precision"][5:],
                    row["kind"],
                    row["solutions"],
                    row["unreached"],
                    f"{none}: {why}" if none else "0",
                    *cells(row),
                ]
            )
    return markdown(("problem", "mapping", "bits", "kind", "solutions", "elsewhere", "without certificate", *EFFECTIVITY), rows)


def pooled(rows: list[dict[str, Any]]) -> list[str]:
    """Sums over problems, and for the quantiles the median problem and the worst."""
    real = [row for row in rows if row["compared"]]
    below = sum(row["below"] for row in rows)
    sums = [str(sum(row[name] for row in rows)) for name in ("compared", "at_rounding")]
    if not real:
        return [*sums, str(below), "-", "-", "-", "-"]
    at = {place: [row["quantiles"][k] for row in real] for k, place in enumerate(PLACES)}
    return [
        *sums,
        f"**{below}**" if below else "0",
        number(min(at["least"])),
        _range(at["median"]),
        _range(at["95 %"]),
        number(max(at["largest"])),
    ]


def _range(values: list[float]) -> str:
    """The median over problems, and the largest."""
    ordered = sorted(values)
    return f"{number(ordered[len(ordered) // 2])} (to {number(ordered[-1])})"


def levels(results: dict[str, Any]) -> str:
    """A row per level, precision and kind: columns of J over all problems."""
    rows = []
    for precision in ("float64", "float32"):
        for level in (f"{level:.0e}" for level in results["levels"]):
            chosen = [r for r in results["rows"] if (r["level"], r["precision"], r["product"]) == (level, precision, "column")]
            for kind in ("bound", "estimate"):
                of_kind = [row for row in chosen if row["kind"] == kind]
                if of_kind and sum(row["solutions"] for row in of_kind):
                    solutions = sum(row["solutions"] for row in of_kind)
                    none = sum(sum(row["refused"].values()) for row in of_kind)
                    rows.append([level, precision[5:], kind, solutions, none, *pooled(of_kind)])
    return markdown(("abs(x - x*) / abs(x*)", "bits", "kind", "solutions", "without certificate", *EFFECTIVITY), rows)


def products(results: dict[str, Any]) -> str:
    """A row per product, precision and kind, over all problems and levels."""
    rows = []
    for product, words in WORDS.items():
        for precision in ("float64", "float32"):
            for kind in ("bound", "estimate"):
                key = ("all", precision, product, kind)
                chosen = [r for r in results["rows"] if (r["level"], r["precision"], r["product"], r["kind"]) == key]
                if chosen:
                    rows.append([words, precision[5:], kind, *pooled(chosen)])
    return markdown(("product", "bits", "kind", *EFFECTIVITY), rows)


def aims(results: dict[str, Any]) -> str:
    """What was aimed at, and where it is not met, in columns of J."""
    lines = [f"- {results['seeds']} random instances of each problem"]
    for kind in ("bound", "estimate"):
        rows = [r for r in results["rows"] if (r["level"], r["product"], r["kind"]) == ("all", "column", kind) and r["compared"]]
        total, below = sum(r["compared"] for r in rows), sum(r["below"] for r in rows)
        beyond = {by: sum(r["short"][by] for r in rows) for by in rows[0]["short"]} if rows else {}
        short = ", ".join(f"{count} by more than {by}" for by, count in beyond.items())
        lines.append(f"- {kind}s below the true error: {below} of {total}, {below / max(total, 1):.2%}; of the error, {short}")
        for place, k, limit in (("median", 3, 2.5), ("95th percentile", 5, 5.0)):
            over = [
                f"`{r['problem']}` ({r['precision'][5:]}) {number(r['quantiles'][k])}" for r in rows if r["quantiles"][k] > limit
            ]
            said = f"in {len(over)}: {', '.join(over)}" if over else "in none"
            lines.append(f"- {kind}s, {place} above {limit:g} {said} of {len(rows)} rows")
        above = {part: sum(r["above"][part] for r in rows) for part in ("truncation", "linear", "rounding")}
        shares = ", ".join(f"{part} in {count}" for part, count in above.items())
        lines.append(f"- {kind}s, effectivity above 5 in {sum(above.values())} of {total}; the largest part is {shares}")
    return "\n".join(lines) + "\n"


def violations(results: dict[str, Any]) -> str:
    """Each bound that was below its error, the worst five of every row."""
    lines = []
    for row in results["rows"]:
        for v in row["violations"] if row["level"] == "all" else ():
            parts = " ".join(f"{name} {v[name]:.2e}" for name in ("truncation", "linear", "rounding"))
            where = f"{row['problem']} {row['precision']} {row['product']} {row['kind']} level {v['level']} seed {v['seed']}"
            lines.append(
                f"{where} [{v['index']}]: {number(v['effectivity'])}, error {v['error']:.2e}, size {v['scale']:.2e}, {parts}"
            )
    return "\n".join(lines) + "\n"


def draw(results: dict[str, Any]) -> None:
    """A line for each problem and level: 5 % to 95 % of the effectivities, a dot at the median, a cross where one is below 1."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "implicit", "font.size": 8, "svg.fonttype": "none"})
    import matplotlib.pyplot as plt

    names = list(dict.fromkeys(row["problem"] for row in results["rows"]))
    steps = [f"{level:.0e}" for level in results["levels"]]
    figure, axes = plt.subplots(1, 2, figsize=(9.0, 0.36 * len(names) + 1.2), sharey=True, layout="constrained")
    for axis, precision in zip(axes, ("float64", "float32"), strict=True):
        for row in results["rows"]:
            product = "output" if row["problem"] == "cone_of_any_scale" else "column"
            if row["level"] == "all" or (row["precision"], row["product"]) != (precision, product) or not row["compared"]:
                continue
            k = steps.index(row["level"])
            y = names.index(row["problem"]) + (k - (len(steps) - 1) / 2) * 0.13
            grey = str(0.65 * (1 - k / (len(steps) - 1)))
            least, low, _, median, _, high, _ = row["quantiles"]
            axis.plot([low, high], [y, y], color=grey, linewidth=1.1, solid_capstyle="butt")
            axis.plot([median], [y], color=grey, marker="o", markersize=2.4)
            if least < 1:
                axis.plot([least], [y], color="black", marker="x", markersize=5)
        axis.axvspan(1.0, 5.0, color="0.94", zorder=0)
        axis.axvline(1.0, color="black", linewidth=0.8)
        axis.set(xscale="log", xlim=(0.3, 300.0), xlabel="bound / true error", title=precision)
        axis.set_yticks(range(len(names)), names)
        axis.grid(axis="x", color="0.85", linewidth=0.5)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.savefig(FIGURE, metadata={"Date": None, "Creator": None})
    plt.close(figure)
