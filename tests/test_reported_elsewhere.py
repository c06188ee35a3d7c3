"""Faults that users of similar tools reported, as small checks of this one: a line for each reference.

A reference names a repository and the numbers of its issues. No data or text of a report is copied: each check makes
its own rows, and compares with brute force in float64 or with a rule.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reported import (
    containers,
    dask_inputs,
    duplicates,
    exports,
    limits,
    listed,
    metrics,
    processes,
    scales,
    searches,
)

Check = Callable[[Path], None]

REPORTS: list[tuple[str, Check]] = [
    ("cuml 6544", duplicates.a_row_is_left_out_by_its_id),
    ("city2graph 231", duplicates.twins_find_each_other),
    ("pynndescent 135", duplicates.ids_of_a_row_differ),
    ("umap 1277", duplicates.copies_give_the_same_bytes),
    ("umap 1277", duplicates.one_row_stands_for_half_of_all),
    ("scanpy 3422", duplicates.the_order_of_rows_does_not_matter),
    ("scanpy 3422", duplicates.sorted_rows_are_as_good_as_shuffled),
    ("hnswlib 373", duplicates.more_copies_than_a_list_is_long),
    ("pymde 13, SCAMP 50", duplicates.twins_keep_their_edge_of_zero),
    ("umap 284", duplicates.all_rows_are_equal),
    ("uwot 85", duplicates.all_rows_are_equally_far),
    ("uwot 85", duplicates.twelve_kinds_of_equal_rows),
    ("pynndescent 214", duplicates.near_copies_are_not_below_zero),
    ("pynndescent 214", exports.angles_of_near_copies_are_taken),
    ("scikit-learn 8306", exports.first_rows_that_are_special),
    ("rapids-singlecell 472, nmslib 491", exports.a_row_is_at_zero_from_itself),
    ("pynndescent 99", listed.rare_truths),
    ("pynndescent 97", listed.answers_are_distinct),
    ("umap 401, 680", listed.more_rows_than_are_compared_in_pairs),
    ("pynndescent 18", listed.counts_of_things),
    ("pynndescent 18", listed.counts_of_twelve_hundred_columns),
    ("openTSNE 259, 28, umap 235", listed.millions_of_columns),
    ("umap 864", listed.sparse_as_dense),
    ("anndata 596, 219, scanpy 4095", listed.the_same_rows_otherwise_listed),
    ("faiss 2205", metrics.largest_products),
    ("cuvs 2313, 841, 2102", metrics.products_that_are_all_negative),
    ("umap 1015", metrics.sets_are_what_is_there),
    ("scikit-learn 32495", metrics.truths),
    ("umap 1042", metrics.own_metrics),
    ("pynndescent 213, knowhere 1720", metrics.small_whole_numbers),
    ("orange3 485, umap 11", metrics.rows_of_one_number),
    ("scikit-learn 10106, scikit-mobility 43", metrics.angles_in_radians),
    ("scikit-learn 26548", metrics.corners_of_metrics),
    ("scikit-learn 26548", metrics.columns_that_are_missing),
    ("scikit-learn 13604", scales.metres_of_a_map),
    ("faiss 3245", scales.places_on_earth),
    ("scikit-learn 9354", scales.rows_of_nearly_one_direction),
    ("cuvs 195, 1370, cuml 5942", scales.two_half_circles),
    ("hnswlib 34, 76", scales.directions_of_short_rows),
    ("matrixone 29082", scales.a_graph_of_float64_verifies),
    ("faiss 5219", containers.one_bad_number),
    ("faiss 5219", containers.one_bad_query),
    ("dbMAP 6", containers.rows_in_other_hands),
    ("umap 1151", containers.frames),
    ("umap 1151", containers.frames_that_are_columns),
    ("umap 392", containers.tensors),
    ("umap 392", containers.open_hdf5),
    ("anndata 2148, 2368, 2427, 765", containers.groups_of_anndata),
    ("anndata 2598", containers.columns_that_are_written),
    ("cuml 8160, NeMo-Curator 911, lancedb 767", containers.more_numbers_than_int32_counts),
    ("dask-ml 465, 543", dask_inputs.chunks_of_all_shapes),
    ("dask-ml 398", dask_inputs.bad_rows_of_dask),
    ("distributed 2853", dask_inputs.clients_that_work),
    ("scipy 13135, 19205, cuml 7273", exports.index_dtypes),
    ("umap 1012, 848, 786, 464, scanpy 3809", exports.as_scanpy_and_umap_want_it),
    ("hdbscan 82, 135, 253, umap 771, 1183", exports.pieces_are_counted_and_bridged),
    ("scikit-learn 31030, cleanlab 878", exports.scikit_learn_takes_it),
    ("cuml 6091, pynndescent 237, hnswlib 555", limits.many_neighbours),
    ("cuml 6091, pynndescent 237, hnswlib 555", searches.long_lists_of_answers),
    ("hnswlib 242, 514, 444, 465, 608", searches.answers_are_nested),
    ("hnswlib 242, 514, 444, 465, 608", searches.filters),
    ("hnswlib 31", searches.queries_like_the_points),
    ("pynndescent 213", searches.one_bit_rows_and_bytes),
    ("umap 1099", processes.arguments_that_make_no_sense),
    ("umap 665, PostHog 46401, ExtremeWeatherBench 237", processes.builds_side_by_side),
    ("scanpy 2014, umap 153, 853, 1080, 1127", processes.the_same_bytes_everywhere),
    ("umap 317, 86", processes.threads_of_one_worker),
    ("distributed 6816", processes.with_a_main_guard),
    ("pynndescent 109, 247, 252, neofuzz 16", processes.graphs_and_indexes_by_pickle),
    ("umap 746", processes.temporary_graphs_in_one_call),
    ("umap 473", processes.own_metrics_by_pickle),
    ("scikit-learn 21685", processes.memory_mapped_jobs),
    ("umap 416, 500, 511, 693, 761, 890, 1026", limits.plans_of_large_data),
    ("BERTopic 625, 538, lancedb 1500", limits.too_little_by_the_command_line),
    ("lancedb 2752", limits.events_are_told),
    ("umap 416", limits.partitions_with_outliers),
    ("umap 1277", limits.the_target_that_was_missed),
    ("anndata 2148", limits.points_that_changed),
    ("umap 840", scales.a_billionth_apart),
    ("umap 840", scales.a_billionth_apart_by_the_command_line),
    ("scikit-learn 13604", scales.millimetres_of_a_map),
    ("faiss 3245", scales.a_scan_of_one_metre_on_earth),
    ("faiss 3245", scales.seconds_and_ids),
    ("faiss 3245", scales.measured_by_the_points_as_given),
    ("faiss 3245", scales.rounding_that_was_asked_for),
    ("faiss 5219", scales.beyond_what_float32_reaches),
    ("matrixone 29082", scales.directions_of_rows_that_float32_has_not),
    ("matrixone 29082", scales.tiny_rows_beside_a_row_of_ones),
    ("cuvs 195, 1370, cuml 5942", scales.rounded_on_the_wire_only),
    ("scikit-learn 10106, 19567, rnndescent 17", metrics.a_city_in_float64),
    ("hnswlib 34, 76", searches.a_zero_query_by_angle),
    ("umap 746, dask 5229", processes.the_module_by_pickle),
    ("scikit-learn 10106, 19567, rnndescent 17", metrics.degrees_that_might_be_radians),
    ("umap 1151", containers.frames_with_missing_values),
    ("umap 392", containers.paths_of_files_that_others_read),
    ("anndata 2598", containers.columns_that_nobody_has),
    ("dask-ml 465, 398, 543, dask 6917", dask_inputs.dask_arrays_that_hold_no_rows),
    ("anndata 2148", dask_inputs.chunks_of_sparse_rows),
    ("NeMo-Curator 341", dask_inputs.chunks_of_other_sizes_than_declared),
    ("NeMo-Curator 341", dask_inputs.checked_before_anything_is_computed),
    ("distributed 4113, 2085, dask 5518, 5580", dask_inputs.clients_that_are_closed),
    ("distributed 4113", dask_inputs.nobody_at_the_address),
    ("umap 707", processes.builds_inside_tasks),
    ("umap 1099", processes.workers_that_make_no_sense),
    ("scipy 13135, scikit-learn 29862", exports.spectral_clustering_takes_it),
    ("scanpy 3806, 2587, rapids-singlecell 142", exports.order_survives_another_dtype),
    ("scikit-learn 13604", searches.exact_float64_answers),
    ("hnswlib 373", searches.more_answers_than_copies),
    ("hnswlib 373", searches.copies_find_all_copies),
    ("faiss 2081", searches.rows_find_themselves),
    ("umap 1042", metrics.own_metrics_that_do_not_compile),
    ("cuvs 2313, 841, 2102", searches.products_at_any_scale),
    ("cuvs 2313, 841, 2102", searches.products_of_long_rows),
    ("hnswlib 242, 514, 444, 465, 608", searches.filter_of_nobody),
    ("hnswlib 31", searches.queries_from_far_away),
    ("hnswlib 341", searches.points_of_uneven_scale),
    ("dask-ml 543", dask_inputs.dask_arrays_everywhere),
    ("umap 707", processes.forks),
    ("distributed 6816, 4751", processes.no_main_guard),
    ("umap 746", processes.temporary_graphs),
    ("umap 317, 86", processes.threads_that_are_allowed),
    ("umap 317, 86", processes.threads_that_are_named),
    ("umap 416", limits.what_plan_accepts),
    ("umap 416", limits.small_data_in_small_memory),
    ("umap 416", limits.every_second_row_changed),
]


def lines(reports: list[tuple[str, Check]]) -> list[object]:
    """A parameter a line; its id is the reference and the name of the check."""
    return [pytest.param(check, id=f"{reference}: {check.__name__}") for reference, check in reports]


@pytest.mark.parametrize("check", lines(REPORTS))
def test_reported(check: Check, tmp_path: Path) -> None:
    check(tmp_path)


def test_each_check_is_in_the_table_once() -> None:
    """No check is written and never run."""
    rooms = (containers, dask_inputs, duplicates, exports, limits, listed, metrics, processes, scales, searches)
    written = {
        one
        for room in rooms
        for one in vars(room).values()
        if callable(one) and getattr(one, "__module__", "") == room.__name__ and "place" in one_arguments(one)
    }
    listed_here = [check for _, check in REPORTS]
    assert len(set(listed_here)) == len(listed_here)
    assert set(listed_here) == {one for one in written if one_arguments(one) == ("place",)}


def one_arguments(function: object) -> tuple[str, ...]:
    """The names of the arguments of a Python function; none of others."""
    code = getattr(function, "__code__", None)
    return code.co_varnames[: code.co_argcount] if code is not None else ()
