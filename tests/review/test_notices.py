"""Notices: who is told, once for one cause; what each has read; and what reaches the project's notifiers."""

from __future__ import annotations

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock
from treadle.core.errors import NotFound, Unavailable
from treadle.core.records import Ref
from treadle.ports.notifier import Message
from treadle.review import notes, notices

RUN = Ref("run", "run-1")


class Kept:
    """A notifier that keeps what it gets, and may be out of order."""

    def __init__(self, *, repeats: bool = False) -> None:
        self.got: list[Message] = []
        self.broken, self.repeats = False, repeats

    def send(self, message: Message) -> None:
        if self.broken:
            raise Unavailable("no")
        self.got.append(message)


def test_each_member_of_a_group_reads_for_themselves_and_nobody_is_told_of_their_own(ledger: MemoryLedger, clock: ReplayClock) -> None:
    notes.write(RUN, "look, @team and @bob and @ann", ledger, clock, by="ann")
    told = {name: notices.notices(name, ledger, groups=["team"]) for name in ("ann", "bob", "carl")}
    assert {name: len(found) for name, found in told.items()} == {"ann": 0, "bob": 1, "carl": 1}
    assert notices.read([told["bob"][0].id], "bob", ledger, clock, groups=["team"]) == 1
    assert notices.read([told["bob"][0].id], "Bob", ledger, clock, groups=["team"]) == 0
    assert (notices.unread("bob", ledger, groups=["team"]), notices.unread("carl", ledger, groups=["team"])) == (0, 1)


def test_the_unread_come_first_then_the_newest(ledger: MemoryLedger, clock: ReplayClock) -> None:
    for n in range(4):
        notes.write(RUN, f"{n} @bob", ledger, clock, by="ann")
    newest = notices.notices("bob", ledger)
    notices.read([newest[0].id, newest[2].id], "bob", ledger, clock)
    assert [n["text"][-6] for n in notices.notices("bob", ledger)] == ["2", "0", "3", "1"]
    assert len(notices.notices("bob", ledger, limit=3)) == 3
    assert [n["text"][-6] for n in notices.notices("bob", ledger, unread=True)] == ["2", "0"]


def test_nobody_marks_anothers_notice(ledger: MemoryLedger, clock: ReplayClock) -> None:
    notes.write(RUN, "@bob", ledger, clock, by="ann")
    [notice] = notices.notices("bob", ledger)
    for id in (notice.id, "notice-0"):
        try:
            notices.read([id], "eve", ledger, clock)
        except NotFound:
            continue
        raise AssertionError("she read it")
    assert notices.unread("bob", ledger) == 1


def test_a_long_text_is_cut_and_the_same_cause_is_told_once(ledger: MemoryLedger, clock: ReplayClock) -> None:
    for _ in range(2):
        notices.tell(RUN, ["bob", "Bob"], "approval", "x" * 5000, ledger, clock, by="ann", because="once")
    [notice] = notices.notices("bob", ledger)
    assert len(notice["text"]) == notices.SHOWN
    assert notices.tell(RUN, [], "approval", "x", ledger, clock, by="ann", because="nobody") == []


def test_notifiers_get_one_message_a_cause_and_again_what_one_did_not_take(ledger: MemoryLedger, clock: ReplayClock) -> None:
    good, bad, alarms_only = Kept(), Kept(), Kept(repeats=True)
    bad.broken = True
    notes.write(RUN, "look @bob @team {{7*7}}", ledger, clock, by="ann")
    assert notices.deliver(ledger, [good, bad, alarms_only]) == 0
    bad.broken = False
    assert notices.deliver(ledger, [good, bad, alarms_only]) == 1
    assert notices.deliver(ledger, [good, bad, alarms_only]) == 0
    assert (len(good.got), len(bad.got), alarms_only.got) == (1, 1, [])
    assert good.got[0].title == "For bob, team: mention about run/run-1"
    assert good.got[0].text == "ann wrote to you: look @bob @team {{7*7}}"
    assert [e.kind for e in ledger.events_since(kinds=["notice."])] == ["notice.not_sent"]
