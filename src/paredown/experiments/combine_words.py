"""What the figures of the experiment `combine` say, in words made from them."""

from paredown.experiments.combine_sums import FORMS, NAMES, Sum, asked, by_chain, chain, lost, mean, methods, sums
from paredown.experiments.rows import Spread
from paredown.report import formats

#: Speed-ups within this share of their product count as multiplying.
_EQUAL = 0.1


def in_words(rows: list[dict]) -> list[str]:
    told = [*_equal_cost(rows), *_accuracy(rows), *_speed(rows), *_time_per_mac(rows), *_sharing(rows), *_tuning(rows)]
    return ["### In words", "\n".join(f"- {one}" for one in told)]


def _equal_cost(rows: list[dict]) -> list[str]:
    """Which chains of the smallest share of MACs lose least, and which are fastest."""
    groups = by_chain(rows)
    share = min(asked(group[0]) for group in groups)
    equal = [group for group in groups if asked(group[0]) == share and "share" not in methods(group[0])]
    if len(equal) < 2:
        return []
    told = []
    for form in FORMS:
        best, worst = (f(equal, key=lambda group: _lost(group, form).mean) for f in (min, max))
        fast, slow = (f(equal, key=lambda group: _time(group, form)) for f in (min, max))
        told.append(
            f"At equal cost ({formats.digits(100 * share)} % of the MACs asked), {NAMES[form]}: "
            f"{chain(best[0])} loses least ({_lost(best, form):.2f} points), {chain(worst[0])} most "
            f"({_lost(worst, form):.2f}); {chain(fast[0])} is fastest ({_time(fast, form):.2f} of the original's "
            f"time), {chain(slow[0])} slowest ({_time(slow, form):.2f})."
        )
    return told


def _lost(group: list[dict], form: str) -> Spread:
    return Spread(tuple(lost(row, form) for row in group))


def _time(group: list[dict], form: str) -> float:
    return mean(group, f"{form}_latency_ratio")


def _accuracy(rows: list[dict]) -> list[str]:
    """Which losses add up, which are more than that, which less."""
    found = sums(rows)
    meanings = {
        "adds up": "add up",
        "loses more": "lose more than their parts together: they are in each other's way",
        "loses less": "lose less than their parts together: they take away the same, or one mends the other",
    }
    told = []
    for verdict, meaning in meanings.items():
        of = [one for one in found if one.verdict == verdict]
        if of:
            points = _listed(of, [f"{one.beyond:+.2f}" for one in of])
            told.append(f"{len(of)} of {len(found)} {meaning} (points beyond): {points}.")
    return told


def _speed(rows: list[dict]) -> list[str]:
    found = sums(rows)
    ratios = {id(one): one.faster.mean / one.parts_faster.mean for one in found}
    kinds = {
        "Speed-ups multiply": [one for one in found if abs(ratios[id(one)] - 1) <= _EQUAL],
        "Slower than the product of the parts": [one for one in found if ratios[id(one)] < 1 - _EQUAL],
        "Faster than the product of the parts": [one for one in found if ratios[id(one)] > 1 + _EQUAL],
    }
    return [
        f"{name} ({len(of)} of {len(found)}, {'within' if 'multiply' in name else 'by more than'} {_EQUAL:.0%}): "
        f"{_listed(of, [f'{ratios[id(one)]:.2f} of it' for one in of])}."
        for name, of in kinds.items()
        if of
    ]


def _listed(found: list[Sum], figures: list[str]) -> str:
    parts = zip(found, figures, strict=True)
    return "; ".join(f"{one.name} {figure}" for one, figure in parts).replace("-", formats.MINUS)


def _time_per_mac(rows: list[dict]) -> list[str]:
    """Why equal MACs are not equal time: how long one takes in each chain, and how many layers do them."""
    groups = [group for group in by_chain(rows) if group[0]["macs"] and "share" not in methods(group[0])]
    if not groups:
        return []
    original = next((mean(group, "layers") for group in by_chain(rows) if not group[0]["steps"]), None)
    parts = [
        f"{chain(group[0])} at {formats.digits(100 * asked(group[0]))} % {_per_mac(group, 'float'):.2f} and in int8 "
        f"{_per_mac(group, 'int8'):.2f} ({mean(group, 'layers'):.0f} layers)"
        for group in groups
    ]
    return [
        "Time that one multiply-add takes, as a multiple of the original's in float32"
        + (f" (which has {original:.0f} layers with multiply-adds)" if original else "")
        + f": {'; '.join(parts)}. Above 1, what is left fills the processor less well."
    ]


def _per_mac(group: list[dict], form: str) -> float:
    return Spread(tuple(r[f"{form}_latency_ratio"] * r["original_macs"] / r["macs"][-1] for r in group)).mean


def _sharing(rows: list[dict]) -> list[str]:
    """What becomes of shared weights when another step comes after sharing, and in int8."""
    told = []
    for place, when in ((-1, "last"), (0, "first")):
        groups = [g for g in by_chain(rows) if len(g[0]["steps"]) > 1 and g[0]["steps"][place][0] == "share"]
        if groups:
            parts = [
                f"{chain(g[0])} {mean(g, 'packed_kernels'):.0f} of "
                f"{mean(g, 'packed_kernels') + mean(g, 'unpacked_kernels'):.0f}"
                for g in groups
            ]
            told.append(f"Kernels that can be packed where sharing comes {when}: {'; '.join(parts)}.")
    sharing = [group for group in by_chain(rows) if group[0]["steps"] and group[0]["steps"][-1][0] == "share"]
    parts = [
        f"{chain(group[0])} {_size(group, 'int8_bytes')}, zipped {_size(group, 'int8_zipped_bytes')} (packed float32 "
        f"{_size(group, 'float_bytes')}, zipped {_size(group, 'float_zipped_bytes')})"
        for group in sharing
    ]
    if parts:
        told.append(f"Shared weights in an int8 file: {'; '.join(parts)}. Packing treats float32 files alone.")
    return told


def _size(group: list[dict], figure: str) -> str:
    return formats.size(round(mean(group, figure)))


def _tuning(rows: list[dict]) -> list[str]:
    """What the fine-tuning at the end gives back, and where it takes."""
    groups = [group for group in by_chain(rows) if group[0]["steps"]]
    gains = {id(g): Spread(tuple(r["float_percent"] - r["stepped_percent"] for r in g)).mean for g in groups}
    if not groups:
        return []
    most, least = (f(groups, key=lambda group: gains[id(group)]) for f in (max, min))
    signed = [f"{gains[id(group)]:+.2f}".replace("-", formats.MINUS) for group in (most, least)]
    return [
        f"Fine-tuning (and packing, where weights are shared) changes the accuracy by {signed[0]} points at most "
        f"({chain(most[0])} at {formats.digits(100 * asked(most[0]))} %) and {signed[1]} at least "
        f"({chain(least[0])} at {formats.digits(100 * asked(least[0]))} %)."
    ]
