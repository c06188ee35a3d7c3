"""Options that several commands of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..values.spec import CONVERTED

Function = Callable[..., Any]


def together(*decorators: Function) -> Function:
    """Several decorators as one; --help lists them in this order."""

    def decorate(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def not_beside(other: str) -> Function:
    """A callback that refuses an option where `other` is given too."""

    def check(ctx: click.Context, parameter: click.Parameter, value: Any) -> Any:
        if value is not None and ctx.params.get(other) is not None:
            raise click.UsageError(
                "--scheduler and --workers cannot be used together: name a cluster, or start one", ctx
            )
        return value

    return check


component = together(
    click.option("--component", metavar="NAME", help="The array to read, if SOURCE is a Zarr group."),
    click.option(
        "--missing",
        type=click.Choice(["fill", "error"]),
        help="Chunks of a Zarr array that are not there: read as its fill value, or refused.  [default: refused, "
        "unless whole columns of chunks were never written]",
    ),
)
own_metric = click.option(
    "--metric", metavar="MODULE:FUNCTION", help="Your own metric, if the graph was built by one: it is not stored."
)
overwrite = click.option(
    "--overwrite", is_flag=True, help="Replace what distnnd wrote to OUT before, once the new one is whole."
)
quiet = click.option("--quiet", is_flag=True, help="Print only errors and warnings.")
random_state = click.option("--random-state", default=0, show_default=True, help="Seed: same seed, same bytes.")
cluster = together(
    click.option("--memory-limit", metavar="SIZE", help="Memory of one worker, for example 2GiB."),
    click.option(
        "--scheduler", "client", metavar="ADDRESS", callback=not_beside("n_workers"), help="Use this Dask cluster."
    ),
    click.option(
        "--workers",
        "n_workers",
        type=click.IntRange(min=1),
        callback=not_beside("client"),
        help="Start this many worker processes on this machine.  [default: threads of this process]",
    ),
    click.option(
        "--threads-per-worker",
        type=click.IntRange(min=1),
        help="Threads that a worker may use.  [default: as many as fit; one for each of --workers]",
    ),
)
parameters = together(
    click.option(
        "-k", "--n-neighbors", default=15, show_default=True, help="Neighbours of each row, without the row itself."
    ),
    click.option(
        "--metric",
        default="euclidean",
        show_default=True,
        help="Distance between rows: a name of docs/metrics.md, or MODULE:FUNCTION, your own, compiled by numba.",
    ),
    click.option(
        "--metric-param",
        "metric_params",
        multiple=True,
        metavar="NAME=VALUE",
        help="A parameter of the metric: a number, a word, a JSON list or an .npy file. May be given several times.",
    ),
    click.option("--target-recall", default=0.95, show_default=True, help="Share of the true neighbours to find."),
    click.option(
        "--max-rounds",
        default=8,
        show_default=True,
        help="Stop after this many rounds, with a warning if the target is not reached.",
    ),
    click.option(
        "--exchange-dtype",
        metavar="float16",
        help="Send float32 rows between partitions as float16.  [default: as they are]",
    ),
    click.option("--wire", metavar="float16", hidden=True),
    click.option(
        "--dtype",
        type=click.Choice(CONVERTED),
        help="Round the points to float32 first, or widen them to float64.  [default: compare them as they are given]",
    ),
    random_state,
    component,
    cluster,
    click.option(
        "--partitions",
        type=click.IntRange(min=1),
        help="Cut the points into at least so many, to share work between workers.  [default: as few as fit]",
    ),
)
