"""A question about runs, in words: `metric.loss < 0.3 and params.max_depth = 4 and status = "done"`.

    question   = part {"or" part}          part = piece {"and" piece}
    piece      = ["not"] ("(" question ")" | field operator value)
    field      = metric.NAME or params.NAME (a name may stand in `ticks`), or one of: id scope model pipeline name status
                 cause by error started ended seconds cpu kind
    operator   = < <= > >= = == != contains

Text is only ever compared with what is on record, never given to a database as a part of its language.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from treadle.core.errors import UsageError

FIELDS = ("id", "scope", "model", "pipeline", "name", "status", "cause", "by", "error", "started", "ended", "seconds", "cpu", "kind")
LONGEST, DEEPEST = 2_000, 30  # characters of a question, and parentheses within parentheses
_EXAMPLE = 'For example: metric.loss < 0.3 and params.max_depth = 4 and status = "done"'
_TOKEN = re.compile(
    r"""\s*(?:(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<operator><=|>=|!=|==|=|<|>)|(?P<bracket>[()])|(?P<word>[A-Za-z_][\w\-/:]*(?:\.(?:`[^`]+`|[\w\-/:]+))*))"""
)
_SAME: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}

Row = Mapping[str, Any]  # a run as `run_rows` tells it: the fields, and 'params' and 'metrics' by name
Question = Callable[[Row], bool]


@dataclass(frozen=True)
class Token:
    """A piece of the text: its sort, what it says, and at which character (from 1) it stands."""

    sort: str
    text: str
    at: int


@dataclass
class Asked:
    """A question, read. `holds` answers it of a run; `metrics` and `fields` are the names it speaks of."""

    holds: Question
    metrics: frozenset[str]
    fields: frozenset[str]


def read(text: str) -> Asked:
    """Read a question. Raises UsageError, which says at which character it cannot be understood."""
    if len(text) > LONGEST:
        raise UsageError(f"The question has {len(text):,} characters; at most {LONGEST:,} are read.", where="query")
    reader = _Reader(_tokens(text), text)
    holds = reader.question(0)
    if reader.next.sort != "end":
        raise reader.wrong("'and', 'or' or the end")
    return Asked(holds, frozenset(reader.metrics), frozenset(reader.fields))


def _tokens(text: str) -> list[Token]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            start = at + len(text[at:]) - len(text[at:].lstrip())
            what = "a quotation mark that is not closed" if text[start] in "\"'" else f"{text[start]!r}, which is not understood"
            raise UsageError(f"At character {start + 1} of the question stands {what}.", where="query", hint=_EXAMPLE)
        sort = str(match.lastgroup)
        found.append(Token(sort, match[sort], match.start(sort) + 1))
        at = match.end()
    return [*found, Token("end", "", len(text) + 1)]


class _Reader:
    def __init__(self, tokens: list[Token], text: str) -> None:
        self._tokens, self._text, self._place = tokens, text, 0
        self.metrics: set[str] = set()
        self.fields: set[str] = set()

    @property
    def next(self) -> Token:
        return self._tokens[self._place]

    def take(self) -> Token:
        token = self.next
        self._place += 1
        return token

    def wrong(self, wanted: str, token: Token | None = None) -> UsageError:
        found = token or self.next
        said = "the question ends" if found.sort == "end" else f"stands {found.text[:40]!r}"
        return UsageError(f"At character {found.at} of the question {said}, where {wanted} is expected.", where="query", hint=_EXAMPLE)

    def word(self, *words: str) -> bool:
        if self.next.sort == "word" and self.next.text.lower() in words:
            self._place += 1
            return True
        return False

    def question(self, depth: int) -> Question:
        parts = [self._all(depth)]
        while self.word("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else lambda row: any(part(row) for part in parts)

    def _all(self, depth: int) -> Question:
        parts = [self._piece(depth)]
        while self.word("and"):
            parts.append(self._piece(depth))
        return parts[0] if len(parts) == 1 else lambda row: all(part(row) for part in parts)

    def _piece(self, depth: int) -> Question:
        if depth > DEEPEST:
            raise self.wrong(f"less than {DEEPEST} parentheses within another")
        if self.word("not"):
            piece = self._piece(depth + 1)
            return lambda row: not piece(row)
        if self.next.text == "(" and self.next.sort == "bracket":
            self.take()
            inner = self.question(depth + 1)
            if self.next.text != ")" or self.next.sort != "bracket":
                raise self.wrong("')'")
            self.take()
            return inner
        return self._comparison()

    def _comparison(self) -> Question:
        value_of = self._field(self.take())
        sign = self.take()
        if sign.sort != "operator" and not (sign.sort == "word" and sign.text.lower() == "contains"):
            raise self.wrong("one of < <= > >= = != contains", sign)
        token = self.take()
        if token.sort not in ("number", "text", "word"):
            raise self.wrong("a number or a text", token)
        return _compare(value_of, sign.text.lower(), _value(token))

    def _field(self, token: Token) -> Callable[[Row], Any]:
        group, dot, name = token.text.partition(".")
        name = name.replace("`", "")
        if token.sort == "word" and dot and name and group in ("metric", "metrics"):
            self.metrics.add(name)
            return lambda row: row["metrics"].get(name)
        if token.sort == "word" and dot and name and group in ("param", "params"):
            self.fields.add("params")
            return lambda row: row["params"].get(name)
        if token.sort != "word" or token.text not in FIELDS:
            raise self.wrong(f"metric.NAME, params.NAME or one of {', '.join(FIELDS)}", token)
        self.fields.add(token.text)
        return lambda row: row.get(token.text)


def _value(token: Token) -> Any:
    if token.sort == "number":
        return float(token.text)
    if token.sort == "text":
        return re.sub(r"\\(.)", r"\1", token.text[1:-1])
    return {"true": True, "false": False, "none": None, "null": None}.get(token.text.lower(), token.text)


def _compare(value_of: Callable[[Row], Any], sign: str, wanted: Any) -> Question:
    if sign == "contains":
        return lambda row: (value := value_of(row)) is not None and str(wanted).lower() in str(value).lower()
    if sign in ("=", "==", "!="):
        return lambda row: _equal(value_of(row), wanted) is (sign != "!=")
    order = _SAME[sign]

    def ordered(row: Row) -> bool:
        value = value_of(row)
        if isinstance(wanted, float):
            number = _number(value)
            return number is not None and order(number, wanted)
        return value is not None and order(str(value), str(wanted))

    return ordered


def _equal(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, float):
        return _number(value) == wanted
    if isinstance(wanted, bool) or wanted is None:
        return value is wanted or (wanted is not None and str(value).lower() == str(wanted).lower())
    return value is not None and str(value) == wanted


def _number(value: Any) -> float | None:
    """A value as a number; parameters that were logged as texts are compared as numbers, too."""
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
