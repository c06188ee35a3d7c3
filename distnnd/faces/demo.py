"""`distnnd demo`: the whole way in small, from 10,000 pictures of clothes to their graph and a picture of it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..graph import Graph
from ..progress import listening
from ..runtime.events import BuildStart, Event, Listener
from ..storage import graph as store
from ..storage.source import open_source
from ..values.errors import DistnndError, SpecError, StoreError
from .answer import Answer, say, table
from .commands import build_aloud, facts_of_graph

DATA = Path("examples", "fashion_10k_u8.npz")
CLASSES = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
SIDE = 28
N_NEIGHBORS = 15
# Of the picture: how many images are asked about, how many neighbours of each are shown, and who draws the lots.
ASKED, SHOWN, SEED = 12, 8, 0
# Written into the picture, so that a picture of someone else's is never replaced.
MARK = "distnnd demo"


def demo(out: str, quiet: bool) -> Answer:
    """Build the graph of the images in the folder `out`, and draw a dozen of them beside their neighbours.

    What a former demo wrote there is replaced. SpecError if something else has the same name, DistnndError where the
    images or matplotlib are missing; in the latter case the graph stays.
    """
    images, labels = load(find_data())
    folder = Path(out)
    place, picture = folder / "fashion.zarr", folder / "neighbours.png"
    clear(place, picture, images)
    folder.mkdir(parents=True, exist_ok=True)
    with listening(not quiet) as show:
        graph, end = build_aloud(images, str(place), show if quiet else with_plan(show), n_neighbors=N_NEIGHBORS)
    draw(picture, images, labels, graph)
    facts = facts_of_graph(graph) | {"reached": end.reached, "seconds": round(end.seconds, 3), "picture": str(picture)}
    rows = [("recall", graph.recall), ("seconds", f"{end.seconds:.1f}"), ("graph", place), ("picture", picture)]
    return Answer(facts, "" if quiet else table(rows))


def find_data() -> Path:
    """The file of the images: in an installed package, or in a clone of the repository."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package, package.parent):
        if (folder / DATA).is_file():
            return folder / DATA
    raise DistnndError(f"the images of the demo are missing: there is no {package / DATA}; install distnnd again")


def load(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8[n, 784] and their classes uint8[n]; StoreError if the file is damaged."""
    try:
        with np.load(path) as archive:
            return archive["X"], archive["y"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path} is damaged ({error}); get it anew from the repository") from error


def clear(place: Path, picture: Path, images: np.ndarray) -> None:
    """Delete what a former demo wrote; SpecError, and nothing deleted, where one of the names is someone else's."""
    facts = store.facts_of(store.place_of(place))
    if facts is not None and facts["source"]["fingerprint"] != open_source(images).fingerprint():
        raise SpecError(f"{place} is a graph of other points; name another folder with --out")
    if picture.exists() and MARK.encode() not in picture.read_bytes():
        raise SpecError(f"{picture} is not from a demo; name another folder with --out")
    store.drop(store.place_of(place))
    picture.unlink(missing_ok=True)


def with_plan(show: Listener) -> Listener:
    """`show`, with the whole table of the plan where it would name its first line."""

    def listen(event: Event) -> None:
        if isinstance(event, BuildStart):
            say(str(event.plan))
        else:
            show(event)

    return listen


# --- the picture ------------------------------------------------------------------------------------------


def choose(labels: np.ndarray) -> np.ndarray:
    """Rows to ask about: one of each class and then any, by class; int64[ASKED]."""
    draw = np.random.default_rng(SEED)
    one_each = [draw.choice(np.flatnonzero(labels == label)) for label in range(len(CLASSES))]
    others = np.setdiff1d(np.arange(len(labels)), one_each)
    rows = np.append(one_each, draw.choice(others, ASKED - len(one_each), replace=False))
    return rows[np.argsort(labels[rows], kind="stable")]


def draw(path: Path, images: np.ndarray, labels: np.ndarray, graph: Graph) -> None:
    """Draw the chosen images in two columns, each with its neighbours; DistnndError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DistnndError(
            f"the graph is at {graph.location}, but its picture needs matplotlib: pip install 'distnnd[plots]'"
        ) from error
    rows = choose(labels)
    figure = Figure(figsize=(14, 6), dpi=120, layout="constrained")
    for axes, part in zip(figure.subplots(1, 2), np.array_split(rows, 2), strict=True):
        draw_rows(axes, part, images, labels, graph)
    figure.suptitle(f"Images and their {SHOWN} nearest neighbours of {graph.n:,}; recall {graph.recall}")
    figure.supxlabel(f"below each: its {graph.metric} distance, red where the class is another", fontsize="medium")
    figure.savefig(path, metadata={"Software": MARK})


def draw_rows(axes: Any, rows: np.ndarray, images: np.ndarray, labels: np.ndarray, graph: Graph) -> None:
    """Draw one image a line: its class, itself, and its neighbours with their distances."""
    across, down, gap = SIDE + 3, SIDE + 12, 8
    sheet = np.zeros((down * len(rows), across * (SHOWN + 1) + gap), np.uint8)
    for line, row in enumerate(rows.tolist()):
        ids, distances = graph.indices[row, :SHOWN], graph.distances[row, :SHOWN]
        top = line * down
        for column, shown in enumerate([row, *ids.tolist()]):
            left = column * across + gap * (column > 0)
            sheet[top : top + SIDE, left : left + SIDE] = images[shown].reshape(SIDE, SIDE)
            if column:
                colour = "dimgrey" if labels[shown] == labels[row] else "crimson"
                where = (left + SIDE / 2, top + SIDE + 5)
                axes.text(*where, f"{distances[column - 1]:.0f}", color=colour, ha="center", va="center", fontsize=8)
        axes.text(-4, top + SIDE / 2, CLASSES[labels[row]], ha="right", va="center")
    axes.imshow(sheet, cmap="gray_r", interpolation="nearest")
    axes.axvline(across + gap / 2 - 2, color="lightgrey", linewidth=1)
    axes.set_axis_off()
