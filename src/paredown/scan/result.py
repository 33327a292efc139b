"""What a scan gives, as plain data and back."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from paredown.errors import SettingError
from paredown.transform import Skip

SCHEMA = 1


@dataclass(frozen=True)
class Row:
    """One case: one layer, or one group of coupled layers, treated by one method at one level, alone.

    Args:
        layer: Path; of coupled layers the first.
        layers: All that are coupled.
        method: Row of `scan.METHODS`.
        level: What is kept: a share of the group's channels, of the layer's MACs, or of 32 bits.
        setting: What that came to, in words: "8 of 32 channels".
        predicted: The loss by the error at the outputs of the layers whose kernels change, and by how much of such an
            error reaches the network's outputs; None where a kernel is no matrix that could be looked at.
        measured: Mean square change of the network's outputs on examples that nothing was fitted to, as a share of
            their variance (class scores: of their logarithms).
        score_drop: By how much the score became worse on them, in its own unit; None without labels.
        saved_macs, saved_params, saved_bytes, saved_ms: What the network takes less: multiply-adds, parameters,
            bytes of weights in its file, milliseconds in LiteRT here; None where that is not known.
        share_macs, share_params, share_ms: The same of the whole network's.
    """

    layer: str
    layers: tuple[str, ...]
    method: str
    level: float
    setting: str
    predicted: float | None
    measured: float
    score_drop: float | None
    saved_macs: int
    saved_params: int
    saved_bytes: int
    saved_ms: float | None
    share_macs: float | None
    share_params: float
    share_ms: float | None


@dataclass(frozen=True)
class MethodSkip(Skip):
    """A layer that a method could not treat, and why.

    Args:
        method: Row of `scan.METHODS`.
        level: The one that it could not be treated at; None: at none.
    """

    method: str
    level: float | None = None


@dataclass(frozen=True)
class Scan:
    """A scanned network.

    Args:
        model: Its name, macs, params and latency_ms (None where it was not measured).
        data: Name, how many examples statistics are of, how many it was judged on, whether these have labels.
        seed: Of everything random.
        metric: Name and value of the network's score on the examples that it was judged on, and whether higher is
            better; None without labels.
        layers: Paths of all layers in `rows` and `skips`, in the network's order.
        methods: Name, label, and levels with their labels, of each method that was tried.
        rows: One per case.
        skips: What could not be treated.
        notes: What a reader must know of the figures.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    seed: int
    metric: dict[str, Any] | None
    layers: tuple[str, ...]
    methods: tuple[dict[str, Any], ...]
    rows: tuple[Row, ...]
    skips: tuple[MethodSkip, ...]
    notes: tuple[str, ...]

    def of(self, layer: str, method: str | None = None) -> list[Row]:
        """The rows of a layer."""
        return [row for row in self.rows if row.layer == layer and method in (None, row.method)]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as in scan.json."""
        lists = {
            "layers": list(self.layers),
            "methods": list(self.methods),
            "rows": [{**dataclasses.asdict(row), "layers": list(row.layers)} for row in self.rows],
            "skips": [dataclasses.asdict(skip) for skip in self.skips],
            "notes": list(self.notes),
        }
        return {"schema": SCHEMA, **{k: getattr(self, k) for k in ("model", "data", "seed", "metric")}, **lists}

    @staticmethod
    def from_dict(plain: Any) -> "Scan":
        """The scan that plain data describe.

        Raises:
            SettingError: If they are no scan.
        """
        schema = plain.get("schema") if isinstance(plain, dict) else None
        if schema != SCHEMA:
            raise SettingError(f"A scan must have schema {SCHEMA}. Received: schema={schema}. Scan the network anew.")
        try:
            return Scan(
                plain["model"],
                plain["data"],
                plain["seed"],
                plain["metric"],
                tuple(plain["layers"]),
                tuple(plain["methods"]),
                tuple(Row(**{**row, "layers": tuple(row["layers"])}) for row in plain["rows"]),
                tuple(MethodSkip(**skip) for skip in plain["skips"]),
                tuple(plain["notes"]),
            )
        except (KeyError, TypeError) as error:
            raise SettingError(
                f"A scan must hold what Scan.to_dict() gives. Received: one without {error}. Scan the network anew."
            ) from error
