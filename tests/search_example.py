"""Records of runs that a search ended in: trials drawn at random, the front marked as a search marks it."""

import random

import record_example

#: The original's figures, those of `record_example.classifier`.
ORIGINAL = {"score": 0.9914, "latency_ms": 0.842, "size_bytes": 1_823_000, "macs": 11_070_000, "params": 454_922}
COSTS = ("latency_ms", "size_bytes", "macs")


def trial(number: int, draw: random.Random) -> dict:
    """One trial: the less it keeps the more it loses, the less the further it was tuned."""
    stage = "long" if number % 20 == 19 else "short" if number % 6 == 5 else "cheap"
    kept, rank = draw.uniform(0.05, 1), draw.uniform(0.3, 1)
    int8 = draw.random() < 0.5
    recovery = {"cheap": 1.0, "short": 0.25, "long": 0.12}[stage]
    drop = recovery * (0.3 * (1 - kept * rank) ** 6 + abs(draw.gauss(0, 0.004)))
    cost = kept * rank * (0.55 if int8 else 1)
    steps = f"- prune_channels: {{criterion: l2_norm, macs: {kept:.3f}}}\n- factorize: {{macs: {rank:.3f}}}\n"
    tuned = "" if stage == "cheap" else f"- fine_tune: {{epochs: {1 if stage == 'short' else 8}, schedule: cosine}}\n"
    return {
        "number": number,
        "stage": stage,
        "state": "complete",
        "reason": None,
        "label": f"prune {1 - kept:.2f} · factorize {rank:.2f}{' · int8' if int8 else ''}",
        "score": ORIGINAL["score"] - drop,
        "drop": drop,
        "drop_error": 0.0008,
        "macs": round(ORIGINAL["macs"] * kept * rank),
        "params": round(ORIGINAL["params"] * kept * rank),
        "size_bytes": round(ORIGINAL["size_bytes"] * kept * rank / (4 if int8 else 1)),
        "latency_ms": ORIGINAL["latency_ms"] * (0.04 + 0.96 * cost),
        "latency_from": "estimated" if int8 else "tables",
        "seconds": {"cheap": 1.3, "short": 21.0, "long": 160.0}[stage],
        "recipe": f"transforms:\n{steps}{tuned}export: {{quantization: {'int8' if int8 else 'null'}}}\n",
        "front": False,
    }


def search(count: int = 90, seed: int = 0) -> dict:
    """A search that met its limits, of `count` trials; among them one that failed and one that was given up."""
    draw = random.Random(seed)
    trials = [trial(number, draw) for number in range(count)]
    if count > 4:
        trials[2] |= {"state": "failed", "reason": "no kernel for conv2's factors", "recipe": "transforms: []\n"}
        trials[2] |= dict.fromkeys(("score", "drop", "drop_error", "macs", "params", "size_bytes", "latency_ms"))
        trials[4] |= {"state": "pruned", "reason": "worse than half of the others"}
    scored = [row for row in trials if row["score"] is not None]
    for row in scored:
        row["front"] = not any(_dominates(other, row) for other in scored)
    good = [row for row in scored if row["drop"] <= 0.01 and row["latency_ms"] <= 0.5 * ORIGINAL["latency_ms"]]
    best = sorted(good or scored, key=lambda row: (row["stage"] == "cheap", row["drop"]))[:3]
    finalists = [_finalist(row, place == 0) for place, row in enumerate(best)]
    chosen = best[0]
    return {
        "limits": [
            _limit("latency_ms", "0.5x", 0.5 * ORIGINAL["latency_ms"], finalists[0]["latency_ms"]),
            _limit("size_bytes", "1 MB", 1_000_000, chosen["size_bytes"]),
        ],
        "max_drop": 0.01,
        "drop": chosen["drop"],
        "strategy": "optuna",
        "methods": ["prune_channels", "factorize", "quantize"],
        "hours": 1.0,
        "seconds": 1234.5,
        "judged_rows": 5000,
        "storage": "sqlite",
        "device": "host",
        "metric": {"name": "accuracy", "higher_is_better": True},
        "original": dict(ORIGINAL),
        "trials": trials,
        "finalists": finalists,
        "chosen": chosen["number"],
        "met": True,
        "verdict": "Every limit is met, at half the latency.",
        "scan": None,
    }


def record(count: int = 90) -> dict:
    """The classifier's run with the search that it ended."""
    return record_example.classifier() | {"search": search(count)}


def scan() -> dict:
    """What a sensitivity scan of two layers by one method says, one of its places left alone."""
    levels = [{"level": 0.25, "label": "25 %"}, {"level": 0.5, "label": "50 %"}]
    shares = {"saved_macs": 10, "saved_params": 5, "saved_bytes": 20, "saved_ms": None}
    shares |= {"share_macs": 0.1, "share_params": 0.1, "share_ms": None}
    rows = [
        {"layer": layer, "layers": [layer], "method": "prune", "level": level, "setting": f"{level} of the channels"}
        | {"predicted": loss, "measured": loss, "score_drop": loss / 2}
        | shares
        for layer, level, loss in (("conv1", 0.25, 0.001), ("conv1", 0.5, 0.01), ("conv2", 0.25, 0.2))
    ]
    return {
        "schema": 1,
        "model": {"name": "classifier", "macs": 100, "params": 50, "latency_ms": None},
        "data": {"name": "mnist", "examples": 1000, "judged": 500, "labelled": True},
        "seed": 0,
        "metric": {"name": "accuracy", "value": 0.99, "higher_is_better": True},
        "layers": ["conv1", "conv2"],
        "methods": [{"name": "prune", "label": "pruned", "levels": levels}],
        "rows": rows,
        "skips": [{"layer": "conv2", "method": "prune", "level": 0.5, "reason": "nothing would be left"}],
        "notes": ["Latency was not measured."],
    }


def missed(count: int = 90) -> dict:
    """The same search, asked for more than there is."""
    found = record(count)
    latency = found["search"]["limits"][0]
    latency |= {"asked": "0.1 ms", "value": 0.1, "reached": 0.123}
    found["search"] |= {"met": False, "drop": 0.0123, "verdict": "No recipe meets all limits."}
    return found


def unlabelled(count: int = 90) -> dict:
    """A search on data without labels: an error that grows, and no latency."""
    found = record_example.large() | {"search": search(count)}
    inner = found["search"]
    inner["metric"] = {"name": "output_error", "higher_is_better": False}
    inner["original"] |= {"score": 0.0, "latency_ms": None}
    inner |= {"finalists": [], "limits": inner["limits"][1:], "device": None}
    for row in inner["trials"]:
        row |= {"score": row["drop"], "latency_ms": None, "latency_from": None}
    return found


def _dominates(one: dict, other: dict) -> bool:
    pairs = [(-one["score"], -other["score"]), *((one[cost], other[cost]) for cost in COSTS)]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _finalist(row: dict, chosen: bool) -> dict:
    measured = 1.04 * row["latency_ms"]
    speed = ORIGINAL["latency_ms"] / measured
    spread = {"speedup_median": speed, "speedup_p10": 0.97 * speed, "speedup_p90": 1.02 * speed}
    return {"number": row["number"], "latency_ms": measured, **spread, "chosen": chosen}


def _limit(figure: str, asked: str, value: float, reached: float) -> dict:
    return {"figure": figure, "asked": asked, "value": value, "reached": reached}
