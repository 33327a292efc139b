"""What a sensitivity scan says in words: where the fat is, and where the bone. Data as in `heat_map`."""

#: A loss that hardly shows: a hundredth of the outputs' variance.
FREE = 0.01


def worth(row: dict) -> float:
    """What a case saves of the whole network: of its latency where that is known, else of its MACs or parameters."""
    shares = [row["share_ms"], row["share_macs"], row["share_params"]]
    return next((share for share in shares if share), 0.0)


def fattest(scan: dict, most: int = 5) -> list[dict]:
    """The layers that can give most at a loss of at most `FREE`: the best case of each, the most worth first."""
    best: dict[str, dict] = {}
    for row in scan["rows"]:
        known = best.get(row["layer"])
        if row["measured"] <= FREE and worth(row) > (worth(known) if known else 0.0):
            best[row["layer"]] = row
    return sorted(best.values(), key=lambda row: -worth(row))[:most]


def bone(scan: dict, most: int = 5) -> list[dict]:
    """The layers that lose most even by the mildest case that saves multiply-adds, the worst first; none that loses
    less than `FREE`."""
    mildest: dict[str, dict] = {}
    for row in scan["rows"]:
        known = mildest.get(row["layer"])
        if (row["share_macs"] or 0) > 0 and (known is None or row["measured"] < known["measured"]):
            mildest[row["layer"]] = row
    hurt = [row for row in mildest.values() if row["measured"] > FREE]
    return sorted(hurt, key=lambda row: -row["measured"])[:most]


def middle(method: dict) -> float:
    """The level of a method that a summary shows."""
    levels = [level["level"] for level in method["levels"]]
    return levels[len(levels) // 2]
