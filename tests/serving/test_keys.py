"""API keys: nothing is open that was not meant to be, a key does what its roles say, within its rate, its quota and its time."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock
from treadle.core.errors import Conflict, Forbidden, NotFound, TooMany, TreadleError, Unauthorized, UsageError
from treadle.registry import api_keys as registry
from treadle.serving.keys import OPEN, ROLES, Caller, Gate, Key, digest_of, new_secret, read_key, role_of
from treadle.web.api.endpoint import ROUTES

CLOCK = ReplayClock(datetime(2026, 1, 1, tzinfo=UTC))


def key(*roles: str, **says: object) -> tuple[str, Key]:
    token, id, digest = new_secret()
    return token, Key(id, digest, "site", **{"model": "late", "roles": roles or ("predict",), **says})  # type: ignore[arg-type]


def gate(*found: Key) -> Gate:
    one = Gate("late")
    one.required = True
    one.learn(found)
    return one


def test_without_keys_declared_everybody_is_let_in() -> None:
    assert Gate("late").admit("POST", "/predict", None) is None


def test_probes_need_no_key_and_everything_else_does() -> None:
    one = gate()
    for path in OPEN:
        assert one.admit("GET", path, None) is None
    for route in ROUTES:
        method, path = route.split(" ")
        if path not in OPEN:
            with pytest.raises(Unauthorized, match="needs an API key"):
                one.admit(method, path.replace("ID", "p-1"), None)


@given(st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]), st.text(max_size=30))
def test_a_route_that_nobody_thought_of_needs_a_key(method: str, path: str) -> None:
    if f"/{path}" not in OPEN:
        with pytest.raises(Unauthorized):
            gate().admit(method, f"/{path}", None)


@pytest.mark.parametrize(("role", "method", "path"), [
    ("predict", "POST", "/predict"), ("predict", "POST", "/invocations"), ("predict", "POST", "/v2/models/late/infer"), ("predict", "GET", "/signature"),
    ("outcomes", "POST", "/outcomes"), ("read", "GET", "/predictions/p-1"), ("read", "GET", "/metrics"), ("operate", "POST", "/reload"),
    ("operate", "POST", "/admin"), ("operate", "DELETE", "/predictions/p-1"),
])  # fmt: skip
def test_each_route_takes_its_role_or_that_of_the_operator_and_no_other(role: str, method: str, path: str) -> None:
    for other in ROLES:
        token, one = key(other)
        if other in (role, "operate"):
            assert gate(one).admit(method, path, f"Bearer {token}").key == one  # type: ignore[union-attr]
        else:
            with pytest.raises(Forbidden, match=f"needs the role {role!r}"):
                gate(one).admit(method, path, f"Bearer {token}")
    assert role_of(method, path) == role


@pytest.mark.parametrize("says", [{"revoked": True}, {"model": "other"}, {"until": "2020-01-01T00:00:00Z"}])
def test_a_key_that_was_taken_back_has_ended_or_is_for_another_model_opens_nothing(says: dict[str, object]) -> None:
    token, one = key(**says)
    with pytest.raises(Unauthorized):
        gate(one).admit("POST", "/predict", f"Bearer {token}")


@pytest.mark.parametrize("shown", ["", "Bearer", "Bearer ", "Basic {t}", "{t}", "Bearer {t}x", "Bearer é", "Bearer {d}"])
def test_whoever_shows_something_else_than_the_key_is_refused(shown: str) -> None:
    token, one = key()
    with pytest.raises(Unauthorized):
        gate(one).admit("POST", "/predict", shown.format(t=token, d=one.digest))


def test_a_key_may_send_its_rate_and_is_told_when_to_come_again() -> None:
    token, one = key(rate=5.0)
    caller = gate(one).admit("POST", "/predict", f"Bearer {token}")
    assert caller is not None
    now = time.monotonic()
    for _ in range(4):
        caller.enter(now)
    with pytest.raises(TooMany, match="may send 5 requests a second") as refused:
        caller.enter(now)
    assert 0 < refused.value.after <= 0.2
    caller.enter(now + 1.0)


@given(st.lists(st.floats(0, 2), min_size=1, max_size=60), st.floats(0.5, 50))
def test_never_more_than_the_rate_and_a_second_in_hand_are_let_in(pauses: list[float], rate: float) -> None:
    caller = Caller(key(rate=rate)[1])
    now = caller._filled
    let_in = 0
    for pause in pauses:
        now += pause
        try:
            caller.enter(now)
            let_in += 1
        except TooMany:
            pass
    assert let_in <= max(1.0, rate) + sum(pauses) * rate + 1e-6


def test_rows_beyond_the_days_quota_are_refused_and_seen() -> None:
    caller = Caller(key(quota=100)[1])
    caller.charge(60)
    with pytest.raises(TooMany, match=r"has 40 of its 100 rows left .*; this request has 41"):
        caller.charge(41)
    caller.charge(40)
    assert (caller.quota()["rows_today"], caller.quota()["rows_left"]) == (100, 0)
    with pytest.raises(TooMany) as refused:
        caller.charge(1)
    assert 0 < refused.value.after <= 86_400


def test_what_is_stored_is_no_secret_and_what_was_used_adds_up() -> None:
    ledger = MemoryLedger()
    token, id, digest = new_secret()
    registry.make(id, digest, registry.Wanted("site", "late", ("predict",), quota=10), ledger, CLOCK, actor="ann")
    assert token not in str([ledger.find("api_key"), ledger.events_since()])
    assert digest not in str(ledger.events_since())
    assert digest == digest_of(token)
    one = read_key(id, ledger.get("api_key", id).body)  # type: ignore[union-attr]
    assert (one.name, one.roles, one.quota) == ("site", ("predict",), 10)
    assert registry.add_use(id, "2026-01-01", 5, 1, ledger) == 5
    assert registry.add_use(id, "2026-01-01", 2, 1, ledger) == 7
    assert registry.used(ledger, "2026-01-01")[id]["requests"] == 2
    registry.revoke(id, "leaked", ledger, actor="bob")
    assert read_key(id, ledger.get("api_key", id).body).revoked  # type: ignore[union-attr]
    with pytest.raises(Conflict):
        registry.revoke(id, "leaked", ledger, actor="bob")
    with pytest.raises(NotFound):
        registry.revoke("k0", "leaked", ledger, actor="bob")


@pytest.mark.parametrize("says", [{"name": ""}, {"name": "a\nb"}, {"roles": ()}, {"rate": 0.0}, {"quota": -1}, {"until": CLOCK.now() - timedelta(1)}])
def test_a_key_that_makes_no_sense_is_not_made(says: dict[str, object]) -> None:
    wanted = registry.Wanted(**{"name": "site", "model": "late", "roles": ("predict",), **says})  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        registry.make("k1", "d", wanted, MemoryLedger(), CLOCK, actor="ann")


def test_a_changed_key_keeps_what_it_has_used() -> None:
    token, one = key(quota=100)
    this = gate(one)
    this.admit("POST", "/predict", f"Bearer {token}").charge(70)  # type: ignore[union-attr]
    this.learn([Key(**{**{f: getattr(one, f) for f in Key.__dataclass_fields__}, "rate": 3.0})])
    with pytest.raises(TreadleError):
        this.admit("POST", "/predict", f"Bearer {token}").charge(31)  # type: ignore[union-attr]
