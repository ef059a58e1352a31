"""What every notifier must do: the promises of `treadle.ports.notifier`, one test each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from treadle.core.errors import Unavailable
from treadle.ports.notifier import Message, Notifier

ALARM = Message("alarm-1", "Late arrivals drift", 'Column "origin"\nmoved: żółw 🚲', severity="warning", link="http://localhost:8080/alarms/alarm-1")


class NotifierContract:
    """Inherit, and say how to make one that works, one whose receiver does not, and how to read what was received."""

    def make(self, folder: Path) -> Notifier:
        raise NotImplementedError

    def make_broken(self, folder: Path) -> Notifier:
        raise NotImplementedError

    def received(self, folder: Path) -> Sequence[Mapping[str, Any]]:
        raise NotImplementedError

    def test_a_message_arrives_whole(self, tmp_path: Path) -> None:
        self.make(tmp_path).send(ALARM)
        [got] = self.received(tmp_path)
        assert {name: got[name] for name in asdict(ALARM)} == asdict(ALARM)

    def test_messages_arrive_in_order_and_a_repeat_keeps_its_id(self, tmp_path: Path) -> None:
        notifier = self.make(tmp_path)
        for id in ("a", "b", "a"):
            notifier.send(Message(id, "title", "text"))
        assert [got["id"] for got in self.received(tmp_path)] == ["a", "b", "a"]

    def test_a_message_that_cannot_be_handed_over_is_said_to_be(self, tmp_path: Path) -> None:
        notifier = self.make_broken(tmp_path)
        with pytest.raises(Unavailable) as caught:
            notifier.send(ALARM)
        assert caught.value.transient
