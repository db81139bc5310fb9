"""Makes the data files of the sample inputs.

`diabetes.h5`, `wine.h5` and `breast_cancer.h5` come from scikit-learn's copies of well-known data sets.
Samples are shuffled and split into a part for training and one for validation; features are standardised
with the training set's mean and deviation.

- `diabetes.h5`: 442 patients, 10 features, and the progression of the disease a year later, centred on the training set's mean;
  300 for training and 142 for validation.
- `wine.h5`: 178 wines of 3 cultivars, 13 chemical analyses and a feature that is one for all; 118 and 60.
- `breast_cancer.h5`: 569 tumours, benign (1) or malignant (0), 30 features of their cell nuclei; 400 and 169.

`nile.h5` is the yearly flow of the Nile at Aswan; every third year is for validation.
`blood.h5` is an absorbance spectrum of blood, made up of tabulated spectra of haemoglobin with known amounts and noise.
`digits.h5` comes from scikit-learn's copy of a test set of handwritten digits: 1797 images of 8 x 8 pixels from 0 to 1, 1437 for
training and 360 for validation, and the mean training image of each digit.
`dictionary.h5` is a start for a dictionary of ten atoms on `breast_cancer.h5`: the first ten principal axes of the training set.
`equilibrium_layer.h5` has random weights of a layer of 6 units on `diabetes.h5`, and the readout that fits its targets best.
`packing_cotangent.h5` is a random cotangent for the positions of 128 discs.
`pentagon.h5` holds the matrices of the semidefinite program for Lovasz's theta of a pentagon.
`iris_petals.h5` comes from scikit-learn's copy of Fisher's iris data: histograms of the petal lengths of 50 Iris versicolor and 50
Iris virginica, in bins of 0.5 cm without the empty ones, and the squared distances of their middles.
Needs scikit-learn: `pip install scikit-learn`, then `python sample_inputs/make_data.py`.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine

HERE = Path(__file__).parent
SOURCES = {
    "diabetes": "B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, Least Angle Regression, Annals of Statistics 32, 407 (2004)",
    "wine": "S. Aeberhard, M. Forina, Wine, UCI Machine Learning Repository (1992), doi 10.24432/C5PC7J",
    "breast_cancer": "W. Wolberg, O. Mangasarian, N. Street, W. Street, Breast Cancer Wisconsin (Diagnostic), "
    "UCI Machine Learning Repository (1993), doi 10.24432/C5DW2B",
    "nile": "G. W. Cobb, The problem of the Nile: conditional solution to a changepoint problem, Biometrika 65, 243 (1978)",
    "blood": "molar extinction coefficients compiled by S. Prahl, omlc.org/spectra/hemoglobin/moaveni.html, from M. K. Moaveni, "
    "A Multiple Scattering Field Theory Applied to Whole Blood, University of Washington (1970)",
    "digits": "E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (1998), "
    "doi 10.24432/C50P49",
    "pentagon": "M. Grotschel, L. Lovasz, A. Schrijver, Relaxations of vertex packing, J. Comb. Theory B 40, 330 (1986)",
    "iris_petals": "R. A. Fisher, The use of multiple measurements in taxonomic problems, Annals of Eugenics 7, 179 (1936)",
}

NILE = (
    "1120 1160 963 1210 1160 1160 813 1230 1370 1140 995 935 1110 994 1020 960 1180 799 958 1140 1100 1210 1150 1250 1260 "
    "1220 1030 1100 774 840 874 694 940 833 701 916 692 1020 1050 969 831 726 456 824 702 1120 1100 832 764 821 "
    "768 845 864 862 698 845 744 796 1040 759 781 865 845 944 984 897 822 1010 771 676 649 846 812 742 801 "
    "1040 860 874 848 890 744 749 838 1050 918 986 797 923 975 815 1020 906 901 1170 912 746 919 718 714 740"
)
"""Flow from 1871 to 1970, in 1e8 m^3 a year."""

HBO2 = (
    "680 440 380 320 320 320 280 320 340 360 400 440 520 600 660 720 760 800 860 920 980 1040 1060 1080 1120 1160 1180 1200 "
    "1220 1240 1240 1200 1200"
)
HB = (
    "4280 3640 3420 3200 3080 2960 2560 2160 1840 1520 1500 1520 1620 1720 1420 1120 1020 920 880 840 840 840 800 840 840 840 "
    "860 880 920 880 800 800 720"
)
"""Molar extinction coefficients of haemoglobin with and without oxygen from 630 to 950 nm, in l / (mol cm)."""


def write(name: str, arrays: dict[str, Any], texts: dict[str, Any] | None = None) -> None:
    """A file of arrays and, unfiltered, lists of texts."""
    with h5py.File(HERE / f"{name}.h5", "w", libver=("v110", "v110")) as file:
        file.attrs["source"] = SOURCES[name]
        for key, array in arrays.items():
            file.create_dataset(key, data=array, compression="gzip", shuffle=True, fletcher32=True, track_times=False)
        for key, names in (texts or {}).items():
            file[key] = np.array(names, dtype=h5py.string_dtype())


def split(data: np.ndarray, size: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the two parts, and the features standardised by the first."""
    order = np.random.default_rng(seed).permutation(len(data))
    train, validation = order[:size], order[size:]
    mean, deviation = data[train].mean(axis=0), data[train].std(axis=0)
    return train, validation, (data - mean) / deviation


