"""Flip single bits in result files, and see that each is noticed.

    python tests/faults/flips.py --flips 10000

Results of several samples are made. Then, for each flip, anywhere in the file:

1. `verify --integrity` refuses it, as every command does that reads the file;
2. a flip in a chunk of data does not get through HDF5 as another value: it fails the chunk's checksum, whoever reads it.

Every so often a damaged file is held against the names that the refusal gives. Ends with exit code 1 at the first thing that is
otherwise, and leaves the file as it is.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import h5py
import numpy as np

from implicit_cli import api, store
from implicit_cli.errors import InputError
from implicit_cli.store import guard

SAMPLES = Path(__file__).resolve().parents[2] / "sample_inputs"
SPECS = {
    "ridge.yaml": (),
    "lasso.yaml": (),
    "borehole.yaml": ("sweep.samples=64",),
    "morse.yaml": (),
}
"""Samples and what is changed in them: one case and many, files with and without particles."""
TOLD_EVERY = 100
"""To say which dataset is damaged takes a process of its own: one in so many."""


class Fault(Exception):
    """Something that must never be."""


class Chunk(NamedTuple):
    """Where in the file a chunk of a dataset lies."""

    dataset: str
    begin: int
    end: int


def results(folder: Path) -> Iterator[Path]:
    """A result of each sample."""
    for name, overrides in SPECS.items():
        output = folder / f"{Path(name).stem}.h5"
        api.run(str(SAMPLES / name), output, overrides=overrides)
        yield output


def chunks(path: Path) -> list[Chunk]:
    """All chunks of all datasets."""
    found: list[Chunk] = []

    def see(name: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and node.chunks:
            for index in range(node.id.get_num_chunks()):
                info = node.id.get_chunk_info(index)
                found.append(Chunk(f"/{name}", info.byte_offset, info.byte_offset + info.size))

    with h5py.File(path) as file:
        file.visititems(see)
    return found


def flip(path: Path, count: int, rng: random.Random) -> Counter[str]:
    """Flip so many bits of the file at `path`, one after the other and each by itself; what became of them."""
    whole, places, seen = path.read_bytes(), chunks(path), Counter[str]()
    with h5py.File(path) as file:
        values = {chunk.dataset: file[chunk.dataset][()] for chunk in places}
    for number in range(count):
        at = rng.randrange(len(whole))
        if number % 2 and places:  # half of them where the data are
            chunk = rng.choice(places)
            at = rng.randrange(chunk.begin, chunk.end)
        content = bytearray(whole)
        content[at] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        damaged = next((chunk for chunk in places if chunk.begin <= at < chunk.end), None)
        said = refused(path, tell=number % TOLD_EVERY == 1)
        if said and damaged is not None and damaged.dataset not in said and "more" not in said:
            raise Fault(f"{path}: byte {at} of {damaged.dataset} is another, and it was said: {said}")
        if damaged is not None and read(path, damaged.dataset, values[damaged.dataset]):
            raise Fault(f"{path}: byte {at} is another, and HDF5 reads other values of {damaged.dataset}")
        seen["in data" if damaged else "elsewhere"] += 1
    path.write_bytes(whole)
    store.integrity(path)
    return seen


def refused(path: Path, *, tell: bool) -> str:
    """How the file is refused, where that is asked for; raises Fault where it is not."""
    try:
        if tell:
            store.integrity(path)
        else:
            with mock.patch.object(guard, "_damage", return_value=""):
                store.integrity(path)
    except InputError as error:
        return str(error) if tell else ""
    raise Fault(f"{path}: a bit has changed, and it is taken for whole")


def read(path: Path, dataset: str, before: np.ndarray) -> bool:
    """Whether HDF5 reads other values than before, without an error."""
    try:
        with h5py.File(path) as file:
            now = file[dataset][()]
    except OSError:
        return False
    return np.asarray(now).tobytes() != np.asarray(before).tobytes()


def main(words: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--flips", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=None, help="of the bits; another one each time without it")
    given = parser.parse_args(words)
    seed = random.randrange(1 << 32) if given.seed is None else given.seed
    rng, seen, folder = random.Random(seed), Counter[str](), Path(tempfile.mkdtemp(prefix="implicit-flips-"))
    share = -(-given.flips // len(SPECS))
    try:
        for path in results(folder):
            found = flip(path, share, rng)
            seen += found
            told = f"{found['in data']} in data, {found['elsewhere']} elsewhere"
            sys.stdout.write(f"{path.name}, {path.stat().st_size} bytes: {told}\n")
            sys.stdout.flush()
    except Fault as fault:
        sys.stdout.write(f"FAULT, seed {seed}: {fault}\n")
        return 1
    shutil.rmtree(folder)
    told = f"of {seen['in data']} in data none was read as another value"
    sys.stdout.write(f"seed {seed}: {seen.total()} flipped bits, all noticed; {told}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
