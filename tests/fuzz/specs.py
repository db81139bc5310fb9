"""Specs that nobody would write: samples with pieces taken out, put in, doubled and changed, read as `implicit run` reads them.

    python tests/fuzz/specs.py COUNT [SEED]

Each must be read or refused by an error of ours within seconds. What is not is written to tests/fuzz/found/, from where the tests
take it.
"""

from __future__ import annotations

import contextlib
import random
import re
import shutil
import sys
from pathlib import Path

from files import processor

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parents[1] / "sample_inputs"
FOUND = HERE / "found"
SLOW = 5.0
"""Seconds that no spec may take."""
WORDS = (
    *(
        "null",
        "true",
        "no",
        "~",
        "''",
        '""',
        ".nan",
        ".inf",
        "-0",
        "1e308",
        "1e-320",
        "0x10",
        "0o7",
        "1_000",
        "9" * 40,
        "-1",
        "1.5",
    ),
    *("[]", "{}", "[[]]", "[[1], [2, 3]]", "{a: {b: {c: 1}}}", "&a", "*a", "<<: *a", "!!str", "|", ">", "---", "...", "%YAML 1.1"),
    *(
        "d.h5:/x",
        "diabetes.h5:/",
        "diabetes.h5:/X",
        "/dev/zero:/x",
        "../x.h5:/y",
        "a.csv:b",
        "é",
        "\u2028",
        "\ufeff",
        "\x85",
        "\t",
        "#",
    ),
    *(
        "linspace",
        "uniform",
        "normal",
        "jacobian",
        "jvp",
        "vjp",
        "hessian",
        "grid",
        "sobol",
        "log",
        "sum(x)",
        "x**x",
        "x[0, 1:2].T",
    ),
)
TOKEN = re.compile(r"\s+|[\w.]+|.", re.DOTALL)


def mutated(text: str, chance: random.Random) -> bytes:
    """A few changes at random to the pieces of a text."""
    pieces = TOKEN.findall(text)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(pieces) + 1)
        other = chance.randrange(len(pieces) + 1)
        first, last = sorted((at, min(other, at + chance.choice((1, 3, 20)))))
        match chance.randrange(7):
            case 0:
                del pieces[first:last]
            case 1:
                pieces[at:at] = pieces[first:last] * chance.choice((1, 2, 50))
            case 2:
                pieces.insert(at, chance.choice(WORDS))
            case 3:
                pieces[at : at + 1] = [chance.choice(WORDS)]
            case 4:
                pieces.insert(at, chance.choice("[]{}:,-?&*!|>'\"%@` \n"))
            case 5:
                pieces[at : at + 1] = [chance.choice(pieces or [""])]
            case 6:
                pieces.insert(at, chr(chance.choice((0, 7, 27, 127, 0x80, 0xD7FF, 0xFFFE, 0x1F600, chance.randrange(32, 0x3000)))))
    content = "".join(pieces).encode("utf-8", "replace")
    if chance.random() < 0.1 and content:
        place = chance.randrange(len(content))
        content = content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :]
    return content


def fault(content: bytes, folder: Path) -> str:
    """What is wrong with how this spec is read; empty where nothing is."""
    from implicit_cli.errors import ImplicitError
    from implicit_cli.spec import load_spec, read_early

    spec = folder / "fuzzed.yaml"
    spec.write_bytes(content)
    begun = processor()
    try:
        loaded = load_spec(spec)
        read_early(loaded)
        if loaded.model.formulas is not None:
            loaded.model.formulas.formulas(loaded.at)
    except ImplicitError as error:
        if any(not line.isprintable() for line in str(error).splitlines()):
            return f"a message that is not printable: {error!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    seconds = processor() - begun
    return f"{seconds:.1f} s" if seconds > SLOW else ""


def main(count: int, seed: int) -> int:
    """Try so many specs; 1 where one of them is a fault."""
    import tempfile

    texts = [path.read_text(encoding="utf-8") for path in sorted(SAMPLES.glob("*.yaml"))]
    chance, faults, worst = random.Random(seed), 0, 0.0
    with tempfile.TemporaryDirectory() as place:
        for data in SAMPLES.glob("*.h5"):
            shutil.copy(data, place)
        for number in range(count):
            content = mutated(chance.choice(texts), chance)
            begun = processor()
            found = fault(content, Path(place))
            worst = max(worst, processor() - begun)
            if found:
                faults += 1
                FOUND.mkdir(exist_ok=True)
                (FOUND / f"spec-{seed}-{number}.yaml").write_bytes(content)
                sys.stdout.write(f"{number}: {found}\n")
    sys.stdout.write(f"{count} specs, seed {seed}: {faults} faults, the slowest took {worst:.2f} s\n")
    return int(faults > 0)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
