"""Damaged HDF5 files: sound ones with bits, bytes and blocks changed, read as data of a spec and as a result.

    python tests/fuzz/files.py COUNT [SEED]

Each must be read or refused by an error of ours within seconds, and must not bring the process down. What does is written to
tests/fuzz/found/, from where the tests take it. Files are tried in a child, which a crash of the HDF5 library ends and this
survives.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOUND = HERE / "found"
SLOW = 5.0
"""Seconds that no file may take."""
HANGS = 30.0
"""Seconds after which a child that says nothing is given up; it begins with imports."""
DATA = {"plain": "/X", "packed": "/deep/X", "texts": "/names", "filled": "/X", "attributes": "/X"}
"""Data files that are made, and what is read of each; the file `result` is a result."""


def make(folder: Path) -> None:
    """One sound file of each kind."""
    import h5py
    import numpy as np

    numbers = np.random.default_rng(0).normal(size=(40, 3))
    with h5py.File(folder / "plain.h5", "w") as file:
        file["X"] = numbers
    with h5py.File(folder / "packed.h5", "w") as file:
        file.create_dataset("deep/X", data=numbers, chunks=(7, 3), compression="gzip", shuffle=True)
        file["deep/link"] = h5py.SoftLink("/deep/X")
    with h5py.File(folder / "texts.h5", "w") as file:
        file.create_dataset("names", data=[f"name {i}" for i in range(9)], dtype=h5py.string_dtype())
    with h5py.File(folder / "filled.h5", "w", libver="latest") as file:
        file.create_dataset("X", data=numbers, chunks=(8, 2), maxshape=(None, 3), fletcher32=True)
    with h5py.File(folder / "attributes.h5", "w") as file:
        file["X"] = numbers
        file["X"].attrs["units"] = "m"
        for i in range(20):
            file[f"group{i}/value"] = i
            file.attrs[f"about{i}"] = "x" * i


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Some bytes are others."""
    made = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        if not made:
            break
        # headers decide most, and are a small part of a file
        at = chance.randrange(min(len(made), chance.choice((64, 1024, 4096, len(made)))))
        match chance.randrange(6):
            case 0:
                made[at] ^= 1 << chance.randrange(8)
            case 1:
                made[at] = chance.randrange(256)
            case 2:
                made[at : at + 8] = chance.choice((b"\xff" * 8, b"\0" * 8, chance.randbytes(8)))[: len(made) - at]
            case 3:
                size = chance.choice((1, 8, 64, 512))
                other = chance.randrange(len(made))
                made[at : at + size] = made[other : other + size]
            case 4:
                del made[at : at + chance.choice((1, 8, 100))]
            case 5:
                if chance.random() < 0.2:
                    del made[at:]
    return bytes(made)


def processor() -> float:
    """Seconds of the processor that this process and those it waited for have taken: other work on the machine is not in it."""
    return sum(os.times()[:4])


def read(path: Path, kind: str) -> str:
    """What is wrong with how this file is read; empty where nothing is."""
    from implicit_cli.errors import ImplicitError
    from implicit_cli.spec import reference
    from implicit_cli.store import read_summary

    begun = processor()
    try:
        if kind == "result":
            read_summary(path)
        else:
            reference.read(path, path.name, DATA[kind], place="PLACE", text=kind == "texts")
    except ImplicitError as error:
        if any(not line.isprintable() for line in str(error).splitlines()):
            return f"a message that is not printable: {error!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    seconds = processor() - begun
    return f"{seconds:.1f} s" if seconds > SLOW else ""


def child() -> None:
    """Read the files that are named on standard input, one a line with its kind, and answer each with a line."""
    for line in sys.stdin:
        kind, _, path = line.rstrip("\n").partition(" ")
        sys.stdout.write(read(Path(path), kind).replace("\n", " ") + "\n")
        sys.stdout.flush()


def started() -> subprocess.Popen[str]:
    """A child that reads."""
    return subprocess.Popen(
        [sys.executable, __file__, "CHILD"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def main(count: int, seed: int) -> int:
    """Try so many files; 1 where one of them is a fault."""
    from implicit_cli import api

    chance, faults, crashes = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        make(folder)
        api.run(str(HERE.parents[1] / "sample_inputs" / "quadratic.yaml"), folder / "result.h5")
        sound = {kind: (folder / f"{kind}.h5").read_bytes() for kind in (*DATA, "result")}
        reader = started()
        for number in range(count):
            kind = chance.choice(list(sound))
            content, path = damaged(sound[kind], chance), folder / "damaged.h5"
            path.write_bytes(content)
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write(f"{kind} {path}\n")
            ready, _, _ = select.select([reader.stdout], [], [], HANGS)
            answer = reader.stdout.readline() if ready else ""
            found = answer.rstrip("\n")
            if not answer:
                ended = reader.poll() if not ready else reader.wait()
                crashes += ended is not None
                found = f"no answer in {HANGS:g} s" if ended is None else f"the process ended with {ended}"
                reader.kill()
                reader = started()
            if found:
                faults += 1
                FOUND.mkdir(exist_ok=True)
                (FOUND / f"{kind}-{seed}-{number}.h5").write_bytes(content)
                sys.stdout.write(f"{number} {kind}: {found}\n")
                sys.stdout.flush()
        reader.kill()
    sys.stdout.write(f"{count} files, seed {seed}: {faults} faults, {crashes} of them crashes\n")
    return int(faults > 0)


if __name__ == "__main__":
    if sys.argv[1] == "CHILD":
        child()
    else:
        with contextlib.suppress(KeyboardInterrupt):
            sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0))
