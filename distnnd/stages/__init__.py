"""Floor 2: one task each: read a block, call kernels, write a block. No Dask."""
