"""The command line, as `distnnd` and as `dask distnnd`: what can be said, and how errors become exit codes.

Commands import what they need when they run, so that --help and a mistyped option answer at once. Each returns an
Answer, which is printed here: its text for people, or with --json its facts on the last line of stdout.
"""

from __future__ import annotations

import functools
import json
import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from .. import __version__
from ..values.errors import DistnndError, Interrupted
from ..values.spec import DTYPES
from .answer import Answer, say
from .options import (
    Function,
    cluster,
    component,
    overwrite,
    own_metric,
    parameters,
    quiet,
    random_state,
)
from .stopping import Stoppable

# --- the way out: answers and errors ----------------------------------------------------------------------


@dataclass
class Manner:
    """How a command speaks. stopped: what to say, beside "interrupted", where it is stopped from outside."""

    as_json: bool
    with_traceback: bool
    stopped: Callable[[], str] = str


class Door(click.Group):
    """A group through which every answer and every error leaves: printed in one place, with its exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of their use, which is the order they stand in below."""
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Look for --json before anything is understood: a usage error is told as JSON too."""
        with_traceback = "--traceback" in args or bool(os.environ.get("DISTNND_TRACEBACK"))
        ctx.obj = Manner("--json" in args, with_traceback)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> None:
        """Run the command that was named; click.exceptions.Exit carries the code of an error."""
        manner: Manner = ctx.obj
        farewell = functools.cache(lambda: refuse(Interrupted(f"interrupted{manner.stopped()}"), manner))
        try:
            with Stoppable(farewell):
                answer: Answer = super().invoke(ctx)
        except (click.exceptions.Exit, BrokenPipeError):
            raise
        except KeyboardInterrupt:
            ctx.exit(farewell())
        except Exception as error:
            ctx.exit(refuse(error, manner))
        if manner.as_json:
            click.echo(json.dumps(answer.facts))
        elif answer.text:
            click.echo(answer.text)


def refuse(error: Exception, manner: Manner) -> int:
    """Say on stderr, and if asked as JSON on stdout, what went wrong; the exit code."""
    code, message = verdict(error)
    if manner.with_traceback:
        say("".join(traceback.format_exception(error)).rstrip())
    if isinstance(error, click.ClickException):
        error.show()
    else:
        say(f"distnnd: {message}")
    if manner.as_json:
        click.echo(json.dumps({"error": {"type": type(error).__name__, "message": message, "exit_code": code}}))
    return code


def verdict(error: Exception) -> tuple[int, str]:
    """The exit code of an error, and its message on one line."""
    if isinstance(error, click.ClickException):
        return error.exit_code, error.format_message()
    message = " ".join(str(error).split())
    if isinstance(error, DistnndError):
        return error.exit_code, message
    return 1, f"{type(error).__name__}: {message} (--traceback shows where)"


def command(function: Function) -> click.Command:
    """A command of `main`, with the options that all have, which the Door reads."""
    made = main.command()(function)
    made.params += [
        click.Option(
            ["--json"], is_flag=True, expose_value=False, help="Print one JSON object on the last line of stdout."
        ),
        click.Option(
            ["--traceback"],
            is_flag=True,
            expose_value=False,
            help="Show where in the code an error was raised.",
        ),
    ]
    return made


# --- the commands -----------------------------------------------------------------------------------------


@click.group("distnnd", cls=Door, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="distnnd")
def main() -> None:
    """Build the k-nearest-neighbour graph of data larger than memory, on Dask, to a recall that you name.

    SOURCE is the path or URL of a Zarr array or group, of an .npy, .fbin, .u8bin, .i8bin, .fvecs or .bvecs file, or of
    sparse rows: a CSR matrix as AnnData stores it in Zarr, or an .npz of scipy.sparse.

    Exit codes: 0 done, 1 failed, 2 usage, 3 the store is damaged, 4 it would exceed the memory or the disk,
    130 interrupted, can be resumed.
    """


@command
@click.argument("source")
@parameters
def plan(**arguments: Any) -> Answer:
    """Show what a build of SOURCE would do: tasks, memory, disk. Only metadata are read."""
    from . import commands

    return commands.plan(**arguments)


@command
@click.argument("source")
@click.argument("out")
@parameters
@click.option(
    "--scratch", metavar="DIR", help="Directory for temporary data, on a disk that all workers see.  [default: in OUT]"
)
@click.option("--resume/--no-resume", default=True, help="Continue an unfinished build at OUT.  [default: resume]")
@overwrite
@quiet
@click.pass_obj
def build(manner: Manner, /, **arguments: Any) -> Answer:
    """Build the graph of SOURCE in the Zarr store OUT.

    If it is there already, finished, of the same points and with the same options, it is left as it is.
    """
    from . import commands

    manner.stopped = lambda: commands.how_to_go_on(arguments["out"], arguments)
    return commands.build(**arguments)


@command
@click.argument("out")
@cluster
@click.option("--max-rounds", type=int, help="Stop after this many rounds.  [default: as when the build began]")
@click.option("--scratch", metavar="DIR", help="Directory for temporary data, if one was named before.")
@own_metric
@quiet
@click.pass_obj
def resume(manner: Manner, /, **arguments: Any) -> Answer:
    """Continue the unfinished build at OUT, after its last committed round."""
    from . import commands

    manner.stopped = lambda: commands.how_to_go_on(arguments["out"], arguments)
    return commands.resume(**arguments)


@command
@click.argument("out")
def status(out: str) -> Answer:
    """Show how far the build at OUT is, and what to do next."""
    from . import commands

    return commands.status(out)


@command
@click.argument("graph")
def info(graph: str) -> Answer:
    """Show what the finished GRAPH holds."""
    from . import commands

    return commands.info(graph)


@command
@click.argument("graph")
@click.option("--source", help="The points: distances are computed again and compared.")
@component
@click.option(
    "--rows",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of rows whose distances are computed again.",
)
@own_metric
def verify(**arguments: Any) -> Answer:
    """Read every chunk of GRAPH and check each row."""
    from . import commands

    return commands.verify(**arguments)


@command
@click.argument("graph")
@click.option("--source", required=True, help="The points that GRAPH was built from.")
@component
@click.option(
    "--probes", default=1000, show_default=True, type=click.IntRange(min=1), help="Number of rows to solve exactly."
)
@random_state
@own_metric
def recall(**arguments: Any) -> Answer:
    """Measure the recall of GRAPH again, on a new random sample of rows that are solved exactly."""
    from . import commands

    return commands.recall(**arguments)


@command
@click.argument("graph")
@click.argument("out", required=False)
@click.option("--source", help="The points of GRAPH.  [default: where it was built from]")
@component
@click.option(
    "--pruning-degree-multiplier",
    default=2.0,
    show_default=True,
    help="Most edges of a row, as a multiple of n_neighbors.",
)
@click.option(
    "--diversify-prob",
    default=1.0,
    show_default=True,
    help="Probability that an edge is dropped which searches can do without.",
)
@click.option(
    "--partitions", type=click.IntRange(min=1), help="Number of partitions of the index.  [default: as few as fit]"
)
@click.option(
    "--scratch", metavar="DIR", help="Directory for temporary data, on a disk that all workers see.  [default: in OUT]"
)
@own_metric
@random_state
@cluster
@overwrite
@quiet
@click.option("--plan", is_flag=True, help="Only say what would be made, its size and memory; OUT is not needed.")
def index(**arguments: Any) -> Answer:
    """Make the index of the finished GRAPH, for queries of new rows, in the new Zarr store OUT."""
    from . import index_commands

    return index_commands.index(**arguments)


@command
@click.argument("index")
@click.argument("queries")
@click.argument("out")
@component
@click.option("-k", default=10, show_default=True, help="Answers for each query.")
@click.option(
    "--epsilon",
    default=0.1,
    show_default=True,
    help="Searches follow rows up to this share farther than the k-th answer; more finds more and takes longer.",
)
@click.option("--ef", type=int, help="Instead of epsilon: size of the list of candidates, as in HNSW.")
@click.option("--radius", type=float, help="Largest distance of an answer.")
@click.option("--filter", metavar="FILE.npy", help="Rows that may be answers: a boolean for each row, or row ids.")
@own_metric
@click.option("--threads", default=1, show_default=True, type=click.IntRange(min=1), help="Threads of this process.")
@click.option("--scheduler", "client", metavar="ADDRESS", help="Let the workers of this Dask cluster answer.")
@click.option("--memory-limit", metavar="SIZE", help="Memory that the index may take in a process, for example 2GiB.")
@overwrite
@quiet
def query(**arguments: Any) -> Answer:
    """Find the nearest rows to QUERIES (a source of points).

    The answers are written to the Zarr group OUT, or to NAME.npy and NAME.distances.npy if OUT is NAME.npy.
    """
    from . import index_commands

    return index_commands.query(**arguments)


@command
@click.argument("source")
@click.argument("out")
@component
@click.option(
    "--dtype",
    type=click.Choice(DTYPES),
    help="Dtype of the new array; a value that does not fit is refused.  [default: that of SOURCE]",
)
@overwrite
@quiet
def convert(**arguments: Any) -> Answer:
    """Write the points of SOURCE to the new Zarr array OUT, block by block."""
    from . import commands

    return commands.convert(**arguments)


@command
@click.option(
    "--metric",
    multiple=True,
    metavar="NAME",
    help="A metric; may be given several times.  [default: euclidean, cosine, inner_product]",
)
@click.option(
    "--dtype",
    multiple=True,
    type=click.Choice((*DTYPES, "sparse")),
    help="Dtype of the points; may be given several times.  [default: all but sparse]",
)
@click.option("--scheduler", "client", metavar="ADDRESS", help="Compile on each worker of this Dask cluster too.")
@quiet
def warmup(**arguments: Any) -> Answer:
    """Compile all kernels now, so that no worker has to compile when a build starts."""
    from . import commands

    return commands.warmup(**arguments)


@command
@click.option("--out", default="demo", show_default=True, metavar="DIR", help="Folder for the graph and the picture.")
@quiet
@click.pass_obj
def demo(manner: Manner, /, **arguments: Any) -> Answer:
    """Build the graph of 10,000 pictures, and draw some of them beside their neighbours."""
    from .demo import demo

    manner.stopped = lambda: "; run it again, and it begins anew"
    return demo(**arguments)
