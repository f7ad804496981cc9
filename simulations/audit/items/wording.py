"""How an audit report writes numbers, for people: never more sure than they are.

What has no finite value is called infinite, and a chance below one is never rounded up
to certainty.
"""

import math

SURE = 0.999999  # a greater chance is said to be greater than this


def epsilon_text(value: float | None) -> str:
    """Return an epsilon with four digits after the point, as the ledger's audit does.

    None is infinity, which JSON does not have.
    """
    return "infinite" if value is None or math.isinf(value) else f"{value:.4f}"


def number(value: float) -> str:
    """Return a number with four digits that count: 16,905, 0.87, 1e-5."""
    if value == 0 or 1e-3 <= abs(value) < 1000:
        return f"{value:.4g}"
    if abs(value) < 1e9 and value == round(value):
        return f"{value:,.0f}"
    if 1000 <= abs(value) < 1e9:
        return f"{value:,.1f}"
    mantissa, power = f"{value:.3e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"


def percent(share: float) -> str:
    """Return a share of one in per cent, with digits enough to stay off 0 and 100."""
    if share > SURE and share < 1:
        return f"more than {100 * SURE:.4f} %"
    digits = 1
    if 0 < share < 1:
        digits = -math.floor(math.log10(min(share, 1 - share)))
    return f"{100 * share:.{digits}f}".rstrip("0").rstrip(".") + " %"


def size(count: int) -> str:
    """Return a size in bytes: 512 bytes, 16.9 kB, 3.2 MB."""
    for unit, large in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= large:
            return f"{count / large:.1f} {unit}"
    return plural(count, "byte")


def plural(count: int, noun: str) -> str:
    """Return a count with its noun: 1 update, 3 updates, 0 updates."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(words: list[str]) -> str:
    """Return words as a list in a sentence: a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
