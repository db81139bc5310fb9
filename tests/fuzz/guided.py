"""The readers of specs and of HDF5 files under libFuzzer, which keeps what reaches new lines (pip install atheris).

    python tests/fuzz/guided.py specs|files CORPUS [FLAGS]       FLAGS of libFuzzer: -runs=100000 -max_total_time=600 -seed=1

CORPUS is a folder that begins with the sound samples and grows by what was found to lead further. What is a fault by the rules of
`specs.py` and `files.py` ends it, and is written to tests/fuzz/found/, from where the tests take it.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
FLAGS = ("-timeout=30", "-rss_limit_mb=4096", "-print_final_stats=1")

with atheris.instrument_imports(include=["implicit_cli.spec", "implicit_cli.store", "yaml"]):
    import files
    import specs

    import implicit_cli.spec
    import implicit_cli.store  # noqa: F401


class Fault(Exception):
    """What must not be; its content is kept."""


def kept(content: bytes, name: str, found: str) -> None:
    """Keep a fault for the tests, and end."""
    files.FOUND.mkdir(exist_ok=True)
    (files.FOUND / name).write_bytes(content)
    raise Fault(f"{name}: {found}")


def main(what: str, corpus: Path, flags: list[str]) -> None:
    """Never returns: libFuzzer ends the process."""
    corpus.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="implicit-fuzz-"))
    if what == "specs":
        for sample in specs.SAMPLES.glob("*.yaml"):
            shutil.copy(sample, corpus)
        for data in specs.SAMPLES.glob("*.h5"):
            shutil.copy(data, folder)
        flags += ["-max_len=8192", f"-dict={dictionary(folder)}"]
    else:
        files.make(folder)
        for kind in files.DATA:
            shutil.copy(folder / f"{kind}.h5", corpus)
        flags += ["-max_len=65536"]

    def spec(content: bytes) -> None:
        if found := specs.fault(content, folder):
            kept(content, f"spec-guided-{hashlib.sha256(content).hexdigest()[:8]}.yaml", found)

    def file(content: bytes) -> None:
        path = folder / "fuzzed.h5"
        path.write_bytes(content)
        for kind in files.DATA:
            if found := files.read(path, kind):
                kept(content, f"{kind}-guided-{hashlib.sha256(content).hexdigest()[:8]}.h5", found)

    atheris.Setup([sys.argv[0], *FLAGS, *flags, str(corpus)], spec if what == "specs" else file)
    atheris.Fuzz()


def dictionary(folder: Path) -> Path:
    """Pieces of specs, as libFuzzer takes them."""
    words = {word for path in specs.SAMPLES.glob("*.yaml") for word in specs.TOKEN.findall(path.read_text()) if len(word) > 2}
    escaped = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in sorted({*words, *specs.WORDS}) if word)
    path = folder / "words.dict"
    path.write_text("".join(f'"{word}"\n' for word in escaped))
    return path


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
