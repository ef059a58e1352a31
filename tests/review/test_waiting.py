"""One list of all that waits for a person, the oldest first, and for whom."""

from __future__ import annotations

from treadle.assemble import Workspace
from treadle.core.records import Ref
from treadle.report.waiting import Waits, waiting
from treadle.review import notes, owners


def test_steps_reactions_handovers_and_requests_stand_in_one_list(tiny: Workspace) -> None:
    ledger, clock, run = tiny.ledger, tiny.clock, Ref("run", "run-1")
    ledger.put("run", "run-1", {"status": "waiting", "by": "rosa", "cause": {}})
    ledger.put("approval", "run-1:ok", {"run": "run-1", "step": "ok", "status": "waiting", "question": "Publish?"})
    ledger.put("approval", "run-1:no", {"run": "run-1", "step": "no", "status": "approved", "question": "Really?"})
    ledger.put("reaction", "reaction-1", {"status": "asks", "answer": None, "version": 2, "model": "m", "said": "moves 12 %"})
    ledger.put("reaction", "reaction-2", {"status": "asks", "answer": {"yes": True}, "version": 3, "model": "m", "said": ""})
    owners.hand_over(run, "bob", ledger, clock, by="ann")
    change = notes.write(run, "drop it", ledger, clock, by="ann", kind="change", to=["team"])
    found = waiting(tiny)
    assert [w.kind for w in found] == ["step", "reaction", "handover", "change"]
    assert (found[0].about, found[0].id, found[0].text, found[0].by, found[0].permission) == (run, "ok", "Publish?", "rosa", "models.approve")
    assert (found[1].permission, found[3].id) == ("alarms.answer", change.id)
    assert [w.kind for w in waiting(tiny, person="Bob")] == ["step", "reaction", "handover"]
    assert [w.kind for w in waiting(tiny, person="carl", groups=["team"])] == ["step", "reaction", "change"]


def test_what_is_ones_own_does_not_wait_for_one() -> None:
    own = Waits("version", Ref("model_version", "late.v1"), "late.v1", "", "", "", to=("ann", "team"), not_by={"ann": "ann made it"})
    assert (own.asks("ANN"), own.asks("bob"), own.asks("bob", ["Team"])) == (False, False, True)
