"""Floor 3: who runs the tasks. Dask lives here and nowhere below."""
