"""The one place where JAX is set up: version, precision, device, compilation cache. Called before the first import of a problem.

Importing this module does not import JAX; `configure`, `canary`, `facts` and `provenance` do.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
import tempfile
import warnings
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from implicit_cli import __version__
from implicit_cli.errors import EnvironmentProblem, InputError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

JAX_FLOOR = (0, 10, 1)
JAX_REFUSED: dict[tuple[int, ...], str] = {
    (0, 10, 2): "it computes wrong matrix-vector products on the CPU (jax issue 39103)",
    (0, 11, 0): "it can crash on broadcasts of high rank (jax issue 39257)",
}

# jax_md's own __init__ imports all of these. They cost seconds (rigid_body computes shapes, nequip brings e3nn and sympy) and start
# the XLA backend; no pair potential uses them. Whoever touches one of them gets the real module, loaded then.
_LAZY = frozenset(
    {
        "jax_md.rigid_body",
        "jax_md.elasticity",
        "jax_md.interpolate",
        "jax_md._nn.behler_parrinello",
        "jax_md._nn.e3nn_layer",
        "jax_md._nn.gnome",
        "jax_md._nn.nequip",
        "jax_md._nn.uma",
    }
)


def configure(device: str | None) -> None:
    """Set JAX up for this process: float64, device, compilation cache.

    `device` is "cpu", "gpu", "gpu:N", or None for JAX's own choice. Raises InputError for any other text, EnvironmentProblem where
    the installed JAX is refused or no such device is found. May be called again with another device.
    """
    kind, index = _parse(device)
    jaxlib = check_versions()
    _install_lazy_jax_md()
    if jaxlib < (0, 12):
        _quiet_false_alarms()
    import jax

    jax.config.update("jax_enable_x64", True)
    if kind == "cpu":
        jax.config.update("jax_platforms", "cpu")
    _configure_cache(jax)
    if kind is None:
        jax.config.update("jax_default_device", None)
    elif kind == "cpu":
        # `jax_platforms` comes too late where a backend has been started before.
        jax.config.update("jax_default_device", None if jax.default_backend() == "cpu" else jax.devices("cpu")[0])
    else:
        jax.config.update("jax_default_device", _gpu(jax, index))


def _parse(device: str | None) -> tuple[str | None, int]:
    """`("gpu", 2)` for "gpu:2"; raises InputError for what is not a device."""
    if device is None or device == "cpu":
        return device, 0
    match = re.fullmatch(r"gpu(?::(\d{1,4}))?", device)
    if match is None:
        raise InputError(f"--device: found '{device}', allowed: 'cpu', 'gpu' or 'gpu:N'{nearest(device, ('cpu', 'gpu', 'gpu:0'))}")
    return "gpu", int(match[1] or 0)


def _gpu(jax: ModuleType, index: int) -> Any:
    """The GPU of that number; raises EnvironmentProblem where there is none, for a silent CPU run helps nobody."""
    try:
        found = jax.devices("gpu")
    except RuntimeError:
        found = []
    if index < len(found):
        return found[index]
    asked = f"no GPU {index} was found" if found else "no GPU was found"
    seen = ", ".join(str(device) for device in jax.devices())
    why = f" (JAX_PLATFORMS={os.environ['JAX_PLATFORMS']} is set)" if os.environ.get("JAX_PLATFORMS") else ""
    raise EnvironmentProblem(f"--device: {asked}, JAX sees: {seen}{why}; implicit never falls back to another device")


# Versions.


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: (0, 12, 0, 1) for "0.12.0.1.dev3"."""
    match = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()


