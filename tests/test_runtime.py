"""JAX's set-up: refused versions, devices that are not there, the compilation cache, what jax_md does not load, the canary."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from implicit_cli import runtime
from implicit_cli.errors import EnvironmentProblem, InputError


def python(source: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a fresh process."""
    return subprocess.run(
        [sys.executable, "-c", source], env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=300
    )


# Devices


@pytest.mark.parametrize(("device", "hint"), [("gpus", "gpu"), ("gpu:", "gpu:0"), ("gpu:-1", "gpu:0"), ("GPU", "gpu"), ("", "")])
def test_a_word_that_is_no_device(device: str, hint: str):
    with pytest.raises(InputError) as caught:
        runtime.configure(device)
    (message,) = caught.value.messages
    guess = f"; did you mean '{hint}'?" if hint else ""
    assert message == f"--device: found '{device}', allowed: 'cpu', 'gpu' or 'gpu:N'{guess}"


@pytest.mark.parametrize("device", ["gpu", "gpu:3"])
def test_a_missing_gpu_is_never_replaced(device: str, monkeypatch: pytest.MonkeyPatch):
    def devices(platform: str | None = None) -> list[object]:
        if platform == "gpu":
            raise RuntimeError("Unknown backend: 'gpu' requested")
        return ["cpu:0"]

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    with pytest.raises(EnvironmentProblem) as caught:
        runtime.configure(device)
    assert str(caught.value) == (
        "--device: no GPU was found, JAX sees: cpu:0 (JAX_PLATFORMS=cpu is set); implicit never falls back to another device"
    )


def test_a_gpu_beyond_the_last(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "devices", lambda platform=None: ["cuda:0", "cuda:1"])
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    with pytest.raises(EnvironmentProblem, match=r"^--device: no GPU 2 was found, JAX sees: cuda:0, cuda:1; implicit never"):
        runtime.configure("gpu:2")


@pytest.mark.gpu
def test_the_second_gpu_is_used_where_asked():
    devices = jax.devices("gpu")
    runtime.configure(f"gpu:{len(devices) - 1}")
    assert jnp.zeros(3).devices() == {devices[-1]}


def test_float64_is_on():
    assert jnp.asarray(0.1).dtype == np.float64


# Versions


@pytest.mark.parametrize(
    ("jax_version", "jaxlib_version", "message"),
    [
        ("0.10.2", "0.10.2", "jax 0.10.2 is refused: it computes wrong matrix-vector products on the CPU (jax issue 39103)"),
        ("0.10.1", "0.10.2", "jaxlib 0.10.2 is refused: it computes wrong matrix-vector products on the CPU (jax issue 39103)"),
        ("0.11.0", "0.11.0", "jax 0.11.0 is refused: it can crash on broadcasts of high rank (jax issue 39257)"),
        ("0.10.0", "0.10.0", "jax 0.10.0 is too old, needed: 0.10.1 or newer"),
        ("0.9.2.dev4", "0.10.1", "jax 0.9.2.dev4 is too old, needed: 0.10.1 or newer"),
        ("0.12.0", "0.11.2", "jax 0.12.0 and jaxlib 0.11.2 do not match: install the same version of both"),
        (None, "0.12.0", "jax is not installed"),
        ("0.12.0", None, "jaxlib is not installed"),
    ],
)
def test_versions_that_cannot_be_trusted(
    jax_version: str | None, jaxlib_version: str | None, message: str, monkeypatch: pytest.MonkeyPatch
):
    pretend(monkeypatch, jax_version, jaxlib_version)
    with pytest.raises(EnvironmentProblem) as caught:
        runtime.configure(None)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("jax_version", "jaxlib_version"), [("0.10.1", "0.10.1"), ("0.12.0.1", "0.12.0"), ("1.0.0rc1", "1.0.0")])
def test_versions_that_can(jax_version: str, jaxlib_version: str, monkeypatch: pytest.MonkeyPatch):
    pretend(monkeypatch, jax_version, jaxlib_version)
    assert runtime.check_versions()[:2] == tuple(int(part) for part in jaxlib_version.split(".")[:2])


