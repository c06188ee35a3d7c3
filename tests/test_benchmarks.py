"""The micro-benchmarks run, whatever they measure; a figure can be saved and compared."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import kernels
from benchmarks.kernel_cases import CASES
from tests.strategies import JIT_OFF


@pytest.mark.skipif(JIT_OFF, reason="measures compiled kernels")
@pytest.mark.parametrize("name", [name for name in CASES if not name.endswith(("d=128", "d=784"))])
def test_each_micro_benchmark_runs(name: str) -> None:
    figure = kernels.measure(CASES[name], kernels.TINY, 1)
    assert 0 < figure.best == figure.median


def test_a_saved_run_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "figures.json"
    kernels.main(["--tiny", "codes.encode", "--save", str(saved)])
    figures = json.loads(saved.read_text())["figures"]
    assert figures.keys() == {"codes.encode d=100", "codes.encode d=784"}
    figures["codes.encode d=100"]["best"] *= 1e9
    del figures["codes.encode d=784"]
    saved.write_text(json.dumps({"machine": "another", "figures": figures}))
    capsys.readouterr()
    kernels.main(["--tiny", "codes.encode", "--compare", str(saved)])
    out = capsys.readouterr().out
    assert "another machine" in out
    one, other = out.splitlines()[-2:]
    assert one.startswith("| codes.encode d=100 | row | ")
    assert one.endswith("| -100 % |")
    assert other.endswith("| new |")


def test_an_adapter_that_was_left_behind_does_not_hide_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def outdated(size: object) -> None:
        raise TypeError("missing a required argument")

    monkeypatch.setitem(CASES, "codes.encode d=100", outdated)
    with pytest.raises(SystemExit, match=r"mend .*codes\.encode d=100"):
        kernels.main(["--tiny", "codes.encode"])
    first, second = capsys.readouterr().out.splitlines()[-2:]
    assert first.startswith("| codes.encode d=100 | failed: TypeError")
    assert second.startswith("| codes.encode d=784 | row | ")


def test_the_share_of_the_bound_is_told() -> None:
    one, other = kernels.Figure("pair", 1.0, 1.0), kernels.Figure("pair", 4.0, 4.0)
    assert "25% of" in kernels.share({"leaves.first_bound": one, "leaves.join empty d=100": other})
    assert kernels.share({"leaves.first_bound": one}) == ""


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(SystemExit, match="no kernel is called 'leafs'"):
        kernels.main(["leafs"])
