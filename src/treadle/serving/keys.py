"""Who may ask an endpoint for what: API keys with roles, a rate, a quota and an end. Pure: keys come in, callers or refusals come out.

A key is 32 random bytes that are shown once. What is stored is its SHA-256: of a random secret that long nobody finds the original, so nothing slower
is needed, and a request costs a microsecond. Every route needs a role; one that nobody thought of needs `operate`.

| role | may |
|---|---|
| predict | ask for predictions, read the signature and the descriptions of the model |
| outcomes | tell the truth of predictions |
| read | read logged predictions, and the metrics |
| operate | everything else |
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from treadle.core.clock import parse_time
from treadle.core.errors import Forbidden, TooMany, Unauthorized

ROLES = ("predict", "outcomes", "read", "operate")
OPEN = ("/health", "/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/health/ready")  # probes of load balancers show no key
_PREFIX = "tk_"
_DESCRIBES = ("/", "/signature", "/version", "/openapi.json", "/docs", "/v2")


@dataclass(frozen=True)
class Key:
    """One key, without its secret.

    Args:
        model: whose endpoint it opens; '*' opens all.
        rate: requests a second, None for no limit. quota: rows a day (UTC), None for no limit.
        until: when it ends, ISO text; '' never.
    """

    id: str
    digest: str
    name: str
    model: str
    roles: tuple[str, ...]
    rate: float | None = None
    quota: int | None = None
    until: str = ""
    revoked: bool = False


def new_secret() -> tuple[str, str, str]:
    """(token to hand out once, id, digest to store)."""
    id = "k" + base64.b32encode(secrets.token_bytes(5)).decode().lower()
    token = f"{_PREFIX}{id}_{secrets.token_urlsafe(32)}"
    return token, id, digest_of(token)


def digest_of(token: str) -> str:
    """What is stored of a token."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def role_of(method: str, path: str) -> str:
    """The role a route needs, '' for none."""
    if path in OPEN:
        return ""
    if method == "POST":
        if path in ("/predict", "/invocations") or (path.startswith("/v2/models/") and path.endswith("/infer")):
            return "predict"
        return "outcomes" if path == "/outcomes" else "operate"
    if method in ("GET", "HEAD"):
        if path in _DESCRIBES or path.startswith("/v2/models/"):
            return "predict"
        if path == "/metrics" or path.startswith("/predictions/"):
            return "read"
        return "" if path == "/quota" else "operate"
    return "operate"


class Caller:
    """One key at work in this process: its bucket of requests, and the rows it asked for today.

    Attributes:
        rows, requests: since they were last taken for the record. stored: rows of `day` on record, of all processes.
    """

    __slots__ = ("_filled", "_room", "_share", "day", "ends", "key", "requests", "rows", "stored")

    def __init__(self, key: Key, share: float = 1.0) -> None:
        self.key = key
        self.rows = self.requests = self.stored = 0
        self.day = ""
        self.ends = parse_time(key.until).timestamp() if key.until else float("inf")
        self._share = share
        self._room = max(1.0, (key.rate or 0.0) * share)
        self._filled = time.monotonic()

    def enter(self, now: float) -> None:
        """Take one request out of the bucket, which refills at the key's rate and holds a second's worth. Raises TooMany."""
        self.requests += 1
        rate = self.key.rate
        if rate is None:
            return
        rate *= self._share
        self._room = min(max(1.0, rate), self._room + (now - self._filled) * rate)
        self._filled = now
        if self._room < 1.0:
            wait = (1.0 - self._room) / rate
            raise TooMany(f"Key {self.key.id} may send {self.key.rate:g} requests a second.", hint="Send fewer, or try again later.", after=wait)
        self._room -= 1.0

    def charge(self, rows: int) -> None:
        """Count rows against today's quota; those of a request that is too large are not counted. Raises TooMany."""
        today = datetime.now(UTC)
        day = today.strftime("%Y-%m-%d")
        if day != self.day:
            self.day, self.rows, self.stored = day, 0, 0
        quota = self.key.quota
        if quota is not None and self.stored + self.rows + rows > quota:
            left = max(0, quota - self.stored - self.rows)
            seconds = 86_400 - (today.hour * 3600 + today.minute * 60 + today.second)
            raise TooMany(
                f"Key {self.key.id} has {left:,} of its {quota:,} rows left for {day} (UTC); this request has {rows:,}.",
                hint="See GET /quota.", after=seconds,
            )  # fmt: skip
        self.rows += rows

    def quota(self) -> dict[str, Any]:
        """What a caller may know of its own key."""
        used = self.stored + self.rows if self.day == datetime.now(UTC).strftime("%Y-%m-%d") else 0
        key = self.key
        return {
            "key": key.id, "name": key.name, "roles": list(key.roles), "requests_a_second": key.rate, "rows_a_day": key.quota, "rows_today": used,
            "rows_left": None if key.quota is None else max(0, key.quota - used), "until": key.until or None,
        }  # fmt: skip


class Gate:
    """The keys of one endpoint.

    Args:
        model: the model it answers for.
        processes: how many processes answer; each lets its share of a key's rate pass.

    Attributes:
        required: whether callers must show a key.
    """

    def __init__(self, model: str, processes: int = 1, clock: Callable[[], float] = time.time) -> None:
        self.required = False
        self.callers: dict[str, Caller] = {}
        self._model, self._share, self._clock = model, 1.0 / max(1, processes), clock

    def learn(self, keys: Iterable[Key]) -> None:
        """Take over the keys as they are on record now; what a key has used up stays used up."""
        found: dict[str, Caller] = {}
        for key in keys:
            if key.revoked or key.model not in ("*", self._model):
                continue
            known = self.callers.get(key.digest)
            found[key.digest] = known if known is not None and known.key == key else Caller(key, self._share)
            if known is not None and known.key != key:
                found[key.digest].day, found[key.digest].rows, found[key.digest].stored = known.day, known.rows, known.stored
        self.callers = found

    def admit(self, method: str, path: str, authorization: str | None) -> Caller | None:
        """Who calls; None where no key is needed and none was shown. Asked before the body is read.

        Raises: Unauthorized, Forbidden (the key has another role), TooMany.
        """
        if not self.required:
            return None
        role = role_of(method, path)
        if authorization is None:
            if role == "" and path != "/quota":
                return None
            raise Unauthorized("This endpoint needs an API key.", hint="Send the header Authorization: Bearer KEY. Make one with: treadle keys make")
        scheme, _, token = authorization.partition(" ")
        caller = self.callers.get(digest_of(token.strip())) if scheme.lower() == "bearer" else None
        if caller is None or caller.ends <= self._clock():
            why = "The API key has ended." if caller is not None else "The API key is not known."
            raise Unauthorized(why, hint="Ask whoever runs the endpoint for another: treadle keys make")
        if role and role not in caller.key.roles and "operate" not in caller.key.roles:
            raise Forbidden(f"Key {caller.key.id} may not do this: it needs the role {role!r}.", hint=f"Its roles: {', '.join(caller.key.roles)}.")
        if role:
            caller.enter(time.monotonic())
        return caller


def read_key(id: str, body: Mapping[str, Any]) -> Key:
    """A key as it is on record."""
    return Key(
        id, body["digest"], body["name"], body["model"], tuple(body["roles"]), body["rate"], body["quota"], body["until"], bool(body["revoked"])
    )
