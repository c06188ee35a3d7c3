"""Benchmarks: one command a table, each peer on the same data in the same run.

    run           every builder on small sets (`make bench`); --full for curves and a million rows
    pairs         distnnd and PyNNDescent in alternation, ratios pair by pair
    growth        CPU seconds against rows, at a constant measured recall
    workers       two worker processes against one
    out_of_core   little memory against enough
    bounded       a build by workers of 700 MB, watched
    startup       an import, a first build, a cold compile

Tables go to benchmarks/results, data to benchmarks/data. `one` is a build in a process of its own, `peers` are the
builders, `data`, `generated` and `truth` what they build from and are held against, `measure` and `placement` the way
of measuring, `table` the way of writing it down, `quarter` a limit of memory.
"""