def parts(features: np.ndarray, target: np.ndarray, train: np.ndarray, validation: np.ndarray) -> dict[str, np.ndarray]:
    return {"X": features[train], "y": target[train], "X_validation": features[validation], "y_validation": target[validation]}


def diabetes() -> None:
    bunch = load_diabetes(scaled=False)
    train, validation, features = split(bunch.data, 300, seed=2004)
    target = bunch.target - bunch.target[train].mean()
    write("diabetes", parts(features, target, train, validation), {"feature": bunch.feature_names})


def wine() -> None:
    bunch = load_wine()
    train, validation, features = split(bunch.data, 118, seed=13)
    features = np.column_stack([features, np.ones(len(features))])
    names = [*("OD280/OD315" if name.startswith("od280") else name for name in bunch.feature_names), "one"]
    write("wine", parts(features, bunch.target, train, validation), {"feature": names})


def breast_cancer() -> None:
    bunch = load_breast_cancer()
    train, validation, features = split(bunch.data, 400, seed=1993)
    write("breast_cancer", parts(features, bunch.target, train, validation), {"feature": bunch.feature_names})


def nile() -> None:
    flow = np.array(NILE.split(), dtype=float)
    year = np.arange(1871.0, 1971.0)[:, None]
    held_out = np.arange(len(flow)) % 3 == 1
    target = flow - flow[~held_out].mean()
    write("nile", parts(year, target, np.flatnonzero(~held_out), np.flatnonzero(held_out)))


def blood() -> None:
    wavelength = np.arange(630.0, 960.0, 10.0)
    HbO2, Hb = (np.array(text.split(), dtype=float) / 1000 for text in (HBO2, HB))
    # light that is scattered on its way counts as absorbed, too: a constant, and a part that falls as wavelength^-1.5
    A = np.column_stack([HbO2, Hb, np.ones_like(wavelength), (wavelength / 800) ** -1.5])
    b = A @ [2.2, 0.1, 0.0, 0.3] + np.random.default_rng(1970).normal(scale=0.02, size=len(wavelength))
    names = {"component": ["HbO2", "Hb", "constant", "scattering"], "wavelength": [f"{at:.0f} nm" for at in wavelength]}
    write("blood", {"A": A, "b": b}, names)