def check_versions() -> tuple[int, ...]:
    """jaxlib's release as numbers, found without importing it; raises EnvironmentProblem where JAX cannot be trusted."""
    texts, releases = {}, {}
    for name in ("jax", "jaxlib"):
        try:
            texts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise EnvironmentProblem(f"{name} is not installed: pip install 'implicit-cli'") from None
        releases[name] = _release(texts[name])
        if releases[name] < JAX_FLOOR:
            floor = ".".join(map(str, JAX_FLOOR))
            raise EnvironmentProblem(f"{name} {texts[name]} is too old, needed: {floor} or newer: pip install -U '{name}>={floor}'")
        reason = JAX_REFUSED.get(releases[name])
        if reason is not None:
            raise EnvironmentProblem(f"{name} {texts[name]} is refused: {reason}; install another version of jax and jaxlib")
    if releases["jax"][:3] != releases["jaxlib"][:3]:
        raise EnvironmentProblem(f"jax {texts['jax']} and jaxlib {texts['jaxlib']} do not match: install the same version of both")
    return releases["jaxlib"]


def _quiet_false_alarms() -> None:
    """Keep jaxlib before 0.12 from printing two lines of alarm per cached program (jax issue 38445).

    On a CPU with AVX-512 it records tuning hints as required features and misses them when it loads the program. AVX2 has no such
    hints, and XLA prefers 256-bit vectors anyway. A choice of the user's own stays.
    """
    flags = os.environ.get("XLA_FLAGS", "")
    if platform.machine().lower() in ("x86_64", "amd64") and "--xla_cpu_max_isa" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_max_isa=AVX2".strip()


# jax_md, without what nobody asked for.


class _LazyJaxMd:
    """Finder that wraps the loaders of `_LAZY` in the standard library's LazyLoader."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _LAZY:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = importlib.util.LazyLoader(spec.loader)
        return spec


def _install_lazy_jax_md() -> None:
    if _LazyJaxMd not in sys.meta_path:
        sys.meta_path.insert(0, _LazyJaxMd)


# Compilation cache.


def cache_folder() -> Path | None:
    """Folder of compiled programs: IMPLICIT_CACHE_DIR, or the user's cache folder; None where IMPLICIT_CACHE_DIR is empty.

    Programs are kept apart by CPU features: XLA compiles for the CPU at hand, and a home folder is often shared by unlike nodes.
    """
    chosen = os.environ.get("IMPLICIT_CACHE_DIR")
    if chosen is not None:
        root = Path(chosen).expanduser().absolute() if chosen else None
    elif os.environ.get("XDG_CACHE_HOME", "").startswith("/"):
        root = Path(os.environ["XDG_CACHE_HOME"], "implicit", "xla")
    else:
        user = Path("~/Library/Caches" if sys.platform == "darwin" else "~/.cache")
        try:
            root = user.expanduser() / "implicit" / "xla"
        except RuntimeError:  # no home folder: a container with a bare user id
            root = None
    return root and root / f"{platform.machine()}-{_cpu_features()}"


def _cpu_features() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    # "flags" on x86, "Features" on ARM; elsewhere a machine's features do not differ below one home folder.
    features = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return hashlib.sha256(" ".join(sorted(features)).encode()).hexdigest()[:8]


def _configure_cache(jax: ModuleType) -> None:
    """Point JAX at the cache; where it cannot be written, say so once and go on without."""
    folder = cache_folder()
    if folder is not None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            reason = f"{error.strerror}: {folder}; IMPLICIT_CACHE_DIR names another folder"
            with contextlib.suppress(OSError):  # standard error may be on the full disk too
                sys.stderr.write(f"implicit: warning: no compilation cache: {reason}\n")
            folder = None
    jax.config.update("jax_enable_compilation_cache", folder is not None)
    if folder is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # Small programs too: a run compiles dozens of them.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        # JAX writes entries in place. One that another process is writing, or that a killed one left, is compiled anew: no fault.
        warnings.filterwarnings("ignore", "Error reading persistent compilation cache entry", UserWarning)


# What was found.


@functools.cache
def canary() -> str:
    """Check once per process that compiled numbers are right, and say so in a few words.

    The check is jax issue 39103: one number in a vmapped matrix-vector product was wrong, without a word, on inputs just beyond a
    power of two. Raises EnvironmentProblem, naming JAX's version, where the numbers are not exact.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np

    def squares(row: Any, matrix: Any) -> Any:
        return jnp.sum(jnp.matmul(matrix, row, precision="highest") ** 2)

    # Whole numbers whose squares are exact in float64, and correctly rounded by one multiplication in float32.
    for dtype, rows in ((np.float64, 16_385), (np.float32, 32_769)):
        numbers = np.arange(rows, dtype=dtype)
        points = np.zeros((rows, 3), dtype)
        points[:, 0] = numbers
        found = np.asarray(jax.jit(jax.vmap(squares, (0, None)))(points, np.eye(3, dtype=dtype)))
        wrong = np.flatnonzero(found != numbers**2)
        if wrong.size:
            at = int(wrong[0])
            raise EnvironmentProblem(
                f"jax {_version('jax')} with jaxlib {_version('jaxlib')} computes wrong numbers on {_device_text()}: {at} squared "
                f"came out as {found[at]:.17g} in {np.dtype(dtype).name} ({wrong.size} of {rows} rows wrong); install another one"
            )
    return "ok: 16385 float64 and 32769 float32 rows are exact"


