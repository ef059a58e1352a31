"""What a store that can forget for good promises: nothing is left out of `everything`, and nothing of what was replaced is left in its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from treadle.core.records import Link, Point, Ref

SECRET = "quarrowby-0042-secret"


class ScrubContract:
    """Subclass, and say how a ledger is made and where its files are."""

    def make(self, folder: Path) -> Any:
        raise NotImplementedError

    def files(self, folder: Path) -> list[Path]:
        raise NotImplementedError

    def test_everything_gives_each_record_link_event_and_metric_name(self, tmp_path: Path) -> None:
        ledger = self.make(tmp_path)
        ledger.put("run", "r-1", {"note": "first \x00 é"})
        ledger.put("model_version", "m.v1", {"n": 1})
        ledger.link(Link(Ref("model_version", "m.v1"), "made_by", Ref("run", "r-1")))
        event = ledger.append("run.done", Ref("run", "r-1"), {"seconds": 3})
        ledger.log_points([Point("r-1", "loss", 0.5), Point("r-1", "loss", 0.4)])
        told = {(ref.kind, ref.id): text for ref, text in ledger.everything()}
        assert len(told) == 5
        assert "first" in told["run", "r-1"]
        assert "m.v1" in told["model_version", "m.v1"]
        assert "seconds" in told["event", str(event.seq)]
        assert "made_by" in told["link", "1"]
        assert "loss" in told["metric", "1"]

    def test_everything_goes_through_more_records_than_a_page(self, tmp_path: Path) -> None:
        ledger = self.make(tmp_path)
        with ledger.transaction():
            for n in range(5_050):
                ledger.put("trial", f"t-{n:05d}", {"n": n})
                ledger.append("tick", Ref("trial", "t"))
        found = [ref for ref, _ in ledger.everything()]
        assert sum(r.kind == "trial" for r in found) == 5_050 == len({r.id for r in found if r.kind == "trial"})
        assert sum(r.kind == "event" for r in found) == 5_050

    def test_what_was_replaced_is_in_no_file_after_scrubbing_and_the_rest_is_whole(self, tmp_path: Path) -> None:
        ledger = self.make(tmp_path)
        for n in range(300):
            ledger.put("run", f"r-{n}", {"note": f"{SECRET} {n} " + "x" * 400})
            ledger.append("run.started", Ref("run", f"r-{n}"))
        for n in range(300):
            ledger.put("run", f"r-{n}", {"note": f"nothing {n}"})
        before = self.files(tmp_path)
        assert not before or any(SECRET.encode() in path.read_bytes() for path in before), "there was something to find"
        assert ledger.scrub() == []
        held = [path for path in self.files(tmp_path) if SECRET.encode() in path.read_bytes()]
        assert held == []
        assert not any(SECRET in text for _, text in ledger.everything())
        assert ledger.verify_chain() == 300
        assert ledger.get("run", "r-7")["note"] == "nothing 7"
        ledger.put("run", "r-7", {"note": "again"})
        assert ledger.get("run", "r-7").version == 3

    def test_scrubbing_what_others_hold_open_works(self, tmp_path: Path) -> None:
        ledger, other = self.make(tmp_path), self.make(tmp_path)
        ledger.put("run", "r-1", {"note": SECRET})
        assert other.get("run", "r-1") is not None
        ledger.put("run", "r-1", {"note": ""})
        assert ledger.scrub() == []
        assert other.get("run", "r-1")["note"] == ""
