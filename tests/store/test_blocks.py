"""One large Jacobian survives what ends its run: chunks that are done are not computed again, and the result is the same."""

import os
import random
import signal
import subprocess
import sys

import h5py
import numpy as np
import pytest

from implicit_cli import api
from implicit_cli.engine.passes import ForwardPass
from implicit_cli.errors import EnvironmentProblem, InputError, Interrupted

PROBLEM = '''\
import jax.numpy as jnp

from implicit_cli.core import root
from implicit_cli.problem import Option, Output, Parameter, Problem, Unknown


class Waves(Problem):
    """x + sin(x) / 3 = M theta: A is diagonal."""

    d = Option(3)
    n = Option(4)
    theta = Parameter(shape=("n",), default=0.5)
    x = Unknown(shape=("d",))
    few = Output(shape=(2,))

    def condition(self):
        M = jnp.cos(jnp.arange(self.d)[:, None] + 2.0 * jnp.arange(self.n)[None, :])
        return root(lambda x, theta, data: x._replace(x=x.x + jnp.sin(x.x) / 3 - M @ theta.theta))

    def outputs(self, x, theta, data):
        return {"few": x.x[:2] ** 2}
'''
FORWARD = "products: [jacobian, {jvp: {v: {theta: 1.0}}}, {vjp: {w: {few: [1.0, 2.0]}}}]"
ADJOINT = "mode: adjoint, of: [few], products: [jacobian, {vjp: {w: {x: 1.0}, all: {few: [[1, 0], [0, 1], [1, 1]]}}}]"
SIZES = {"forward": (700, 190, FORWARD, "2 MiB"), "adjoint": (40, 30, ADJOINT, "4 KiB")}
"""Unknowns, parameters, products and the memory for them: the first has a block that is large enough for a file."""


@pytest.fixture
def spec(tmp_path):
    def write(mode="adjoint"):
        (tmp_path / "waves.py").write_text(PROBLEM)
        d, n, asked, memory = SIZES[mode]
        path = tmp_path / f"{mode}.yaml"
        solver = "linear_solver: gmres, " if mode == "forward" else ""
        path.write_text(
            f"problem: ./waves.py:Waves\noptions: {{d: {d}, n: {n}}}\nsensitivity: {{{solver}memory: {memory}, {asked}}}\n"
        )
        return path

    return write


def run(spec, output, **options):
    return api.run(str(spec), output, allow_plugin=True, **options)


def arrays(path):
    """All numbers of a result but times."""
    found = {}

    def see(name, node):
        if isinstance(node, h5py.Dataset) and node.dtype.kind in "fiu" and "seconds" not in name:
            found[name] = node[()]

    with h5py.File(path) as file:
        file.visititems(see)
    return found


def after(count):
    """Asks to leave at the `count`th time that it is asked."""
    asked = []
    return lambda: asked.append(None) or len(asked) == count