def digits() -> None:
    bunch = load_digits()
    order = np.random.default_rng(1998).permutation(len(bunch.target))
    train, validation = order[:1437], order[1437:]
    X, y = bunch.data / 16, bunch.target
    mean = np.array([X[train][y[train] == digit].mean(axis=0) for digit in range(10)])
    write("digits", parts(X, y, train, validation) | {"mean": mean})


def dictionary() -> None:
    """After `breast_cancer`."""
    with h5py.File(HERE / "breast_cancer.h5") as file:
        X = file["X"][()]
    axes = np.linalg.svd(X, full_matrices=False)[2][:10]
    axes *= np.sign(axes.sum(axis=1, keepdims=True))  # a singular vector has no sign of its own
    with h5py.File(HERE / "dictionary.h5", "w", libver=("v110", "v110")) as file:
        file.create_dataset("start", data=axes, track_times=False)


def equilibrium_layer() -> None:
    """After `diabetes`."""
    with h5py.File(HERE / "diabetes.h5") as file:
        X, y = file["X"][()], file["y"][()]
    random = np.random.default_rng(2019)
    W, U, b = random.normal(size=(6, 6)), random.normal(size=(6, 10)) / 10**0.5, random.normal(size=6) / 10
    W *= 0.9 / np.linalg.norm(W, 2)
    z = np.zeros((len(X), 6))
    for _ in range(500):  # a contraction: 0.9^500 is below rounding
        z = np.tanh(z @ W.T + X @ U.T + b)
    *readout, offset = np.linalg.lstsq(np.column_stack([z, np.ones(len(X))]), y, rcond=None)[0]
    with h5py.File(HERE / "equilibrium_layer.h5", "w", libver=("v110", "v110")) as file:
        for name, array in {"W": W, "U": U, "b": b, "readout": np.array(readout), "offset": offset}.items():
            file.create_dataset(name, data=array, track_times=False)


def packing_cotangent() -> None:
    with h5py.File(HERE / "packing_cotangent.h5", "w", libver=("v110", "v110")) as file:
        position = file.create_dataset("position", data=np.random.default_rng(2022).normal(size=(128, 2)), track_times=False)
        position.attrs["long_name"] = "standard normal cotangent"


def pentagon() -> None:
    """theta = max sum of w_i x_i, [[1, x'], [x, X]] positive semi-definite, X_ii = x_i, X_ij = 0 along the edges of a pentagon."""
    F = []
    for i in range(5):
        matrix = np.zeros((6, 6))
        matrix[0, 1 + i] = matrix[1 + i, 0] = matrix[1 + i, 1 + i] = 1.0
        F.append(matrix)
    for i in range(5):
        matrix, j = np.zeros((6, 6)), (i + 2) % 5
        matrix[1 + i, 1 + j] = matrix[1 + j, 1 + i] = 1.0
        F.append(matrix)
    F0 = np.zeros((6, 6))
    F0[0, 0] = 1.0
    write("pentagon", {"F0": F0, "F": np.stack(F)})


def iris_petals() -> None:
    bunch = load_iris()
    length = bunch.data[:, 2]
    edges = np.arange(2.75, 7.26, 0.5)
    middle = (edges[1:] + edges[:-1]) / 2
    source, target = (np.histogram(length[bunch.target == species], edges)[0].astype(float) for species in (1, 2))
    at, to = np.flatnonzero(source), np.flatnonzero(target)
    arrays = {"source": source[at], "target": target[to], "C": (middle[at][:, None] - middle[to][None, :]) ** 2}
    names = {"bin": [f"{middle[i]:.1f} cm" for i in at], "target_bin": [f"{middle[i]:.1f} cm" for i in to]}
    write("iris_petals", arrays, names)


if __name__ == "__main__":
    diabetes()
    wine()
    breast_cancer()
    nile()
    blood()
    digits()
    dictionary()
    equilibrium_layer()
    packing_cotangent()
    pentagon()
    iris_petals()
