"""A potential of a user's own that lacks a method says which one, and what it is to return."""

import pytest

from implicit_cli import api
from implicit_cli.errors import PluginError

HEAD = """
from implicit_cli.particles.clusters import ClusterPotential
from implicit_cli.particles.material import Material
from implicit_cli.particles.pairs import PairPotential

class Mine(Material, {base}):
"""
REACH = """
    def reach(self, theta, data):
        return 1.5
"""


@pytest.mark.parametrize(
    ("base", "body", "lacks"),
    [
        ("PairPotential", "    pass", "reach(theta, data): return the distance beyond which nothing interacts"),
        ("PairPotential", REACH, "pair_energy(r, bond, theta): return the energy of pairs at distances r"),
        ("ClusterPotential", REACH, "cluster_energy(D, present, kind, kinds, theta): return the energy of one particle"),
    ],
)
def test_the_method_to_write_is_named(base, body, lacks, tmp_path):
    (tmp_path / "mine.py").write_text(HEAD.format(base=base) + body + "\n")
    spec = tmp_path / "spec.yaml"
    spec.write_text("problem: ./mine.py:Mine\nstructure: {lattice: fcc, a: 1.5}\n")
    with pytest.raises(PluginError, match=r"Mine has no ") as refused:
        api.run(str(spec), tmp_path / "out.h5", allow_plugin=True)
    assert lacks in str(refused.value)
    assert not (tmp_path / "out.h5").exists()