def facts() -> tuple[tuple[str, str], ...]:
    """Label and value of all that `implicit info` shows: versions, platform, devices, precision, cache, canary. Imports JAX."""
    import jax

    config: Any = jax.config
    folder = cache_folder() if config.jax_enable_compilation_cache else None
    sizes = [entry.stat().st_size for entry in folder.glob("*-cache")] if folder is not None else []
    return (
        *versions().items(),
        ("platform", _platform()),
        ("devices", ", ".join(f"{device} ({device.device_kind})" for device in jax.devices())),
        ("used device", _device_text()),
        ("float64", "on" if config.jax_enable_x64 else "off"),
        ("cache folder", "off" if folder is None else str(folder)),
        ("cache size", f"{len(sizes)} programs, {sum(sizes) / 1e6:.2f} MB"),
        ("canary", canary()),
    )


VARIABLES = ("JAX_PLATFORMS", "JAX_ENABLE_X64", "XLA_FLAGS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that shape a run: the only ones that a result or the report of a fault may name."""


def surroundings() -> Iterator[tuple[str, str]]:
    """Label and value of the machine, of what else is installed for us, and of `VARIABLES`, without paths."""
    yield "system", platform.platform()
    yield "processors", str(os.cpu_count())
    known = versions()
    for requirement in importlib.metadata.requires("implicit-cli") or ():
        name = re.split(r"[\[\s<>=!~;]", requirement, maxsplit=1)[0]
        if name not in known and _version(name) != "not installed":
            known[name] = _version(name)
            yield name, known[name]
    yield from _environment().items()


def provenance() -> dict[str, str]:
    """What a result file says of its origin: versions, platform, device, time in UTC, `VARIABLES`; no person and no host."""
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {**versions(), "platform": _platform(), "device": _device_text(), "started": started, **_environment()}


def _environment() -> dict[str, str]:
    """The `VARIABLES` that are set, without the paths in them."""
    return {name: re.sub(r"[^\s=]*/\S*", "PATH", os.environ[name]) for name in VARIABLES if os.environ.get(name)}


def versions() -> dict[str, str]:
    """Versions of all that shapes a number. Imports h5py, not JAX."""
    import h5py

    names = ("jax", "jaxlib", "jax-md", "lineax", "optimistix", "h5py", "numpy")
    found = {name: _version(name) for name in names}
    return {"implicit-cli": __version__, "python": platform.python_version(), **found, "hdf5": str(h5py.version.hdf5_version)}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _platform() -> str:
    return f"{platform.system()} {platform.machine()}"


def _device_text() -> str:
    """The device that programs run on: `gpu:0 NVIDIA H200`, or `cpu`."""
    import jax

    config: Any = jax.config
    device = config.jax_default_device or jax.devices()[0]
    return "cpu" if device.platform == "cpu" else f"{device.platform}:{device.id} {device.device_kind}"
