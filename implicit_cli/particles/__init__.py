"""Systems of particles: cells, lists of neighbours, energies by pairs and by clusters, and their sparse Hessians.

A problem of particles inherits from `PairPotential` or `ClusterPotential` and writes one function, the energy of a distance or of
a particle among its neighbours; everything else is here.
"""
