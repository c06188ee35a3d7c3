"""Clusters of our own listen on this machine alone."""

from __future__ import annotations

import psutil
import pytest

from distnnd.runtime.cluster import _temporary


def listening(process: psutil.Process) -> set[tuple[str, int]]:
    return {
        (one.laddr.ip, one.laddr.port)
        for one in process.net_connections(kind="inet")
        if one.status == psutil.CONN_LISTEN
    }


def all_listening() -> set[tuple[str, int]]:
    own = psutil.Process()
    return set().union(*(listening(process) for process in [own, *own.children(recursive=True)]))


@pytest.mark.parametrize("n_workers", [None, 1])
def test_a_cluster_of_our_own_listens_on_loopback_alone(n_workers: int | None) -> None:
    before = all_listening()
    with _temporary(n_workers, None) as executor:
        executor.client.submit(int).result()
        opened = all_listening() - before
    assert opened
    assert {address for address, _ in opened} == {"127.0.0.1"}
