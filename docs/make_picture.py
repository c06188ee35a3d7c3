"""Draw architecture.svg: the stream of a build across the floors of the house. Run: python docs/make_picture.py"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

WIDTH, HEIGHT = 1180, 560
INK, SOFT, PAPER = "#1d2b3a", "#6b7a8a", "#ffffff"
STORE, STAGE, KERNEL, ROUND = "#e3eef8", "#f7ecd9", "#e6f2e4", "#b8602a"


def text(x: float, y: float, words: str, size: int = 13, weight: str = "normal", colour: str = INK) -> str:
    """Centred words."""
    return f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{colour}" text-anchor="middle">{words}</text>'


def box(x: float, y: float, title: str, lines: list[str], fill: str, width: int = 130, height: int = 74) -> str:
    """A room with its name and what is in it."""
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{fill}" stroke="{INK}"/>']
    parts.append(text(x + width / 2, y + 21, title, 14, "bold"))
    parts += [text(x + width / 2, y + 40 + 15 * i, line, 11, colour=SOFT) for i, line in enumerate(lines)]
    return "".join(parts)


def arrow(x1: float, y1: float, x2: float, y2: float, colour: str = INK) -> str:
    """A straight arrow."""
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{colour}" stroke-width="1.6" marker-end="url(#tip)"/>'
    )


def picture() -> str:
    """The whole drawing."""
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="Helvetica, Arial, sans-serif">',
        f'<defs><marker id="tip" markerWidth="9" markerHeight="9" refX="8" refY="4" orient="auto"><path d="M0,0 L9,4 L0,8 z" fill="{INK}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
        text(590, 30, "From points to a graph: one stream, and rounds until the recall is measured", 18, "bold"),
        text(60, 84, "building.py", 13, "bold", SOFT),
        text(60, 200, "stages/", 13, "bold", SOFT),
        text(60, 340, "storage/", 13, "bold", SOFT),
        text(60, 470, "kernels/", 13, "bold", SOFT),
    ]
    out.append(
        f'<rect x="395" y="60" width="580" height="200" rx="12" fill="none" stroke="{ROUND}" stroke-dasharray="6 5" stroke-width="2"/>'
    )
    out.append(text(685, 84, "a round, repeated with fresh pivots until the probe rows say: enough", 13, "bold", ROUND))
    stages = [
        (120, "scan", ["every number", "looked at once"]),
        (260, "probe", ["a few hundred rows", "solved exactly"]),
        (410, "draw", ["pivots, shared out", "to partitions"]),
        (552, "route", ["each row to the", "nearest partitions"]),
        (694, "local", ["leaves, all pairs,", "NN-descent"]),
        (836, "merge", ["the k nearest of", "all that was found"]),
        (1010, "publish", ["checked rows,", "true distances"]),
    ]
    for x, title, lines in stages:
        out.append(box(x, 160, title, lines, STAGE))
    for (x, *_), (following, *_) in pairwise(stages):
        out.append(arrow(x + 130, 197, following - 2, 197))
    out.append(
        f'<path d="M901,160 C901,105 475,105 475,156" fill="none" stroke="{ROUND}" stroke-width="2" marker-end="url(#tip)"/>'
    )
    stores = [
        (120, "source", ["Zarr, .npy, .fbin,", "dask, numpy"]),
        (260, "probes", ["rows and their", "k-th true distance"]),
        (552, "mail", ["rows by partition,", "with their lists"]),
        (694, "found", ["lists by partition", ""]),
        (836, "round", ["lists by block:", "a commit"]),
        (1010, "graph", ["indices, distances,", "recall"]),
    ]
    for x, title, lines in stores:
        out.append(box(x, 300, title, lines, STORE))
        out.append(arrow(x + 65, 236, x + 65, 298) if title != "source" else arrow(x + 65, 298, x + 65, 238))
    out.append(arrow(640, 300, 725, 238))
    out.append(arrow(782, 300, 867, 238))
    out.append(arrow(940, 300, 1040, 238))
    kernels = [
        (118, "codes", ["rows as bytes,", "exact products"]),
        (260, "leaves", ["tiles of products", "and selection"]),
        (402, "pivots", ["who shares", "a partition"]),
        (544, "trees", ["rows down to", "overlapping leaves"]),
        (686, "descent", ["companions of rows,", "small products"]),
        (828, "merge", ["the k smallest of", "(distance, id)"]),
        (970, "neighbours", ["bounded lists", ""]),
    ]
    for x, title, lines in kernels:
        out.append(box(x, 430, title, lines, KERNEL))
    out.append(
        text(
            590,
            540,
            "runtime/ maps each stage over its tasks: a plain loop, or Dask. Both give the same bytes.",
            13,
            colour=SOFT,
        )
    )
    return "\n".join([*out, "</svg>"])


if __name__ == "__main__":
    Path(__file__).with_name("architecture.svg").write_text(picture(), encoding="utf-8")
