"""One workspace in the hands of several people: what they do bears their names, what is opened is opened once."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import pytest

from treadle.assemble import Names, Workspace
from treadle.core.errors import UsageError
from treadle.core.records import Ref


def test_who_acts_for_another_person_bears_their_name_and_shares_what_is_opened(tiny: Workspace) -> None:
    ann = tiny.acting_as("ann")
    assert (ann.actor, ann.acting_as("bob").actor) == ("ann", "bob")
    assert tiny.actor != "ann"
    assert ann.ledger is tiny.ledger is ann.acting_as("bob").ledger
    assert (ann.blobs is tiny.blobs, ann.project is tiny.project, ann.notifiers is tiny.notifiers) == (True, True, True)
    ann.ledger.append("looked", Ref("model", "late"), actor=ann.actor)
    assert [e.actor for e in tiny.ledger.events_since()] == ["ann"]


def test_what_one_of_them_closes_stays_open_for_the_others(tiny: Workspace) -> None:
    ann = tiny.acting_as("ann")
    workers = ann.workers
    ann.close()
    assert tiny.workers is workers
    assert (ann.has_opened("workers"), ann.has_opened("online")) == (True, False)
    tiny.close()
    assert not ann.has_opened("workers")


def test_many_threads_open_one_ledger(tiny: Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: tiny.acting_as(f"p{n}").ledger, range(32)))
    assert len({id(one) for one in found}) == 1


@pytest.mark.parametrize("name", ["", "  ", "treadle", "treadle (endpoint)"])
def test_nobody_acts_as_nobody_or_as_treadle_itself(tiny: Workspace, name: str) -> None:
    with pytest.raises(UsageError, match="Nobody can act as"):
        tiny.acting_as(name)


def test_the_name_goes_along_to_other_processes(tiny: Workspace) -> None:
    there = pickle.loads(pickle.dumps(Names(tiny.acting_as("ann")))).thing(("workspace",))
    assert (there.actor, there.folder) == ("ann", tiny.folder)
