"""What an index says of its own recall, beside the truth about queries it has never seen."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

import distnnd
from distnnd.storage.index import facts_of
from distnnd.values.recall import Recall
from tests.conftest import clustered
from tests.faces.command_line import run
from tests.index.conftest import Made, make
from tests.index.test_index import between, recall_of


def true_recall(made: Made, metric: str = "euclidean") -> float:
    return recall_of(made.index.query(made.queries)[0], between(made.queries, made.points, metric))


@pytest.mark.parametrize("fixture", ["made", "cut"])
def test_it_is_about_that_of_new_queries(request: pytest.FixtureRequest, fixture: str) -> None:
    made: Made = request.getfixturevalue(fixture)
    assert isinstance(made.index.recall, Recall)
    assert made.index.recall.probes == 256
    assert made.index.recall.low - 0.01 <= true_recall(made) <= made.index.recall.high + 0.01
    assert made.index.info()["recall"] == made.index.recall.to_json()


@pytest.mark.parametrize("metric", ["cosine", "inner_product", "manhattan"])
def test_by_other_metrics(tmp_path: Path, metric: str) -> None:
    rows = clustered(2300, 24, seed=3)
    made = make(tmp_path / "here", rows[:2000], rows[2000:], metric)
    if metric == "manhattan":
        from scipy.spatial.distance import cdist

        true = recall_of(made.index.query(made.queries)[0], cdist(made.queries, made.points, "cityblock"))
    else:
        true = true_recall(made, metric)
    assert made.index.recall is not None
    assert abs(true - made.index.recall.estimate) < 0.05


def test_a_poor_index_says_so(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).normal(size=(2700, 64)).astype(np.float32)
    graph = distnnd.build(rows[:2500], n_neighbors=3)
    with pytest.warns(UserWarning, match=r"finds 0\.\d+ of true neighbours.*n_neighbors"):
        index = distnnd.build_index(graph, tmp_path / "index", rows[:2500])
    made = Made(tmp_path, rows[:2500], rows[2500:], index)
    assert index.recall is not None
    assert index.recall.estimate < 0.85
    assert abs(true_recall(made) - index.recall.estimate) < 0.08


def test_bits_and_bytes_are_asked_as_they_are(tmp_path: Path) -> None:
    packed = np.packbits(clustered(2000, 128, seed=5) > 0.5, axis=1)
    index = make(tmp_path / "bits", packed, packed, "bit_hamming").index
    assert index.recall is not None
    assert index.recall.probes == 48
    narrow = np.clip(clustered(2000, 16) * 8 + 128, 0, 255).astype(np.uint8)
    index = make(tmp_path / "narrow", narrow, narrow).index
    assert index.recall is not None
    assert 0.9 < index.recall.estimate <= 1


def test_it_is_the_same_again_and_few_rows_have_one_too(tmp_path: Path, made: Made) -> None:
    distnnd.build_index(made.folder / "graph.zarr", tmp_path / "again")
    assert facts_of(str(tmp_path / "again"))["recall"] == made.index.facts["recall"]
    rows = clustered(5, 4)
    few = distnnd.build_index(distnnd.build(rows, n_neighbors=2), tmp_path / "few", rows)
    assert few.recall is not None
    assert few.recall.probes == 5


def test_an_index_from_before_it_was_measured(tmp_path: Path, made: Made) -> None:
    import shutil

    old = tmp_path / "old"
    shutil.copytree(made.folder / "index.zarr", old)
    document = json.loads((old / "zarr.json").read_text())
    facts = document["attributes"]["distnnd_index"]
    for name in ("recall", "compares"):
        del facts[name]
    facts["format_version"] = "1.0"
    (old / "zarr.json").write_text(json.dumps(document))
    index = distnnd.open_index(old)
    assert index.recall is None
    assert (index.info()["recall"], index.info()["compares"]) == (None, "codes")
    np.testing.assert_array_equal(index.query(made.queries)[0], made.index.query(made.queries)[0])


def test_the_command_tells_it(tmp_path: Path, made: Made) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = run("index", str(made.folder / "graph.zarr"), str(tmp_path / "index"), "--json")
    assert done.json["recall"] == made.index.facts["recall"]
    told = run("index", str(made.folder / "graph.zarr"), str(tmp_path / "other"))
    assert str(made.index.recall) in told.out
