"""Data files that are wrong: what lies beside s.yaml, which refers to `d.h5:/Q`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

SPEC = "problem: quadratic\ndata: {Q: 'd.h5:/Q'}\nparameters: {b: [1.0, 2.0]}\n"
EYE = np.eye(2)
Q = "d.h5"


def wrote(fill: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    """A file that h5py writes."""

    def make(folder: Path) -> None:
        with h5py.File(folder / Q, "w") as file:
            fill(file)

    return make


def holds(array: object, **attributes: str) -> Callable[[Path], None]:
    """A file with this as /Q."""

    def fill(file: h5py.File) -> None:
        file["Q"] = array
        file["Q"].attrs.update(attributes)

    return wrote(fill)


def raw(content: bytes) -> Callable[[Path], None]:
    """A file of these bytes."""
    return lambda folder: (folder / Q).write_bytes(content) and None


def cut(folder: Path) -> None:
    """A sound file without its second half."""
    holds(np.eye(200))(folder)
    content = (folder / Q).read_bytes()
    (folder / Q).write_bytes(content[: len(content) // 2])


def damaged(folder: Path) -> None:
    """A byte of a chunk is another one, which the checksum of HDF5 notices."""
    with h5py.File(folder / Q, "w") as file:
        data = file.create_dataset("Q", data=np.random.default_rng(0).normal(size=(100, 100)), chunks=(100, 100), fletcher32=True)
        place = data.id.get_chunk_info(0).byte_offset
    content = bytearray((folder / Q).read_bytes())
    content[place + 100] ^= 0xFF
    (folder / Q).write_bytes(content)


def header(folder: Path) -> None:
    """The first kilobytes after the signature are noise."""
    holds(EYE)(folder)
    content = bytearray((folder / Q).read_bytes())
    content[8:1024] = np.random.default_rng(0).bytes(1016)
    (folder / Q).write_bytes(content)


def elsewhere(folder: Path) -> None:
    """Another file of the folder, with a matrix that would fit."""
    with h5py.File(folder / "other.h5", "w") as other:
        other["Q"] = EYE


def to_come(folder: Path) -> None:
    """The version of the format, in the ninth byte, is one that nobody has written yet."""
    holds(EYE)(folder)
    content = bytearray((folder / Q).read_bytes())
    content[8] = 9
    (folder / Q).write_bytes(content)


def external_link(folder: Path) -> None:
    elsewhere(folder)
    wrote(lambda file: file.__setitem__("Q", h5py.ExternalLink("other.h5", "/Q")))(folder)


def external_storage(folder: Path) -> None:
    (folder / "secret.bin").write_bytes(EYE.tobytes())
    with h5py.File(folder / Q, "w") as file:
        file.create_dataset("Q", shape=(2, 2), dtype="f8", external=[("secret.bin", 0, h5py.h5f.UNLIMITED)])


def virtual(folder: Path) -> None:
    layout = h5py.VirtualLayout((2, 2), "f8")
    layout[...] = h5py.VirtualSource("gone.h5", "Q", (2, 2))
    wrote(lambda file: file.create_virtual_dataset("Q", layout))(folder)


def loop(folder: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["Q"], file["P"] = h5py.SoftLink("/P"), h5py.SoftLink("/Q")

    wrote(fill)(folder)


def unknown_filter(folder: Path) -> None:
    """A chunk of a filter that this HDF5 does not have."""
    with h5py.File(folder / Q, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((2, 2))
        plist.set_filter(30_000, h5py.h5z.FLAG_OPTIONAL, (1,))
        data = h5py.h5d.create(file.id, b"Q", h5py.h5t.IEEE_F64LE, h5py.h5s.create_simple((2, 2)), plist)
        data.write_direct_chunk((0, 0), EYE.tobytes(), 0)


COMPOUND = np.array([(1.0, 2)], dtype=[("x", "f8"), ("i", "i4")])
FILES: dict[str, Callable[[Path], None]] = {
    "no file": lambda folder: None,
    "a name that is nearly right": lambda folder: (folder / "b.h5").write_bytes(b"") and None,
    "an empty file": raw(b""),
    "no HDF5 file": raw(b"Q,1,2\n" * 100),
    "a file cut short": cut,
    "a damaged header": header,
    "a damaged chunk": damaged,
    "a version of HDF5 that is to come": to_come,
    "a folder": lambda folder: (folder / Q).mkdir(),
    "a pipe": lambda folder: os.mkfifo(folder / Q),
    "a device": lambda folder: (folder / Q).symlink_to("/dev/zero"),
    "a link that leads out of the folder": lambda folder: (folder / Q).symlink_to("/etc/passwd"),
    "a link to itself": lambda folder: (folder / Q).symlink_to(folder / Q),
    "nothing under that name": wrote(lambda file: file.__setitem__("q", EYE)),
    "a group": wrote(lambda file: file.create_group("Q")),
    "a type": wrote(lambda file: file.__setitem__("Q", np.dtype("f8"))),
    "an external link": external_link,
    "external storage": external_storage,
    "a virtual dataset whose source is gone": virtual,
    "links in a circle": loop,
    "a link to nothing": wrote(lambda file: file.__setitem__("Q", h5py.SoftLink("/gone"))),
    "2^60 numbers": wrote(lambda file: file.create_dataset("Q", shape=(2**30, 2**30), dtype="f8", chunks=(2, 2))),
    "a compression bomb": wrote(
        lambda file: file.create_dataset("Q", data=np.zeros((8192, 8192)), chunks=(4096, 4096), compression=1)
    ),
    "an unknown filter": unknown_filter,
    "texts": holds(np.array([b"a", b"b"])),
    "texts of any length": wrote(lambda file: file.create_dataset("Q", data=["a", "b"], dtype=h5py.string_dtype())),
    "complex numbers": holds(EYE + 1j),
    "flags": holds(EYE > 0),
    "a table": holds(COMPOUND),
    "references": wrote(lambda file: file.create_dataset("Q", data=[file.ref], dtype=h5py.ref_dtype)),
    "lists of any length": wrote(lambda file: file.create_dataset("Q", shape=(2,), dtype=h5py.vlen_dtype("f8"))),
    "long doubles": holds(EYE.astype(np.longdouble)),
    "an empty dataspace": holds(h5py.Empty("f8")),
    "an axis of no length": holds(np.zeros((2, 0))),
    "NaN": holds(np.array([[1.0, np.nan], [np.nan, 1.0]])),
    "infinity": holds(np.array([[np.inf, 0.0], [0.0, 1.0]])),
    "another shape": holds(np.eye(3)),
    "too few axes": holds(np.ones(2)),
    "another unit": holds(EYE, units="kg"),
    "a unit that is no text": wrote(lambda file: file.__setitem__("Q", EYE) or file["Q"].attrs.__setitem__("units", 3)),
}
