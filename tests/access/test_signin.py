"""Sign-in, sessions, tokens, links: who gets in, for how long, and who does not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.access import links, people, sessions, throttle, tokens
from treadle.access.signin import with_link, with_password
from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.errors import Forbidden, NotFound, StorageError, TooMany, Unauthorized, UsageError

from .conftest import PASSWORD, QUICK, SetClock


@pytest.fixture(autouse=True)
def ada(ledger: MemoryLedger, clock: SetClock) -> people.Person:
    return people.add_person("ada", ledger, clock, actor="test", password=PASSWORD, roles=["ml_engineer"], hashing=QUICK)


def sign_in(ledger: Any, clock: SetClock, name: str = "ada", password: str = PASSWORD, address: str = "10.0.0.7") -> str:
    return with_password(name, password, ledger, clock, address=address, hashing=QUICK)[0]


def test_who_signs_in_has_a_session_of_which_only_the_hash_is_stored(ledger: MemoryLedger, clock: SetClock) -> None:
    secret, session, person = with_password("Ada", PASSWORD, ledger, clock, address="10.0.0.7", hashing=QUICK)
    assert (session.person, session.how, session.address, person.name) == ("ada", "password", "10.0.0.7", "ada")
    assert sessions.session_of(secret, ledger, clock) == (session, person)
    stored = str([r.body for r in ledger.find("session")]) + str(ledger.events_since())
    assert secret not in stored
    assert session.csrf not in repr(session)
    assert ledger.events_since()[-1].kind == "access.signed_in"
    for wrong in ("", secret[:-1], secret + "a", secret.swapcase(), session.id, "é"):
        assert sessions.session_of(wrong, ledger, clock) is None


def test_a_session_ends_when_it_is_not_used(ledger: MemoryLedger, clock: SetClock) -> None:
    secret = sign_in(ledger, clock)
    clock.on(hours=11.9)
    assert sessions.session_of(secret, ledger, clock) is not None
    clock.on(hours=11.9)
    assert sessions.session_of(secret, ledger, clock) is not None
    clock.on(hours=12)
    assert sessions.session_of(secret, ledger, clock) is None
    assert sessions.sessions(ledger, clock) == []


def test_a_session_ends_after_a_week_however_much_it_is_used(ledger: MemoryLedger, clock: SetClock) -> None:
    secret = sign_in(ledger, clock)
    hours = 0
    while sessions.session_of(secret, ledger, clock) is not None:
        clock.on(hours=6)
        hours += 6
    assert hours == 7 * 24


def test_a_use_is_written_down_once_a_minute(ledger: MemoryLedger, clock: SetClock) -> None:
    secret = sign_in(ledger, clock)
    for _ in range(120):
        clock.on(seconds=1)
        assert sessions.session_of(secret, ledger, clock) is not None
    assert ledger.find("session")[0].version == 3


def test_a_full_disk_signs_nobody_out(ledger: MemoryLedger, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = sign_in(ledger, clock)
    text, _ = tokens.make_token("ada", "ci", ledger, clock, actor="ada")
    clock.on(hours=1)

    def full(*_: object, **__: object) -> None:
        raise StorageError("The disk is full.")

    monkeypatch.setattr(ledger, "put", full)
    assert sessions.session_of(secret, ledger, clock) is not None
    assert tokens.token_of(text, ledger, clock) is not None


def test_sessions_end_with_sign_out_a_new_password_and_disabling(ledger: MemoryLedger, clock: SetClock) -> None:
    first, second = sign_in(ledger, clock), sign_in(ledger, clock)
    found = sessions.session_of(first, ledger, clock)
    assert found is not None
    sessions.end_session(found[0].id, ledger, clock, actor="ada")
    sessions.end_session(found[0].id, ledger, clock, actor="ada")
    assert sessions.session_of(first, ledger, clock) is None
    assert sessions.session_of(second, ledger, clock) is not None
    people.set_password("ada", "green cows stand still", ledger, clock, actor="ada", hashing=QUICK)
    assert sessions.session_of(second, ledger, clock) is None
    third = sign_in(ledger, clock, password="green cows stand still")
    people.change_person("ada", ledger, clock, actor="root", disabled=True)
    assert sessions.session_of(third, ledger, clock) is None
    people.change_person("ada", ledger, clock, actor="root", disabled=False)
    assert sessions.session_of(third, ledger, clock) is None, "who is let in again signs in again"
    with pytest.raises(NotFound):
        sessions.end_session("session-none", ledger, clock, actor="ada")
    kinds = [e.kind for e in ledger.events_since()]
    assert kinds.count("access.signed_out") == 2
    assert kinds.count("access.session.ended") == 1


def test_a_session_that_was_ended_is_not_opened_again_by_a_request_under_way(ledger: MemoryLedger, clock: SetClock, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = sign_in(ledger, clock)
    id = ledger.find("session")[0].id
    clock.on(hours=1)
    real = ledger.put
    ended: list[bool] = []

    def between(*args: Any, **options: Any) -> Any:
        if not ended:
            ended.append(True)
            sessions.end_session(id, ledger, clock, actor="root")
        return real(*args, **options)

    monkeypatch.setattr(ledger, "put", between)
    assert sessions.session_of(secret, ledger, clock) is None


def test_a_role_that_is_taken_is_gone_in_a_session_that_was_open_before(ledger: MemoryLedger, clock: SetClock) -> None:
    secret = sign_in(ledger, clock)
    text, _ = tokens.make_token("ada", "ci", ledger, clock, actor="ada", permissions=["models.waive", "home.see"])
    people.change_person("ada", ledger, clock, actor="root", roles=["stakeholder"])
    for found in (sessions.session_of(secret, ledger, clock), tokens.token_of(text, ledger, clock)):
        assert found is not None
        assert not found[1].may("models.waive")
        assert found[1].may("home.see")


def test_a_wrong_name_and_a_wrong_password_are_told_apart_by_nobody(ledger: MemoryLedger, clock: SetClock) -> None:
    said = []
    for name in ("ada", "eve", "not a name"):
        with pytest.raises(Unauthorized) as told:
            sign_in(ledger, clock, name, "wrong password", address=f"10.1.{len(said)}.1")
        said.append(str(told.value))
    assert len(set(said)) == 1
    refusals = [e for e in ledger.events_since() if e.kind == "access.refused"]
    assert [e.subject.id for e in refusals] == ["ada", "unknown", "unknown"]
    assert "not a name" not in str(refusals)


def test_of_a_thousand_wrong_sign_ins_five_are_looked_at(ledger: MemoryLedger, clock: SetClock) -> None:
    counts = {"unauthorized": 0, "too_many": 0}
    for n in range(1000):
        try:
            sign_in(ledger, clock, password=f"wrong password {n}")
        except (Unauthorized, TooMany) as error:
            counts[error.code] += 1
    assert counts == {"unauthorized": 5, "too_many": 995}
    assert len([e for e in ledger.events_since() if e.kind == "access.refused"]) == 5, "the log does not grow with what is turned away"
    with pytest.raises(TooMany):
        sign_in(ledger, clock)
    clock.on(seconds=1)
    sign_in(ledger, clock)
    assert throttle.allowed("ada", "10.0.0.8", ledger, clock) == 0


def test_a_thousand_at_once_get_no_further(tmp_path: Path, clock: SetClock) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    passed: list[float] = []

    def guess() -> None:
        passed.extend(wait for _ in range(125) if (wait := throttle.enter("ada", "10.0.0.7", ledger, clock)) == 0)

    threads = [threading.Thread(target=guess) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 5
    again = SqliteLedger(tmp_path / "ledger.db")
    assert throttle.allowed("ada", "10.9.9.9", again, clock) > 0, "another process knows"
    ledger.close()
    again.close()


def test_a_guesser_who_never_tires_gets_a_hundred_guesses_a_day_at_one_name(ledger: MemoryLedger, clock: SetClock) -> None:
    guesses, address, end = 0, 0, clock.now().timestamp() + 86_400
    while clock.now().timestamp() < end:
        address += 1  # each from somewhere else
        wait = throttle.enter("ada", f"10.2.{address // 250}.{address % 250}", ledger, clock)
        guesses += wait == 0
        clock.on(seconds=wait)
    assert 50 < guesses < 125


def test_one_address_that_tries_many_names_has_to_wait_too(ledger: MemoryLedger, clock: SetClock) -> None:
    passed = [throttle.enter(f"name{n}", "10.0.0.7", ledger, clock) for n in range(100)]
    assert passed.count(0) == 5
    assert throttle.enter("name1", "10.0.0.8", ledger, clock) == 0


def test_a_network_of_ipv6_counts_as_one_address(ledger: MemoryLedger, clock: SetClock) -> None:
    passed = [throttle.enter(f"name{n}", f"2001:db8::{n:x}", ledger, clock) for n in range(20)]
    assert passed.count(0) == 5
    assert throttle.enter("name", "2001:db8:0:1::1", ledger, clock) == 0
    assert [throttle.enter("", "::ffff:10.0.0.9", ledger, clock) for _ in range(6)].count(0) == 5
    assert throttle.allowed("", "10.0.0.9", ledger, clock) > 0


def test_links_that_are_guessed_are_throttled_too(ledger: MemoryLedger, clock: SetClock) -> None:
    counts = {"unauthorized": 0, "too_many": 0}
    for n in range(100):
        try:
            with_link(f"guess {n}", ledger, clock, address="10.0.0.7")
        except (Unauthorized, TooMany) as error:
            counts[error.code] += 1
    assert counts == {"unauthorized": 5, "too_many": 95}


def test_whoever_has_an_account_cannot_clear_the_way_for_guesses(ledger: MemoryLedger, clock: SetClock) -> None:
    guesses = 0
    for n in range(50):
        guesses += throttle.enter(f"victim{n}", "10.0.0.7", ledger, clock) == 0
        if throttle.enter("ada", "10.0.0.7", ledger, clock) == 0:
            throttle.succeeded("ada", "10.0.0.7", ledger, clock)
    assert guesses <= 5


@given(st.lists(st.floats(0, 2000), max_size=60))
def test_the_wait_is_never_more_than_a_quarter_of_an_hour_and_ends(pauses: list[float]) -> None:
    from datetime import UTC, datetime

    ledger, clock = MemoryLedger(), SetClock(datetime(2026, 3, 1, tzinfo=UTC))
    for pause in pauses:
        clock.on(seconds=pause)
        wait = throttle.enter("ada", "10.0.0.7", ledger, clock)
        assert 0 <= wait <= 900
        clock.on(seconds=wait)
        assert throttle.allowed("ada", "10.0.0.7", ledger, clock) <= (900 if wait == 0 else 0.001)


def test_a_token_is_good_until_it_ends_or_is_revoked(ledger: MemoryLedger, clock: SetClock) -> None:
    text, token = tokens.make_token("ada", "nightly export", ledger, clock, actor="ada", permissions=["runs.see"], days=30)
    found = tokens.token_of(text, ledger, clock)
    assert found is not None
    assert found[1].kind == "token"
    assert found[1].permissions == {"runs.see"}
    assert text.split("_")[2] not in str([r.body for r in ledger.find("access_token")]) + str(ledger.events_since()) + repr(token)
    for wrong in ("", "trd_", text[:-1], text + "a", text.upper(), f"trd_{token.id}_x", f"trd_{'a' * 8}_{text.split('_', 2)[2]}", "eyJhbGciOiJub25lIn0.e30."):
        assert tokens.token_of(wrong, ledger, clock) is None
    clock.on(days=29.9)
    assert tokens.token_of(text, ledger, clock) is not None
    clock.on(days=0.1)
    assert tokens.token_of(text, ledger, clock) is None
    other, second = tokens.make_token("ada", "other", ledger, clock, actor="ada")
    assert tokens.token_of(other, ledger, clock)[1].permissions == people.find_person("ada", ledger).permissions  # type: ignore[index, union-attr]
    tokens.revoke(second.id, ledger, clock, actor="root")
    assert tokens.token_of(other, ledger, clock) is None
    assert tokens.revoke(second.id, ledger, clock, actor="root").revoked
    assert [e.kind for e in ledger.events_since()].count("access.token.revoked") == 1
    assert [t.id for t in tokens.tokens(ledger, "ada")] == [second.id, token.id]


def test_a_token_never_has_more_than_its_person(ledger: MemoryLedger, clock: SetClock) -> None:
    with pytest.raises(Forbidden, match=r"access\.change"):
        tokens.make_token("ada", "too much", ledger, clock, actor="ada", permissions=["access.change"])
    with pytest.raises(UsageError, match="no permission"):
        tokens.make_token("ada", "misspelt", ledger, clock, actor="ada", permissions=["runs.sea"])
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(UsageError):
            tokens.make_token("ada", "for ever", ledger, clock, actor="ada", days=bad)
    text, _ = tokens.make_token("ada", "all", ledger, clock, actor="ada")
    people.change_person("ada", ledger, clock, actor="root", disabled=True)
    assert tokens.token_of(text, ledger, clock) is None
    with pytest.raises(Forbidden):
        tokens.make_token("ada", "all", ledger, clock, actor="ada")


def test_a_link_signs_in_once_within_its_minutes(ledger: MemoryLedger, clock: SetClock) -> None:
    link = links.make_link("ada", ledger, clock)
    _, session, _ = with_link(link, ledger, clock, address="127.0.0.1")
    assert session.how == "link"
    for wrong in (link, "", "never made"):
        with pytest.raises(Unauthorized):
            with_link(wrong, ledger, clock, address="127.0.0.1")
    late = links.make_link("ada", ledger, clock)
    clock.on(minutes=10)
    assert links.use_link(late, ledger, clock) is None
    disabled = links.make_link("ada", ledger, clock)
    people.change_person("ada", ledger, clock, actor="root", disabled=True)
    assert links.use_link(disabled, ledger, clock) is None
    assert link not in str([r.body for r in ledger.find("sign_in_link")]) + str(ledger.events_since())


def test_of_many_that_use_a_link_at_once_one_gets_in(tmp_path: Path, clock: SetClock) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    people.add_person("ada", ledger, clock, actor="test")
    link = links.make_link("ada", ledger, clock)
    start = threading.Barrier(8)
    found: list[object] = []

    def use() -> None:
        start.wait()
        found.append(links.use_link(link, ledger, clock))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([f for f in found if f is not None]) == 1
    ledger.close()


def test_no_secret_lies_in_the_files_of_the_ledger(tmp_path: Path, clock: SetClock) -> None:
    ledger = SqliteLedger(tmp_path / "ledger.db")
    people.add_person("ada", ledger, clock, actor="test", password=PASSWORD, hashing=QUICK)
    secret, _, _ = with_password("ada", PASSWORD, ledger, clock, address="10.0.0.7", hashing=QUICK)
    token, _ = tokens.make_token("ada", "ci", ledger, clock, actor="ada")
    link = links.make_link("ada", ledger, clock)
    with pytest.raises(Unauthorized):
        with_password("my password is hunter2hunter2", "x", ledger, clock, address="10.0.0.7", hashing=QUICK)
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"argon2id" in stored
    for text in (PASSWORD, secret, token, token.split("_", 2)[2], link, "hunter2"):
        assert text.encode() not in stored
    ledger.close()
