"""Numbers, times and tokens as people read them; a narrow no-break space is before a unit."""

from __future__ import annotations

_UNITS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_SPACE = "\u202f"


def count(value: float) -> str:
    """1,234 below ten thousand, then 12.3 k, 4.56 M, 789 G: three digits."""
    if abs(value) < 9_999.5:
        return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:.3g}"
    return _scaled(value)


def significant(value: float) -> str:
    """Three digits, however small: 0.04, 4.32 × 10⁻⁶."""
    digits, power, exponent = f"{value:.3g}".partition("e")
    if not power:
        return digits.replace("-", "−")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{digits}{_SPACE}×{_SPACE}10{raised}".replace("-", "−")


def cosine(value: float) -> str:
    """Two digits after the point, with a minus sign as long as a plus."""
    return f"{value:.2f}".replace("-", "−")


def size(value: float) -> str:
    """Bytes: 512 B, 12.3 kB, 4.56 GB."""
    return f"{value:,.0f}{_SPACE}B" if value < 1000 else _scaled(value) + "B"


def share(value: float) -> str:
    """A fraction as percent: 0.04 %, 4.2 %, 98.7 %."""
    percent = value * 100
    digits = 1 if abs(percent) >= 1 or percent == 0 else 2
    return f"{percent:.{digits}f}{_SPACE}%"


def duration(seconds: float) -> str:
    """3.2 s, 42 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f}{_SPACE}s"
    if seconds < 59.5:
        return f"{seconds:.0f}{_SPACE}s"
    minutes, second = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{_SPACE}min {second:02}{_SPACE}s"
    hours, minute = divmod(round(seconds / 60), 60)
    return f"{hours}{_SPACE}h {minute:02}{_SPACE}min"


def token(text: str, limit: int = 40) -> str:
    """A token without what would move or hide its neighbours on the page, cut where it is longer than ``limit``."""
    shown = "".join(c if c.isprintable() or c in "\u200c\u200d" else ascii(c)[1:-1] for c in text[: limit + 1])
    return (shown[: limit - 1] + "…" if len(shown) > limit else shown) or "(empty)"


def _scaled(value: float) -> str:
    value = float(f"{value:.3g}")
    for unit, name in _UNITS:
        if abs(value) >= unit:
            digits = f"{value / unit:.3g}"
            return f"{digits if 'e' not in digits else f'{value / unit:,.0f}'}{_SPACE}{name}".replace("-", "−")
    return f"{value:,.0f}{_SPACE}".replace("-", "−")