def pretend(monkeypatch: pytest.MonkeyPatch, jax_version: str | None, jaxlib_version: str | None) -> None:
    """Have the metadata of installed distributions say this."""
    found = {"jax": jax_version, "jaxlib": jaxlib_version}

    def version(name: str) -> str:
        if found[name] is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return str(found[name])

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_a_refused_jax_is_never_imported(tmp_path: Path):
    info = tmp_path / "jax-0.10.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: jax\nVersion: 0.10.2\n")
    script = """
import sys
from implicit_cli import errors, runtime
try:
    runtime.configure(None)
except errors.EnvironmentProblem as error:
    print(error)
print("jax" in sys.modules, "jaxlib" in sys.modules)
"""
    done = python(script, PYTHONPATH=str(tmp_path))
    refusal, imported = done.stdout.splitlines()
    assert refusal.startswith("jax 0.10.2 is refused: ")
    assert imported == "False False"


# Compilation cache


@pytest.mark.parametrize(
    ("chosen", "xdg", "expected"),
    [
        ("/scratch/cache", "/ignored", "/scratch/cache"),
        ("~/cache", "", "/home/somebody/cache"),
        (None, "/xdg", "/xdg/implicit/xla"),
        (None, "relative/is/invalid", "/home/somebody/.cache/implicit/xla"),
        (None, "", "/home/somebody/.cache/implicit/xla"),
        ("", "/xdg", None),
    ],
)
def test_where_the_cache_is(chosen: str | None, xdg: str, expected: str | None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_CACHE_HOME", xdg)
    monkeypatch.delenv("IMPLICIT_CACHE_DIR")
    if chosen is not None:
        monkeypatch.setenv("IMPLICIT_CACHE_DIR", chosen)
    folder = runtime.cache_folder()
    if expected is None:
        assert folder is None
    else:
        assert folder is not None
        assert str(folder.parent) == expected
        # Code for one kind of CPU is kept from another that shares the home folder.
        assert re.fullmatch(r"\w+-[0-9a-f]{8}", folder.name)


def test_the_cache_on_macos(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("HOME", "/Users/somebody")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("IMPLICIT_CACHE_DIR")
    folder = runtime.cache_folder()
    assert folder is not None
    assert folder.parent == Path("/Users/somebody/Library/Caches/implicit/xla")


def test_an_unwritable_cache_is_a_warning(tmp_path: Path):
    (tmp_path / "file").touch()
    script = "from implicit_cli import runtime; runtime.configure('cpu'); print(dict(runtime.facts())['cache folder'])"
    done = python(script, IMPLICIT_CACHE_DIR=str(tmp_path / "file"))
    assert done.stdout == "off\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"implicit: warning: no compilation cache: Not a directory: {tmp_path}/file/")
    assert line.endswith("; IMPLICIT_CACHE_DIR names another folder")


COMPILE = """
from implicit_cli import runtime
runtime.configure("cpu")
import jax, jax.numpy as jnp
print(jax.jit(lambda x: jnp.linalg.solve(x, x[0]).sum())(jnp.eye(5)))
"""


def test_a_second_run_compiles_nothing_and_says_nothing(tmp_path: Path):
    first = python(COMPILE, IMPLICIT_CACHE_DIR=str(tmp_path))
    entries = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-cache")}
    second = python(COMPILE, IMPLICIT_CACHE_DIR=str(tmp_path))
    assert (first.stdout, first.stderr) == (second.stdout, second.stderr) == ("1.0\n", "")
    assert entries
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-cache")} == entries


def test_a_torn_entry_is_computed_anew(tmp_path: Path):
    """What is read while another process writes it looks the same, so nothing is said of it."""
    python(COMPILE, IMPLICIT_CACHE_DIR=str(tmp_path))
    for path in tmp_path.rglob("*-cache"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    torn = python(COMPILE, IMPLICIT_CACHE_DIR=str(tmp_path))
    assert (torn.stdout, torn.stderr) == ("1.0\n", "")


# jax_md


def test_jax_md_comes_without_what_nobody_asked_for():
    script = """
import sys
from implicit_cli import runtime
runtime.configure(None)
import jax_md
from jax._src import xla_bridge
print(xla_bridge.backends_are_initialized(), [name for name in ("e3nn_jax", "sympy", "pymatgen") if name in sys.modules])

import jax, jax.numpy as jnp
from jax_md import energy, minimize, space
print(energy.soft_sphere_pair.__module__)
displacement, shift = space.periodic(3.0)
points = jnp.array([[0.1, 0.0], [0.7, 0.2], [2.0, 2.0]])
potential = energy.soft_sphere_pair(displacement)
init, apply = minimize.fire_descent(potential, shift)
state = jax.lax.fori_loop(0, 200, lambda _, state: apply(state), init(points))
print(state.position.dtype, float(potential(points)) > 0.01, float(potential(state.position)) < 1e-12)
print(type(sys.modules["jax_md.rigid_body"]).__name__)
print(jax_md.rigid_body.square.points.shape, type(sys.modules["jax_md.rigid_body"]).__name__)
print(jax_md._nn.nequip.NequIPEnergyModel.__name__, "e3nn_jax" in sys.modules)
"""
    done = python(script)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "False []",
        "jax_md.energy",
        "float64 True True",
        "_LazyModule",
        "(4, 2) module",
        "NequIPEnergyModel True",
    ]


# Canary, facts, provenance


def test_the_canary_sings():
    assert runtime.canary() == "ok: 16385 float64 and 32769 float32 rows are exact"


@pytest.mark.parametrize(("rows", "dtype"), [(16_385, "float64"), (32_769, "float32")])
def test_the_canary_falls_silent_on_wrong_numbers(rows: int, dtype: str, monkeypatch: pytest.MonkeyPatch):
    """The fault of jax 0.10.2: the row after the power of two takes a neighbour's value."""
    honest = jax.jit

    def jit(function):
        def compiled(points, matrix):
            found = np.array(honest(function)(points, matrix))
            if len(found) == rows:
                found[-1] = found[-65]
            return found

        return compiled

    monkeypatch.setattr(jax, "jit", jit)
    with pytest.raises(EnvironmentProblem) as caught:
        runtime.canary.__wrapped__()
    message = str(caught.value)
    assert message.startswith(f"jax {importlib.metadata.version('jax')} with jaxlib ")
    assert f"computes wrong numbers on cpu: {rows - 1} squared came out as " in message
    assert f" in {dtype} (1 of {rows} rows wrong)" in message


def test_facts_tell_all_that_shapes_a_number():
    found = dict(runtime.facts())
    for name in ("jax", "jaxlib", "jax-md", "lineax", "optimistix", "h5py", "numpy"):
        assert found[name] == importlib.metadata.version(name)
    assert found["implicit-cli"] == runtime.__version__
    assert re.fullmatch(r"[12]\.\d+\.\d+", found["hdf5"])
    assert found["float64"] == "on"
    assert found["canary"].startswith("ok")
    assert re.fullmatch(r"\d+ programs, \d+\.\d\d MB", found["cache size"])
    assert not found["cache size"].startswith("0 ")


def test_provenance_names_no_person_and_no_host(monkeypatch: pytest.MonkeyPatch):
    found = runtime.provenance()
    assert {"implicit-cli", "python", "jax", "jaxlib", "hdf5", "platform", "device", "started"} <= set(found)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found["started"])
    text = " ".join(found.values())
    assert socket.gethostname() not in text
    assert getpass.getuser() not in text
    assert all(isinstance(value, str) for value in found.values())


def test_provenance_takes_a_list_of_environment_variables_and_no_paths(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/home/somebody/dump --xla_cpu_max_isa=AVX2")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("MKL_NUM_THREADS", "")
    monkeypatch.setenv("MY_TOKEN", "open-sesame")
    found = runtime.provenance()
    assert found["XLA_FLAGS"] == "--xla_dump_to=PATH --xla_cpu_max_isa=AVX2"
    assert found["OMP_NUM_THREADS"] == "2"
    assert not {"MKL_NUM_THREADS", "MY_TOKEN", "HOME", "USER", "PATH"} & set(found)
    assert "open-sesame" not in " ".join(found.values())


def test_a_gpu_is_named_by_its_number_and_kind(monkeypatch: pytest.MonkeyPatch):
    gpu = SimpleNamespace(platform="gpu", id=1, device_kind="NVIDIA H200")
    monkeypatch.setattr(jax, "devices", lambda platform=None: [gpu])
    assert runtime.provenance()["device"] == "gpu:1 NVIDIA H200"
