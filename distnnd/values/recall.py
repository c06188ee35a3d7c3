"""How good a graph is: an estimate from the probe rows, with its confidence interval."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

Z95 = 1.959964


# A sum of float32 squares is rounded by a few times 2^-24 of itself: what differs by less is a tie.
TIE = 2.0**-20


def as_near_as(threshold: Any) -> Any:
    """What counts as no farther than `threshold`, a number or float32 array: rounding settles no tie."""
    return threshold + abs(threshold) * TIE


@dataclass(frozen=True)
class Recall:
    """Share of the true neighbours that the graph holds. low, high: its 95 % interval; probes: rows it is seen on."""

    estimate: float
    low: float
    high: float
    probes: int
    exact: bool = False

    def to_json(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if self.exact:
            return "exact"
        return f"{self.estimate:.4f} (95 %: {self.low:.4f} to {self.high:.4f}, {self.probes} sampled rows)"


def good_enough(recall: Recall, short: int, target: float) -> bool:
    """Whether a round is the last one: the target is reached, and no row lacks neighbours."""
    return recall.exact or (recall.estimate >= target and not short)


EXACT = Recall(1.0, 1.0, 1.0, 0, exact=True)


def estimate_recall(probes: float, hits: float, squares: float, k: int) -> Recall:
    """Recall from the shares of each probe row: how many rows, their sum, the sum of their squares.

    Neighbours of one row are found or missed together, so the row is the unit: Wilson's interval (1927) for as many
    independent neighbours as explain the variance seen between rows, at least one a row and at most k.
    """
    count = int(probes)
    mean = hits / count
    variance = max(squares / count - mean * mean, 0.0) / max(count - 1, 1)
    binomial = mean * (1 - mean)
    trials = min(max(binomial / variance if variance > 0 else 0.0, count), float(count * k))
    centre = (mean + Z95**2 / (2 * trials)) / (1 + Z95**2 / trials)
    half = Z95 / (1 + Z95**2 / trials) * math.sqrt(binomial / trials + (Z95 / (2 * trials)) ** 2)
    # Rounding must not carry a bound past the estimate, as it would at 0 and 1.
    return Recall(mean, max(0.0, min(mean, centre - half)), min(1.0, max(mean, centre + half)), count)
