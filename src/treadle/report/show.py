"""How values are written on a page: sensible digits, one dash for what is not known."""

from __future__ import annotations

from typing import Any

METRICS = {
    "roc_auc": "ROC-AUC", "log_loss": "log loss", "brier": "Brier score", "accuracy": "accuracy", "mae": "mean absolute error",
    "rmse": "root mean square error", "r2": "R²", "average_precision": "average precision",
}  # fmt: skip
HIGHER = {"roc_auc", "accuracy", "r2"}
NONE = "–"


def number(value: Any, digits: int = 3) -> str:
    """A measured value: three digits after the point for what is about 1, fewer for large ones.

    >>> number(0.75678), number(12.3456), number(12345.6), number(None), number(0.00001234)
    ('0.757', '12.3', '12,346', '–', '1.23e-05')
    """
    if value is None:
        return NONE
    size = abs(float(value))
    if size == 0:
        return "0"
    if size < 10.0 ** -(digits + 1):
        return f"{value:.3g}"
    return f"{value:,.{max(0, digits - (0 if size < 10 else 2 if size < 100 else 3))}f}"


def signed(value: Any, digits: int = 4) -> str:
    """A difference, always with its sign (a true minus)."""
    return NONE if value is None else f"{value:+.{digits}f}".replace("-", "\u2212")


def count(value: Any) -> str:
    """A whole number with separators."""
    return NONE if value is None else f"{int(value):,}"


def percent(value: Any, digits: int = 0) -> str:
    """A share."""
    return NONE if value is None else f"{value:.{digits}%}"


def interval(cell: Any, digits: int = 3) -> str:
    """'0.72 to 0.79' of {'low', 'high'}; a dash where it is not known."""
    if not cell or cell.get("low") is None or cell.get("high") is None:
        return NONE
    return f"{number(cell['low'], digits)} to {number(cell['high'], digits)}"


def seconds(value: Any) -> str:
    """A length of time, in its own unit.

    >>> seconds(8.0975), seconds(0.034), seconds(92), seconds(7300), seconds(2 * 86400)
    ('8.1 s', '34 ms', '1 min 32 s', '2 h 1 min', '2 d')
    """
    if value is None:
        return NONE
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{value / 86400:.3g} d"


def day(text: Any) -> str:
    """The day of an ISO moment."""
    return str(text)[:10] if text else NONE


def moment(text: Any) -> str:
    """An ISO moment to the minute, in UTC."""
    return f"{text[:10]} {text[11:16]}" if text else NONE


def clock(text: Any) -> str:
    """An ISO moment to the second, in UTC."""
    return f"{text[:10]} {text[11:19]}" if text else NONE


def metric(name: str) -> str:
    """A metric's name for people."""
    return METRICS.get(name, name)


def words(text: Any) -> str:
    """'data_quality' as 'data quality'."""
    return str(text).replace("_", " ")


def params(value: Any) -> str:
    """Settings on one line."""
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in dict(value).items()) or "as they come"


def brief(value: Any) -> str:
    """A nested value on one line.

    >>> brief({"share": 0.2, "evidence": {"outcomes": 307}})
    'share 0.2; evidence (outcomes 307)'
    """
    if isinstance(value, dict):
        parts = [f"{words(k)} ({brief(v)})" if isinstance(v, dict) else f"{words(k)} {brief(v)}" for k, v in value.items() if v not in ("", None)]
        return "; ".join(parts) or NONE
    if isinstance(value, list | tuple):
        return ", ".join(map(brief, value)) or NONE
    return f"{value:.4g}" if isinstance(value, float) else str(value)


FILTERS = {
    "number": number, "signed": signed, "count": count, "percent": percent, "interval": interval, "seconds": seconds, "day": day, "moment": moment,
    "clock": clock, "metric": metric, "words": words, "params": params, "brief": brief,
}  # fmt: skip
