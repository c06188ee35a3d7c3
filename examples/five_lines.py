"""The neighbours of 10,000 pictures. Run again, it finds `fashion.zarr` finished and only opens it."""

from pathlib import Path

import numpy as np

import distnnd

X = np.load(Path(__file__).with_name("fashion_10k_u8.npz"))["X"]
graph = distnnd.build(X, "fashion.zarr", n_neighbors=15, target_recall=0.95)
print(graph.recall)
print(graph.indices[:3])
