"""Makes the data files of the sample inputs.

`diabetes.h5` comes from scikit-learn's copy of the diabetes data set of Efron, Hastie, Johnstone and Tibshirani (2004).

442 patients, 10 features, and the progression of the disease a year later.
Patients are shuffled and split into 300 for training and
142 for validation; features are standardised with the training set's mean and deviation, targets centred on its mean.
`packing_cotangent.h5` is a random cotangent for the positions of 128 discs.
Needs scikit-learn: `pip install scikit-learn`, then `python sample_inputs/make_data.py`.
"""

from pathlib import Path

import h5py
import numpy as np
from sklearn.datasets import load_diabetes

HERE = Path(__file__).parent
SOURCE = "B. Efron, T. Hastie, I. Johnstone, R. Tibshirani, Least Angle Regression, Annals of Statistics 32, 407 (2004)"


def diabetes() -> None:
    bunch = load_diabetes(scaled=False)
    order = np.random.default_rng(2004).permutation(len(bunch.target))
    train, validation = order[:300], order[300:]
    mean, deviation = bunch.data[train].mean(axis=0), bunch.data[train].std(axis=0)
    features = (bunch.data - mean) / deviation
    target = bunch.target - bunch.target[train].mean()
    arrays = {"X": features[train], "y": target[train], "X_validation": features[validation], "y_validation": target[validation]}
    with h5py.File(HERE / "diabetes.h5", "w", libver=("v110", "v110")) as file:
        file.attrs["source"] = SOURCE
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip", shuffle=True, fletcher32=True, track_times=False)
        file["feature"] = np.array(bunch.feature_names, dtype=h5py.string_dtype())


def packing_cotangent() -> None:
    with h5py.File(HERE / "packing_cotangent.h5", "w", libver=("v110", "v110")) as file:
        position = file.create_dataset("position", data=np.random.default_rng(2022).normal(size=(128, 2)), track_times=False)
        position.attrs["long_name"] = "standard normal cotangent"


if __name__ == "__main__":
    diabetes()
    packing_cotangent()
