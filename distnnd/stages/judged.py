"""Lists of metrics that are judged: a layout selects for them, and the distance itself has the last word."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..kernels import merge
from ..kernels.codes import Rows
from ..kernels.neighbours import Lists, empty, sort_rows
from ..kernels.rows import Form, rescore
from ..values.plan import Job
from .partition import Known, Work
from .passes import descend


def selected(job: Job, points: np.ndarray, form: Form, came: Lists) -> Lists:
    """Lists for the layout to fill, longer than those that came, which they begin with as far as it is at hand.

    points: prepared rows, [m, w]; form: how these are compared. came: by the metric; here by surrogates.
    """
    width, at_hand = came.ids.shape[1], came.ids >= 0
    lists = empty(len(came.ids), min(job.kind.selected(width), job.layout.n - 1))
    if at_hand.any():
        for part, known in zip(lists, (came.ids, np.float32(0), came.state), strict=True):
            np.copyto(part[:, :width], known, where=at_hand)
        rescore(points, points, form, lists, 0, len(points))
        sort_rows(lists, 0, len(points))
    return lists


def improved(
    work: Work, lists: Lists, came: Lists, known: Known, coded: Callable[[], tuple[Rows, Form]]
) -> tuple[Lists, dict[str, float]]:
    """The lists that a layout selected, settled, with what came; after passes by the distance itself where they help.

    coded: the rows as they stand, with their codes, and how these are compared. Returns lists as long as those that
    came, and what was counted.
    """
    width, counters = came.ids.shape[1], {}
    lists = Lists(*(np.ascontiguousarray(part[:, :width]) for part in lists))
    if work.job.kind.zeros_are_near and work.job.layout.partitions == 1:
        merge.offer_to_all(lists, known.judge.zero_rows(), 0)
    if work.job.kind.form != "inner" and not known.enough(lists):
        own = descend(work, *coded(), lists, None, known, by_distance=True)
        counters = {"judged": own["descended"], "own_passes": own["passes"]}
    merge.join_lists(lists, came)
    return lists, counters
