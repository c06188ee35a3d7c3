"""Floor 1: the numba kernels. Blocks and values in, arrays and counters out: no input or output, no Dask."""
