"""The trained half of triage: a linear model over a mail's words and the rules' points, read from one file.

It runs in plain Python, because a service must start fast and stay light; training, which needs more, is in
`services.triage.training`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from heapq import nsmallest
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FORMAT = 1
EXPLAINS = frozenset({"text", "asked"})  # blocks whose words can be shown in the text
INDEPENDENT = frozenset({"areas"})  # heads whose labels don't exclude each other
SCALE = 100  # weights are whole hundredths: the file stays small and the same on every machine
FINE = 1 << 20  # a term's share of its block is counted in these, so that sums are whole and exact
LANE = 48  # bits for one output in a packed row; sums of weights below `HEAVIEST` stay within half of it
HEAVIEST = 1 << 15

# Where a word stands: in a mail's own text, in a clause that asks, in the subject, as a pair in the own text,
# declined ("not a lawyer"), in quotes and signatures, or in the sender's address.
BLOCKS = ("text", "asked", "subject", "pairs", "declined", "around", "sender")


@dataclass(slots=True)
class Features:
    """Per block, a term and how much it counts; `at` gives the offsets of a term's weightiest place in the
    text. `points` are numbers from the rules, about between 0 and 1."""

    terms: dict[str, dict[str, float]] = field(default_factory=lambda: {block: {} for block in BLOCKS})
    points: dict[str, float] = field(default_factory=dict)
    at: dict[str, tuple[int, int]] = field(default_factory=dict)


class ModelError(Exception):
    """The model file can't be used."""


class Verdict(NamedTuple):
    """What the model says: for each head the probability of each label."""

    heads: dict[str, dict[str, float]]
    reasons: tuple[tuple[str, float], ...]

    def best(self, head: str) -> str:
        labels = self.heads[head]
        return max(labels, key=lambda label: (labels[label], label))


class Calibration(BaseModel):
    """How often a reading like this one was right, learned from mails the model had not been trained on:
    a logistic curve of `Evidence`. `route` is the confidence from which triage acts alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bias: float
    margin: float
    agreement: float
    rules: float
    aside: float
    route: Annotated[float, Field(ge=0, le=1)]

    def confidence(self, evidence: "Evidence") -> float:
        """How likely a reading with this evidence is right, between 0 and 1."""
        return sigmoid(
            self.bias
            + self.margin * evidence.margin
            + self.agreement * evidence.agreement
            + self.rules * evidence.rules
            + self.aside * evidence.aside
        )


class Evidence(NamedTuple):
    """What confidence is judged by: the model's lead over the next destination, whether the rules agree, how
    sure they are, and the strongest reason to hold the mail, as a share of what would hold it."""

    margin: float
    agreement: bool
    rules: float
    aside: float


Row = tuple[int, ...]


class Model(BaseModel):
    """A published model; `id` names its contents. A row of `terms` holds how rare the term is and then its
    weight for every output, in the order of `heads`; a row of `points` holds the weights alone.
    `evaluated` names the evaluation set behind `measured`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Annotated[int, Field(ge=FORMAT, le=FORMAT)]
    id: str
    rules_version: str
    evaluated: str
    measured: dict[str, float]
    heads: dict[str, tuple[str, ...]]
    bias: Row
    terms: dict[str, dict[str, Row]]
    points: dict[str, Row]
    calibration: Calibration

    @model_validator(mode="after")
    def _even(self) -> "Model":
        width = sum(len(labels) for labels in self.heads.values())
        for block, rows in self.terms.items():
            if uneven := next((term for term, row in rows.items() if len(row) != width + 1), None):
                raise ValueError(f"the row of {uneven!r} in {block!r} has not {width + 1} numbers")
        if len(self.bias) != width or any(len(row) != width for row in self.points.values()):
            raise ValueError(f"bias and points must have {width} numbers")
        every = [
            self.bias,
            *self.points.values(),
            *(row for rows in self.terms.values() for row in rows.values()),
        ]
        if any(max(row) >= HEAVIEST or min(row) <= -HEAVIEST for row in every):
            raise ValueError(f"a weight is not below {HEAVIEST}")
        return self

    @cached_property
    def _places(self) -> dict[str, tuple[int, int]]:
        places: dict[str, tuple[int, int]] = {}
        at = 0
        for head, labels in self.heads.items():
            places[head] = (at, at + len(labels))
            at += len(labels)
        return places

    @cached_property
    def _packed(self) -> dict[str, dict[str, tuple[int, int]]]:
        """Per block and term, how rare it is and its weights side by side in one whole number, `LANE` bits
        each. One multiplication then weighs a term for every output at once, eight times as fast as one by
        one in Python."""
        return {
            block: {term: (row[0], _pack(row[1:])) for term, row in rows.items()}
            for block, rows in self.terms.items()
        }

    @cached_property
    def _packed_points(self) -> dict[str, int]:
        return {name: _pack(row) for name, row in self.points.items()}

    def judge(self, features: Features) -> Verdict:
        """The probability of every label, and the words that spoke most for the chosen destination."""
        total = _pack(self.bias) * FINE
        used: list[tuple[str, str, float]] = []
        for block, terms in features.terms.items():
            table = self._packed.get(block, {})
            known = [
                (term, value * row[0], row[1]) for term, value in terms.items() if (row := table.get(term))
            ]
            length = math.sqrt(sum([value * value for _, value, _ in known]))
            if not length:
                continue
            total += sum([round(value * FINE / length) * row for _, value, row in known])
            if block in EXPLAINS:
                used.extend((block, term, value / length) for term, value, _ in known)
        for name, value in features.points.items():
            if value and (weights := self._packed_points.get(name)):
                total += round(value * FINE) * weights
        totals = [whole / FINE for whole in _unpack(total, len(self.bias))]
        heads = {
            head: dict(zip(labels, _chances(head, totals[slice(*self._places[head])]), strict=True))
            for head, labels in self.heads.items()
        }
        return Verdict(heads, self._reasons(totals, used))

    def _reasons(
        self, totals: Sequence[float], used: list[tuple[str, str, float]]
    ) -> tuple[tuple[str, float], ...]:
        """The words that set the chosen destination apart from the next one, most telling first."""
        start, end = self._places["destination"]
        first, second = sorted(range(start, end), key=lambda place: -totals[place])[:2]
        spoke: dict[str, float] = {}
        for block, term, share in used:
            row = self.terms[block][term]
            spoke[term] = spoke.get(term, 0.0) + share * (row[1 + first] - row[1 + second]) / SCALE
        ranked = nsmallest(6, [(-points, term) for term, points in spoke.items() if points > 0])
        return tuple((term, round(-points, 3)) for points, term in ranked)


def _pack(row: Sequence[int]) -> int:
    packed = 0
    for weight in reversed(row):
        packed = (packed << LANE) + weight
    return packed


def _unpack(packed: int, width: int) -> list[int]:
    """The numbers `_pack` was given, or their sums. Half a lane is added to each, as negative ones borrow
    from the next."""
    half = 1 << (LANE - 1)
    raised = packed + _pack([half] * width)
    return [(raised >> (LANE * lane) & (2 * half - 1)) - half for lane in range(width)]


def _chances(head: str, totals: Sequence[float]) -> list[float]:
    if head in INDEPENDENT:
        return [sigmoid(total / SCALE) for total in totals]
    highest = max(totals)
    powers = [math.exp((total - highest) / SCALE) for total in totals]
    whole = sum(powers)
    return [power / whole for power in powers]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, value))))


def load_model(path: Path) -> Model:
    """The model in the file at `path`. Raises ModelError when it can't be read."""
    try:
        return Model.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise ModelError(f"{path}: not a model: {faults}") from error
