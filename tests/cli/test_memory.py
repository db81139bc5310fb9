"""A Jacobian that is larger than the memory: it is in the file, whole, or there is one line and no file."""

import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from implicit_cli import api
from implicit_cli.engine import passes
from implicit_cli.store import atomic, scratch

MIB = 2**20

WIDE = '''
import jax.numpy as jnp
from implicit_cli.core import fixed_point
from implicit_cli.problem import Option, Parameter, Problem, Unknown


class Wide(Problem):
    """x_i = (running sum of theta at s_i) / n - sin(x_i) / 3, with s_i evenly spaced from the first to the last entry."""

    d, n = Option(500), Option(50_000)
    theta = Parameter(shape=("n",), default=0.5)
    x = Unknown(shape=("d",))

    def condition(self):
        def grow(theta):
            return jnp.interp(jnp.linspace(0, self.n - 1, self.d), jnp.arange(self.n) * 1.0, jnp.cumsum(theta) / self.n)

        return fixed_point(lambda x, theta, data: x._replace(x=grow(theta.theta) - jnp.sin(x.x) / 3), symmetric=True)
'''


@pytest.mark.exhaustive
def test_a_large_jacobian_takes_little_memory(tmp_path):
    (tmp_path / "wide.py").write_text(WIDE)
    (tmp_path / "wide.yaml").write_text("problem: ./wide.py:Wide\nsensitivity: {memory: 48 MiB}\n")
    code = (
        "import resource, sys; from implicit_cli.cli import main; done = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024); sys.exit(done)"
    )

    def peak(*options):
        command = [sys.executable, "-c", code, "run", "wide.yaml", "-o", "out.h5", "--allow-plugin", *options]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    few = peak("--set", "options.n=50")
    assert peak() < few + 120 * MIB
    with h5py.File(tmp_path / "out.h5") as file:
        J, x = file["sensitivity/x/theta"], file["solution/x"][0]
        assert J.nbytes > 190 * MIB
        for i in (0, 77, 499):
            weights = np.clip(i / 499 * 49_999 - np.arange(50_000) + 1, 0, 1)
            np.testing.assert_allclose(J[0, i], weights / 50_000 / (1 + np.cos(x[i]) / 3), rtol=1e-8, atol=1e-12)


@pytest.fixture
def in_file(monkeypatch):
    """Everything goes to the file, however small."""
    monkeypatch.setattr(passes, "SMALL", 0)
    return ("--set", "sensitivity.memory=1")


def test_a_small_budget_gives_the_same_numbers(implicit, samples, tmp_path, in_file):
    spec = samples / "quadratic.yaml"
    assert implicit("run", spec, "-o", tmp_path / "whole.h5", "-q").code == 0
    done = implicit("run", spec, "-o", tmp_path / "parts.h5", "-v", *in_file)
    assert done.code == 0
    assert "implicit: differentiating: 2 forward and 0 adjoint solves, 2 chunks\n" in done.err
    assert "implicit: chunk 1 of 2\n" in done.err
    with h5py.File(tmp_path / "whole.h5") as whole, h5py.File(tmp_path / "parts.h5") as parts:
        for name in ("x", "minimum"):
            one, other = whole[f"sensitivity/{name}/b"], parts[f"sensitivity/{name}/b"]
            assert other.chunks is None
            np.testing.assert_allclose(other[()], one[()], rtol=1e-14)
            assert dict(other.attrs).keys() == dict(one.attrs).keys()
    shown = [implicit("show", tmp_path / f"{name}.h5").out.split("Sensitivities")[1] for name in ("whole", "parts")]
    assert [line.split()[:5] for line in shown[0].splitlines()] == [line.split()[:5] for line in shown[1].splitlines()]
    content = bytearray((tmp_path / "parts.h5").read_bytes())
    with h5py.File(tmp_path / "parts.h5") as parts:
        content[parts["sensitivity/x/b"].id.get_offset() + 3] ^= 1
    (tmp_path / "parts.h5").write_bytes(content)
    done = implicit("show", tmp_path / "parts.h5")
    assert (done.code, "damaged" in done.err) == (2, True)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO])
@pytest.mark.parametrize("where", ["allocate", "write"])
def test_a_full_disk_is_one_line_and_what_is_done_is_gone_on_with(implicit, samples, tmp_path, in_file, where, number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        if where == "allocate":
            patch.setattr(scratch.os, "posix_fallocate", fail)
        else:  # not os.write, which prints the line too
            patch.setattr(atomic, "_write", fail)
        done = implicit("run", samples / "quadratic.yaml", "-o", tmp_path / "out.h5", "-q", *in_file)
    assert done.code == 3
    assert done.err.startswith(f"implicit: error: {tmp_path / 'out.h5.blocks'}/")
    assert os.strerror(number) in done.err
    assert done.err.count("\n") == 1
    # the solution, where it could be written, and nothing else
    left = sorted(path.name for path in tmp_path.rglob("*"))
    assert left == (["out.h5.blocks", "state.npz"] if where == "allocate" else ["out.h5.blocks"])
    assert implicit("run", samples / "quadratic.yaml", "-o", tmp_path / "out.h5", "-q", *in_file).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]


def test_an_interrupt_between_chunks_leaves_what_is_done(samples, tmp_path, in_file):
    class Observer:
        def stage(self, text): ...
        def progress(self, step, residual, tol): ...
        def chunk(self, done, total):
            raise KeyboardInterrupt

    asked = {"overrides": ["sensitivity.memory=1"]}
    with pytest.raises(KeyboardInterrupt):
        api.run(str(samples / "quadratic.yaml"), tmp_path / "out.h5", observer=Observer(), **asked)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5.blocks"]
    api.run(str(samples / "quadratic.yaml"), tmp_path / "out.h5", **asked)
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