@pytest.mark.parametrize("mode", SIZES)
def test_what_is_done_is_not_done_again(spec, tmp_path, mode, monkeypatch):
    path, output, folder = spec(mode), tmp_path / "out.h5", tmp_path / "out.h5.blocks"
    run(path, tmp_path / "whole.h5")
    assert not list(tmp_path.glob("*.blocks"))
    with pytest.raises(Interrupted, match=r"stopped after the solve, saved in .*out\.h5\.blocks: the same command goes on"):
        run(path, output, stopped=after(1))
    ends = []
    while not ends or "stopped" in ends[-1]:
        try:
            run(path, output, stopped=after(1))  # after one more chunk
            ends.append("done")
        except Interrupted as stop:
            ends.append(str(stop))
            assert not output.exists()
    total = len(ends) - 1
    assert total > 3
    assert ends[:-1] == [
        f"stopped after {done} of {total} chunks of right-hand sides, saved in {folder}: the same command goes on from there"
        for done in range(1, total + 1)
    ]
    assert not folder.exists()
    one, other = arrays(tmp_path / "whole.h5"), arrays(output)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_a_killed_process_loses_no_finished_chunk(spec, tmp_path, monkeypatch):
    path, output = spec("forward"), tmp_path / "out.h5"
    script = (
        "import os, signal\n"
        "from implicit_cli.store import blocks\n"
        "save, blocks.PAUSE, count = blocks.Blocks.save, 0.0, []\n"
        "def saved(*given):\n"
        "    save(*given)\n"
        "    count.append(None)\n"
        "    len(count) == 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "blocks.Blocks.save = saved\n"
        "from implicit_cli import api\n"
        "from pathlib import Path\n"
        f"api.run({str(path)!r}, Path({str(output)!r}), allow_plugin=True)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script], env={**os.environ, "JAX_PLATFORMS": "cpu"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    chunks, solve = [], ForwardPass.solve
    monkeypatch.setattr(ForwardPass, "solve", lambda self, chunk: chunks.append(chunk) or solve(self, chunk))
    run(path, tmp_path / "whole.h5")
    whole = list(chunks)
    chunks.clear()
    run(path, output)
    assert chunks == whole[2:]
    one, other = arrays(tmp_path / "whole.h5"), arrays(output)
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_another_run_and_a_damaged_file_are_refused(spec, tmp_path):
    path, output = spec(), tmp_path / "out.h5"
    with pytest.raises(Interrupted):
        run(path, output, stopped=after(2))
    with pytest.raises(InputError) as refused:
        run(path, output, overrides=["parameters={theta: 0.25}"])
    state = tmp_path / "out.h5.blocks" / "state.npz"
    lines = str(refused.value).splitlines()
    assert lines[0].startswith(f"{state}: belongs to another run: ")
    assert lines[-1].endswith(f"remove {state.parent} to start anew")
    content = state.read_bytes()
    middle = len(content) // 2
    for broken in (content[:middle], content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]):
        state.write_bytes(broken)
        with pytest.raises(InputError, match="damaged: remove"):
            run(path, output)
    state.write_bytes(content)
    run(path, output)
    assert output.exists()


@pytest.fixture
def begun(spec, tmp_path):
    """A run that was stopped after its first chunk: spec, output, and the block's file."""
    path, output = spec("forward"), tmp_path / "out.h5"
    for _ in range(2):  # after the solve, and after a chunk
        with pytest.raises(Interrupted):
            run(path, output, stopped=after(1))
    (block,) = (tmp_path / "out.h5.blocks").glob("*.bin")
    return path, output, block


@pytest.mark.parametrize("harm", [lambda block: block.unlink(), lambda block: os.truncate(block, 4096)])
def test_a_block_that_is_gone_is_not_taken_for_done(begun, harm):
    path, output, block = begun
    harm(block)
    with pytest.raises(InputError, match=r"-0\.bin: missing or damaged: remove .*\.blocks to start anew"):
        run(path, output)
    assert not output.exists()


@pytest.mark.parametrize("mode", SIZES)
def test_a_block_in_which_a_bit_has_flipped_is_not_taken_for_done(spec, tmp_path, mode, monkeypatch):
    """Wherever it is, as far as the chunks have come."""
    monkeypatch.setattr("implicit_cli.engine.passes.SMALL", 0)
    path, output, chance = spec(mode), tmp_path / "out.h5", random.Random(0)
    for _ in range(3):  # after the solve, and after two chunks
        with pytest.raises(Interrupted):
            run(path, output, stopped=after(1))
    blocks = sorted((tmp_path / "out.h5.blocks").glob("*.bin"))
    assert blocks
    filled = [(block, place) for block in blocks for place in np.flatnonzero(np.fromfile(block, "u8"))]
    for block, place in chance.sample(filled, 6):
        content = block.read_bytes()
        damaged = bytearray(content)
        damaged[8 * place + chance.randrange(8)] ^= 1 << chance.randrange(8)
        block.write_bytes(damaged)
        with pytest.raises(InputError, match=r"\.blocks: a block is damaged: remove the folder to start anew"):
            run(path, output)
        assert not output.exists()
        block.write_bytes(content)
    run(path, output)


def test_a_link_in_the_folder_is_not_followed(begun, tmp_path):
    path, output, block = begun
    other = tmp_path / "other"
    other.write_bytes(b"\1" * block.stat().st_size)
    block.unlink()
    block.symlink_to(other)
    with pytest.raises(EnvironmentProblem, match=r"-0\.bin: cannot write the block: Too many levels of symbolic links"):
        run(path, output)
    assert set(other.read_bytes()) == {1}
