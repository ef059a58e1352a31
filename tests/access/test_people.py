"""People, groups and roles: what holds now, what is refused, and what is written down."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.access import people as room
from treadle.access.known import changing, folded, has_administrator
from treadle.access.passwords import check_rule
from treadle.access.permissions import ADMINISTRATOR, PERMISSIONS, ROLES
from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.postgres_ledger import PostgresLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.clock import SystemClock
from treadle.core.errors import Conflict, NotFound, Refused, UsageError
from treadle.testing.servers import postgres_url, schema_of

from .conftest import PASSWORD, QUICK, SetClock

NOW = SystemClock()


def add(name: str, ledger: Any, *roles: str, **said: Any) -> room.Person:
    return room.add_person(name, ledger, NOW, actor="test", roles=roles, hashing=QUICK, **said)


def test_nobody_is_there_at_first_and_no_name_has_a_password(ledger: MemoryLedger) -> None:
    assert room.people(ledger) == []
    assert not has_administrator(ledger)
    for name in ("admin", "administrator", "root", "treadle"):
        for password in ("", "admin", "administrator", "treadle", "password", "changeme"):
            assert room.check_password(name, password, ledger, hashing=QUICK) is None


def test_the_seven_roles_and_the_administrator_are_there(ledger: MemoryLedger) -> None:
    assert list(room.roles(ledger)) == [
        "stakeholder", "architect", "data_scientist", "data_engineer", "software_engineer", "devops_engineer", "ml_engineer", "administrator",
    ]  # fmt: skip
    for role in ROLES.values():
        assert role.permissions <= PERMISSIONS.keys()
        assert {"home.see", "runs.see", "data.see", "models.see", "deployments.see", "alarms.see", "backtest.see", "notes.write"} <= role.permissions
    assert ROLES[ADMINISTRATOR].permissions == PERMISSIONS.keys()
    assert [r.name for r in ROLES.values() if "access.change" in r.permissions] == [ADMINISTRATOR]
    assert {r.name for r in ROLES.values() if "access.see" in r.permissions} == {ADMINISTRATOR, "architect"}


def test_a_person_may_what_their_roles_and_those_of_their_groups_allow(ledger: MemoryLedger) -> None:
    room.add_group("ops", ledger, NOW, actor="test", roles=["devops_engineer"])
    ada = add("ada", ledger, "data_engineer", groups=["ops"])
    assert ada.roles == ("data_engineer", "devops_engineer")
    assert ada.own_roles == ("data_engineer",)
    assert ada.permissions == ROLES["data_engineer"].permissions | ROLES["devops_engineer"].permissions
    assert ada.may("data.fix")
    assert not ada.may("models.approve")
    with pytest.raises(KeyError):
        ada.may("data.fxi")


def test_a_change_of_roles_groups_or_profiles_holds_at_once(ledger: MemoryLedger) -> None:
    def may(permission: str) -> bool:
        person = room.find_person("ada", ledger)
        assert person is not None
        return person.may(permission)

    add("root", ledger, ADMINISTRATOR)
    add("ada", ledger)
    assert not may("home.see")
    room.change_person("ada", ledger, NOW, actor="root", roles=["ml_engineer"])
    assert may("models.waive")
    room.set_role("ml_engineer", "ML engineer", "Less.", ["home.see"], ledger, NOW, actor="root")
    assert may("home.see")
    assert not may("models.waive")
    room.reset_role("ml_engineer", ledger, NOW, actor="root")
    assert may("models.waive")
    room.change_person("ada", ledger, NOW, actor="root", roles=[])
    assert not may("home.see")
    room.add_group("ops", ledger, NOW, actor="root", roles=["devops_engineer"], members=["ada"])
    assert may("deployments.change")
    room.change_group("ops", ledger, NOW, actor="root", roles=["stakeholder"])
    assert not may("deployments.change")
    assert may("models.approve")
    room.remove_group("ops", ledger, NOW, actor="root")
    assert not may("models.approve")
    room.add_group("ops", ledger, NOW, actor="root", roles=["devops_engineer"])
    assert not may("deployments.change"), "a group of the same name later is another group"
    room.change_person("ada", ledger, NOW, actor="root", roles=["ml_engineer"], disabled=True)
    assert not may("home.see")
    assert room.find_person("ada", ledger).disabled  # type: ignore[union-attr]


def test_a_role_of_a_projects_own_is_made_held_and_taken_away(ledger: MemoryLedger) -> None:
    room.set_role("auditor", "Auditor", "Reads the log.", ["audit.see"], ledger, NOW, actor="test")
    assert add("eve", ledger, "auditor").permissions == {"audit.see"}
    with pytest.raises(Refused, match="eve"):
        room.reset_role("auditor", ledger, NOW, actor="test")
    room.change_person("eve", ledger, NOW, actor="test", roles=[])
    room.reset_role("auditor", ledger, NOW, actor="test")
    assert "auditor" not in room.roles(ledger)
    with pytest.raises(NotFound):
        room.change_person("eve", ledger, NOW, actor="test", roles=["auditor"])
    with pytest.raises(UsageError, match=r"audit\.sea"):
        room.set_role("auditor", "Auditor", "", ["audit.sea"], ledger, NOW, actor="test")
    with pytest.raises(Refused):
        room.set_role(ADMINISTRATOR, "Administrator", "Less.", ["home.see"], ledger, NOW, actor="test")


@pytest.mark.parametrize("other", ["ADA", "Ada", "ａｄａ", "ᴬda"])
def test_names_that_differ_in_case_or_form_only_are_one_name(ledger: MemoryLedger, other: str) -> None:
    add("ada", ledger)
    with pytest.raises(Conflict):
        add(other, ledger)
    assert room.find_person(other, ledger) == room.find_person("ada", ledger)


@pytest.mark.parametrize("name", ["", ".", "-ada", "a" * 65, "a b", "a/b", "ada\n", "аda", "a\u200bda", "../etc", "ada'--"])
def test_a_name_that_breaks_the_grammar_is_refused(ledger: MemoryLedger, name: str) -> None:
    with pytest.raises(UsageError):
        add(name, ledger)
    assert room.find_person(name, ledger) is None
    assert room.check_password(name, PASSWORD, ledger, hashing=QUICK) is None


@given(st.text(st.sampled_from("aAkZ09._@-ſKａÅß "), max_size=8))
def test_folding_a_name_twice_is_folding_it_once(name: str) -> None:
    try:
        once = folded(name)
    except UsageError:
        return
    assert folded(once) == once == folded(name.upper()) == folded(name.lower())


def test_of_two_who_change_a_person_one_is_told(ledger: MemoryLedger) -> None:
    seen = add("ada", ledger).version
    room.change_person("ada", ledger, NOW, actor="one", full="Ada L", expect=seen)
    with pytest.raises(Conflict, match="Somebody else"):
        room.change_person("ada", ledger, NOW, actor="two", full="Ada K", expect=seen)
    assert room.version_of("ada", ledger) == seen + 1
    group = room.add_group("ops", ledger, NOW, actor="one")
    room.change_group("ops", ledger, NOW, actor="one", members=["ada"], expect=group.version)
    with pytest.raises(Conflict):
        room.change_group("ops", ledger, NOW, actor="two", members=[], expect=group.version)
    role = room.set_role("stakeholder", "S", "", ["home.see"], ledger, NOW, actor="one", expect=0)
    with pytest.raises(Conflict):
        room.set_role("stakeholder", "S", "", ["runs.see"], ledger, NOW, actor="two", expect=0)
    room.set_role("stakeholder", "S", "", ["runs.see"], ledger, NOW, actor="two", expect=role.version)


def test_the_last_administrator_can_be_neither_disabled_nor_stripped(ledger: MemoryLedger) -> None:
    room.add_group("chiefs", ledger, NOW, actor="test", roles=[ADMINISTRATOR])
    add("ada", ledger, groups=["chiefs"])
    before = room.people(ledger)
    for attempt in (
        lambda: room.change_person("ada", ledger, NOW, actor="ada", disabled=True),
        lambda: room.change_person("ada", ledger, NOW, actor="ada", groups=[]),
        lambda: room.change_group("chiefs", ledger, NOW, actor="ada", roles=["stakeholder"]),
        lambda: room.change_group("chiefs", ledger, NOW, actor="ada", members=[]),
        lambda: room.remove_group("chiefs", ledger, NOW, actor="ada"),
    ):
        events = len(ledger.events_since())
        with pytest.raises(Refused, match="Nobody would be left"):
            attempt()
        assert room.people(ledger) == before
        assert len(ledger.events_since()) == events
    add("bob", ledger, ADMINISTRATOR)
    room.change_person("ada", ledger, NOW, actor="bob", disabled=True)
    with pytest.raises(Refused):
        room.change_person("bob", ledger, NOW, actor="bob", roles=[])


def _ledgers(folder: Path) -> list[Any]:
    return [SqliteLedger(folder / "ledger.db"), PostgresLedger(postgres_url(schema=schema_of(folder)))]


def test_two_administrators_cannot_take_each_other_away_at_the_same_moment(tmp_path: Path) -> None:
    for ledger in _ledgers(tmp_path):
        add("ada", ledger, ADMINISTRATOR)
        add("bob", ledger, ADMINISTRATOR)
        told: list[str] = []
        start = threading.Barrier(2)

        def take(name: str, by: str, ledger: Any = ledger, told: list[str] = told, start: threading.Barrier = start) -> None:
            start.wait()
            try:
                room.change_person(name, ledger, NOW, actor=by, roles=[])
            except (Refused, Conflict) as error:
                told.append(error.code)

        threads = [threading.Thread(target=take, args=pair) for pair in (("ada", "bob"), ("bob", "ada"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told == ["refused"]
        assert len([p for p in room.people(ledger) if p.may("access.change")]) == 1
        ledger.close()


def test_a_change_that_fails_leaves_nothing_behind(ledger: MemoryLedger) -> None:
    add("ada", ledger, ADMINISTRATOR)

    def half() -> None:
        with changing(ledger):
            room.change_person("ada", ledger, NOW, actor="ada", full="Half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert room.find_person("ada", ledger).full == ""  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "password", ["", "short", "elevenchars", "aaaaaaaaaaaaaa", "123456789012", "password1234", "Password123!", "administrator", "ada-lovelace", "Ada-Lovelace1", "qwertyuiop12", "x" * 1001]
)
def test_a_password_that_is_easily_guessed_is_refused(password: str) -> None:
    with pytest.raises(UsageError):
        check_rule(password, "ada-lovelace")


@pytest.mark.parametrize("password", [PASSWORD, "twelve-chars", "ünïcödé wörds", "日本語のパスワードは長くてもいい", "correct horse battery staple!"])
def test_length_is_what_counts_of_a_password(password: str) -> None:
    check_rule(password, "ada")


def test_a_password_is_known_by_its_owner_alone_and_in_any_form_of_unicode(ledger: MemoryLedger) -> None:
    add("ada", ledger, password="caf\u00e9 at the corner")
    add("bob", ledger)
    assert room.check_password("Ada", "cafe\u0301 at the corner", ledger, hashing=QUICK).name == "ada"  # type: ignore[union-attr]
    for name, password in (("ada", "cafe at the corner"), ("bob", "caf\u00e9 at the corner"), ("bob", ""), ("eve", "caf\u00e9 at the corner")):
        assert room.check_password(name, password, ledger, hashing=QUICK) is None
    room.change_person("ada", ledger, NOW, actor="test", disabled=True)
    assert room.check_password("ada", "caf\u00e9 at the corner", ledger, hashing=QUICK) is None


def test_as_much_is_hashed_for_a_name_nobody_has_as_for_a_wrong_password(ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    from argon2 import PasswordHasher, extract_parameters

    add("ada", ledger, password=PASSWORD)
    add("bob", ledger)
    add("off", ledger, password=PASSWORD)
    room.change_person("off", ledger, NOW, actor="test", disabled=True)
    costs: list[Any] = []
    real = PasswordHasher.verify
    monkeypatch.setattr(PasswordHasher, "verify", lambda self, stored, password: (costs.append(extract_parameters(stored)), real(self, stored, password))[1])
    for name, password in (("ada", "not the password"), ("eve", PASSWORD), ("bob", PASSWORD), ("off", PASSWORD), ("not a name", PASSWORD)):
        assert room.check_password(name, password, ledger, hashing=QUICK) is None
    assert len(costs) == 5
    assert len(set(map(str, costs))) == 1


def test_a_hash_of_other_parameters_is_made_anew_at_the_next_sign_in(ledger: MemoryLedger) -> None:
    from treadle.access.passwords import Hashing

    add("ada", ledger, password=PASSWORD)
    stronger = Hashing(passes=2, memory_kib=128, lanes=1)
    assert room.check_password("ada", PASSWORD, ledger, hashing=stronger) is not None
    assert "m=128,t=2" in ledger.get("password", "ada")["hash"]  # type: ignore[index]
    assert room.check_password("ada", PASSWORD, ledger, hashing=stronger) is not None


def test_the_usual_hash_costs_what_rfc_9106_asks_for() -> None:
    from treadle.access.passwords import hashed, matches

    stored = hashed(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert matches(stored, PASSWORD)


def test_what_was_changed_is_written_down_and_no_secret_is(ledger: MemoryLedger, clock: SetClock) -> None:
    room.add_person("ada", ledger, clock, actor="root", full="Ada Lovelace", email="ada@example.org", password=PASSWORD, hashing=QUICK, address="10.0.0.7")
    room.change_person("ada", ledger, clock, actor="root", roles=["architect"], email="a@example.org", address="10.0.0.7")
    room.set_password("ada", "green cows stand still", ledger, clock, actor="ada", hashing=QUICK)
    room.add_group("ops", ledger, clock, actor="root", members=["ada"])
    events = ledger.events_since()
    assert [e.kind for e in events] == ["access.person.added", "access.person.changed", "access.password.set", "access.group.added"]
    assert events[1].body == {"roles": [[], ["architect"]], "email": "changed", "address": "10.0.0.7"}
    assert {e.actor for e in events} == {"root", "ada"}
    written = str(events) + str(room.people(ledger)) + str([r.body for r in ledger.find("person")])
    for secret in (PASSWORD, "green cows", "argon2"):
        assert secret not in written
    assert "example.org" not in str(events)


def test_whoever_starts_a_console_on_their_own_machine_is_its_administrator_unless_there_is_one(ledger: MemoryLedger) -> None:
    from treadle.access.laptop import owner

    first = owner("DOMAIN\\Ada L", ledger, NOW)
    assert (first.name, first.kind, first.own_roles) == ("domain-ada-l", "laptop", (ADMINISTRATOR,))
    assert owner("DOMAIN\\Ada L", ledger, NOW) == first
    assert owner("eve", ledger, NOW).permissions == frozenset()
    assert owner("日本", ledger, NOW).name == "owner"
    people = room.people(ledger)
    room.change_person("eve", ledger, NOW, actor="test", disabled=True)
    assert owner("eve", ledger, NOW).disabled
    assert len(people) == 3
