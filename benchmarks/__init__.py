"""Benchmarks: one command a table, each peer on the same data in the same run."""
