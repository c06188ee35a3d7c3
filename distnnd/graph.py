"""A finished graph as the user holds it: two Zarr arrays, what is known of them, and views for other tools."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

from .index import Index
from .indexing import build_index as index_of
from .progress import listening
from .runtime.events import Listener, told
from .runtime.lazy import lazy_blocks
from .sources import points_of
from .stages import report, views
from .storage import graph as store
from .storage import temporary
from .values.errors import StoreError
from .values.metric import function_of, metric_behind
from .values.recall import Recall
from .values.spec import format_bytes


class Graph:
    """The k nearest neighbours of every row, opened for reading: opening costs metadata only.

    indices: Zarr array int64[n, k], self excluded; distances: float32[n, k], ascending by (distance, id).
    """

    def __init__(self, location: str, facts: dict[str, Any], function: Callable[..., float] | None = None) -> None:
        self.location = location
        self.function = function
        self.facts = facts
        # Both arrays, and this graph, keep a temporary folder: it goes with the last of them.
        self._folder = temporary.folder_of(location)
        self.indices, self.distances = map(temporary.held, store.result_arrays(location))

    @property
    def n(self) -> int:
        """Rows."""
        return int(self.facts["n"])

    @property
    def n_neighbors(self) -> int:
        """Neighbours per row, self excluded."""
        return int(self.facts["n_neighbors"])

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return str(self.facts["metric"])

    @property
    def recall(self) -> Recall:
        """The measured recall, with its interval."""
        return Recall(**self.facts["recall"])

    def to_numpy(self, include_self: bool = False) -> tuple[Any, Any]:
        """The whole graph in memory: ids int64[n, k] and distances float32[n, k]; with self first, k + 1 columns."""
        return views.to_numpy(self.location, self.n, include_self)

    def to_csr(self, include_self: bool = True, mode: str = "distance", *, dtype: Any = "float32") -> Any:
        """scipy CSR [n, n] with a constant number of entries in each row, in the order of distance.

        include_self: the row itself first, as an explicit zero; mode: "distance", or "connectivity" for ones; dtype:
        "float32" or "float64". astype() of the matrix keeps the order; tocoo(), sort_indices() and sums do not.
        """
        return views.to_csr(self.location, self.n, include_self, mode, dtype)

    def symmetrize(self, how: str = "max") -> Any:
        """scipy CSR of distances with both directions of every edge; how: "max", "min" or "mean" where they differ.

        An edge that stands in one direction only counts as it stands.
        """
        return views.symmetrize(self.location, self.n, how)

    def to_dask(self) -> tuple[Any, Any]:
        """indices and distances as lazy dask arrays, a block a chunk."""
        return lazy_blocks(self.indices), lazy_blocks(self.distances)

    def verify(
        self,
        source: Any = None,
        rows: int = 1000,
        *,
        progress: Listener | bool | None = None,
        missing: str | None = None,
    ) -> dict[str, Any]:
        """Read every chunk and check each row: distinct valid ids, finite ascending distances, each chunk unharmed.

        source: the points; if given, they must be those of the build, and the distances of `rows` random rows are
        recomputed. progress, missing: as for build(). Returns n, n_neighbors, chunks, bytes and how many rows were
        recomputed.

        StoreError names the first chunk or row that breaks a promise.
        """
        points_here = points_of(source, metric_behind(self.facts), self.facts, missing)
        with listening(progress) as listen, points_here as points:
            seen = partial(told, listen, "verify")
            return views.verify(self.location, self.facts, points, rows, self.function, seen)

    def measure_recall(
        self, source: Any, probes: int = 1000, random_state: int = 0, *, missing: str | None = None
    ) -> Recall:
        """The recall on fresh random rows that are solved exactly; a graph keeps the recall of its build, see `recall`.

        source: the points of the build, else StoreError; they are read twice, block by block. Ties count as found.
        missing: as in build().
        """
        with points_of(source, metric_behind(self.facts), self.facts, missing) as points:
            return views.measure_recall(self.location, self.facts, points, probes, random_state, self.function)

    def build_index(self, out: Any, source: Any = None, **options: Any) -> Index:
        """The index of this graph, in the new Zarr store `out`: distnnd.build_index with the same options."""
        return index_of(self, out, source, **options)

    def search_report(self, connect: bool = False, source: Any = None) -> dict[str, Any]:
        """What a search would meet: in-degrees, their hubness (skewness: Radovanovic et al. 2010), weak components.

        connect: with `bridges`, for each component but the largest a short edge (row, row, distance) to that one, so
        that all hangs together with them; source: the points, by default from where the graph was built.
        """
        points = self.facts["source"]["location"] if source is None else source
        with points_of(points if connect else None, metric_behind(self.facts), self.facts) as held:
            return report.search_report(self.location, self.facts, connect, held, self.function)

    def info(self) -> dict[str, Any]:
        """n, d, n_neighbors, metric, state, rounds, recall, format_version, bytes."""
        names = ("n", "d", "n_neighbors", "metric", "state", "format_version", "recall", "rounds")
        size = self.indices.nbytes + self.distances.nbytes
        return {name: self.facts[name] for name in names} | {"bytes": size, "location": self.location}

    def __repr__(self) -> str:
        size = format_bytes(self.indices.nbytes + self.distances.nbytes)
        return (
            f"<distnnd.Graph {self.n:,} rows, {self.n_neighbors} neighbours, {self.metric}, "
            f"recall {self.recall}, {size} at {self.location}>"
        )

    def _repr_html_(self) -> str:
        lines = {
            "rows": f"{self.n:,}",
            "neighbours": str(self.n_neighbors),
            "metric": self.metric,
            "recall": str(self.recall),
            "rounds": str(len(self.facts["rounds"])),
            "size": format_bytes(self.indices.nbytes + self.distances.nbytes),
            "location": self.location,
        }
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in lines.items())
        return f"<table><caption>distnnd.Graph</caption><tbody>{cells}</tbody></table>"


def open_graph(location: Any, metric: str | Callable[..., float] | None = None) -> Graph:
    """The graph at a path or URL; metric: the function that it was built by, if that was one of the user's own.

    A name is compared with the metric of the graph, SpecError if it is another one.

    StoreError if nothing is there, if it is damaged or of another format version, or if it is not complete, with how
    to finish it; SpecError if something else is there.
    """
    place = store.place_of(location)
    facts = store.facts_of(place)
    if facts is None:
        raise StoreError(f"there is no graph at {place}")
    if facts["state"] != "complete":
        done = len(facts["rounds"])
        raise StoreError(
            f"the graph at {place} is not finished ({done} round(s) committed); run the same build again, "
            "or `distnnd resume`, to continue after the last of them"
        )
    return Graph(place, facts, function_of(facts, metric, place))
