"""Streams: what is bounded, what is set aside, and what is said when messages were lost before they were read."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import redis
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

import treadle as tr
from treadle.backends.catalog import open_source
from treadle.core.errors import DataError, Unavailable
from treadle.data import sources
from treadle.data.sources import Extract
from treadle.testing import servers

CONTRACT = tr.Contract({"id": tr.integer(), "v": tr.number(nullable=True)}, at_most=1.0)


class Topic:
    """A topic of a broker: `send` puts messages into it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder, self.name = kind, folder, servers.schema_of(folder)
        if kind == "redis":
            self.client = redis.Redis(port=servers.redis().port)
            self.url = f"redis://127.0.0.1:{servers.redis().port}/0"
        else:
            self.url = f"kafka://127.0.0.1:{servers.kafka().port}"
            self._admin = AdminClient({"bootstrap.servers": self.url.removeprefix("kafka://")})
            self._admin.create_topics([NewTopic(self.name, 1, 1)])[self.name].result(60)
            self._producer = Producer({"bootstrap.servers": self.url.removeprefix("kafka://"), "batch.num.messages": 1})

    def send(self, *messages: Any) -> None:
        for message in messages:
            data = message if isinstance(message, bytes) or message is None else json.dumps(message).encode()
            if self.kind == "redis":
                self.client.xadd(self.name, {"json": data} if data is not None else {"other": b"1"})
            else:
                self._producer.produce(self.name, value=data)
        if self.kind != "redis":
            assert self._producer.flush(60) == 0

    def dataset(self, **declared: Any) -> Any:
        options = {"field": "json"} if self.kind == "redis" else {}
        key = declared.pop("key", "id")
        return tr.Project("p").dataset("events", source=tr.stream(self.url, topic=self.name, **options, **declared), key=key, contract=CONTRACT)

    def extract(self, since: Any = None, **declared: Any) -> Extract:
        return sources.extract(self.dataset(**declared), self.folder, since, lambda source: open_source(source, self.folder))

    def fingerprint(self, since: Any = None) -> str | None:
        return sources.fingerprint(self.dataset(), self.folder, lambda source: open_source(source, self.folder), since)


@pytest.fixture(params=["redis", "kafka"])
def topic(request: pytest.FixtureRequest, tmp_path: Path) -> Topic:
    return Topic(request.param, tmp_path)


def test_a_message_that_does_not_read_is_set_aside_with_its_place_and_the_stream_goes_on(topic: Topic) -> None:
    topic.send({"id": 1, "v": 1.5}, b"{broken", b"\xff\xfe", b"[1, 2]", None, {"id": 2, "v": "NaN?"}, {"id": 3})
    first = topic.extract()
    assert [(u.column, u.text) for u in first.unparsed][:3] == [("message", "{broken"), ("message", "\\xff\\xfe"), ("message", "[1, 2]")]
    assert first.unparsed[3].text == "(no value: a tombstone)"
    assert (first.unparsed[4].column, first.unparsed[4].text) == ("v", "NaN?")
    broken = [first.frame.row(u.row, named=True) for u in first.unparsed]
    assert all(row["stream_id"] and row["stream_time"] is not None for row in broken)
    assert [row["id"] for row in broken] == [None, None, None, None, 2]
    assert sorted(i for i in first.frame["id"] if i is not None) == [1, 2, 3]
    topic.send({"id": 4})
    assert topic.extract(first.position).frame["id"].to_list() == [4]


def test_poison_alone_does_not_stop_it_either(topic: Topic) -> None:
    topic.send({"id": 1})
    first = topic.extract()
    topic.send(b"poison")
    second = topic.extract(first.position)
    assert (second.frame.height, len(second.unparsed), second.frame["id"].to_list()) == (1, 1, [None])
    topic.send({"id": 2})
    assert topic.extract(second.position).frame["id"].to_list() == [2]


def test_of_messages_about_one_row_the_last_counts_however_they_are_cut_into_versions(topic: Topic) -> None:
    topic.send({"id": 1, "v": 1}, {"id": 2, "v": 1}, {"id": 1, "v": 2}, {"id": 1, "v": "bad"})
    found = topic.extract()
    assert found.frame.select("id", "v").rows() == [(2, 1.0), (1, 2.0), (1, None)]  # the last does not read, and is set aside
    assert [(u.row, u.text) for u in found.unparsed] == [(2, "bad")]


def test_each_message_can_be_a_row_of_its_own(topic: Topic) -> None:
    topic.send({"id": 1}, {"id": 1}, {"id": 1})
    assert topic.extract(key="stream_id").frame.height == 3


def test_a_version_takes_in_no_more_than_was_declared_and_the_next_the_rest(topic: Topic) -> None:
    topic.send(*({"id": n} for n in range(25)))
    seen: list[int] = []
    position, rounds = None, 0
    while True:
        found = topic.extract(position, most_rows=10)
        seen += found.frame["id"].to_list()
        position, rounds = found.position, rounds + 1
        if not found.more:
            break
        assert found.frame.height == 10
    assert (seen, rounds) == (list(range(25)), 3)
    assert topic.extract(most_megabytes=0.0001).frame.height < 25


def test_the_fingerprint_is_none_while_something_waits(topic: Topic) -> None:
    topic.send(*({"id": n} for n in range(5)))
    dataset = topic.dataset(most_rows=2)

    def reach(source: Any) -> Any:
        return open_source(source, topic.folder)

    part = sources.extract(dataset, topic.folder, None, reach)
    assert sources.fingerprint(dataset, topic.folder, reach, part.position) is None
    assert sources.fingerprint(dataset, topic.folder, reach) is not None


def test_columns_nobody_declared_are_text_whoever_sent_first(topic: Topic) -> None:
    topic.send({"id": 1, "extra": 5, "deep": {"a": [1]}, "ok": True})
    first = topic.extract()
    topic.send({"id": 2, "extra": "five"})
    second = topic.extract(first.position)
    assert first.frame.select("extra", "deep", "ok").row(0) == ("5", '{"a":[1]}', "true")
    assert first.frame.schema["extra"] == second.frame.schema["extra"] == pl.String


def test_a_stricter_contract_reads_again_what_is_left_and_keeps_the_rest(topic: Topic) -> None:
    topic.send({"id": 1})
    first = topic.extract()
    strict = tr.Project("p").dataset(
        "events", source=topic.dataset().source, key="id", contract=tr.Contract({"id": tr.integer(ge=0), "v": tr.number(nullable=True)})
    )
    again = sources.extract(strict, topic.folder, first.position, lambda source: open_source(source, topic.folder))
    assert (again.full, again.frame["id"].to_list()) == (False, [1])


def test_reading_leaves_no_trace_at_the_broker(tmp_path: Path) -> None:
    topic = Topic("redis", tmp_path)
    topic.send({"id": 1}, {"id": 2})
    before = topic.client.xinfo_stream(topic.name, full=True)
    topic.extract()
    topic.fingerprint()
    assert topic.client.xinfo_stream(topic.name, full=True) == before
    kafka = Topic("kafka", tmp_path)
    kafka.send({"id": 1})
    kafka.extract()
    groups = kafka._admin.list_consumer_groups().result(60)
    assert [g.group_id for g in groups.valid if "treadle" in g.group_id] == []


# Messages that are gone


def test_messages_that_redis_dropped_unread_are_a_refusal_until_it_is_declared(tmp_path: Path) -> None:
    topic = Topic("redis", tmp_path)
    topic.send(*({"id": n} for n in range(10)))
    first = topic.extract()
    topic.send(*({"id": n} for n in range(10, 20)))
    topic.client.xtrim(topic.name, maxlen=10, approximate=False)
    assert topic.extract(first.position).frame["id"].to_list() == list(range(10, 20))  # only what had been read was dropped
    topic.client.xtrim(topic.name, maxlen=7, approximate=False)
    with pytest.raises(DataError, match="has lost at least 3 messages that were never read") as caught:
        topic.extract(first.position)
    assert "after_gap='go_on'" in str(caught.value.hint)
    position = {**first.position, "source": topic.extract(after_gap="go_on").position["source"]}
    left = topic.extract(position, after_gap="go_on")
    assert left.frame["id"].to_list() == list(range(13, 20))
    assert topic.extract(left.position, after_gap="go_on").frame.height == 0


def test_a_redis_stream_that_was_made_anew_is_a_refusal(tmp_path: Path) -> None:
    topic = Topic("redis", tmp_path)
    topic.send(*({"id": n} for n in range(3)))
    first = topic.extract()
    topic.client.delete(topic.name)
    topic.client.xadd(topic.name, {"json": b'{"id": 7}'}, id="5-1")
    with pytest.raises(DataError, match="was made anew"):
        topic.extract(first.position)


def test_a_kafka_topic_that_was_made_anew_is_a_refusal(tmp_path: Path) -> None:
    topic = Topic("kafka", tmp_path)
    topic.send({"id": 1})
    position = topic.extract().position
    position["at"]["offsets"]["0"] = 9  # as if it had held more before
    with pytest.raises(DataError, match="was made anew: partition 0 ends at offset 1, and 9 had been read"):
        topic.extract(position)


def test_messages_that_kafka_dropped_unread_are_a_refusal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from treadle.backends.kafka_source import KafkaSource

    topic = Topic("kafka", tmp_path)
    topic.send({"id": 1}, {"id": 2}, {"id": 3})
    first = topic.extract(most_rows=1)
    real = KafkaSource._ends
    # What the broker says after its retention has passed: this one keeps everything.
    monkeypatch.setattr(KafkaSource, "_ends", lambda self, consumer: {n: (2, high) for n, (_, high) in real(self, consumer).items()})
    with pytest.raises(DataError, match="has lost the messages from offset 1 to 2 of partition 0"):
        topic.extract({**first.position, "source": topic.extract().position["source"]})


def test_a_wrong_type_of_key_and_a_wrong_setting_are_named(tmp_path: Path) -> None:
    topic = Topic("redis", tmp_path)
    topic.client.set(topic.name, "text")
    with pytest.raises(DataError, match="is no stream"):
        topic.extract()
    kafka = Topic("kafka", tmp_path)
    kafka.url += "?no.such.setting=1"
    with pytest.raises(DataError, match=r"a setting that the Kafka client refuses.*no\.such\.setting"):
        kafka.extract()


def test_a_broker_that_is_killed_while_nobody_reads_is_unavailable_and_loses_nothing(tmp_path: Path) -> None:
    server = servers.Server(
        ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--dir", "{folder}", "--appendonly", "yes", "--appendfsync", "always"],
        servers._folder("treadle-redis-"),
    )
    try:
        topic = Topic.__new__(Topic)
        topic.kind, topic.folder, topic.name = "redis", tmp_path, "events"
        topic.client, topic.url = redis.Redis(port=server.port), f"redis://127.0.0.1:{server.port}/0"
        topic.send({"id": 1})
        first = topic.extract()
        topic.send({"id": 2})
        server.stop(9, keep=True)
        with pytest.raises(Unavailable, match=f"Redis at 127.0.0.1:{server.port} does not answer"):
            topic.extract(first.position)
        server.start()
        assert topic.extract(first.position).frame["id"].to_list() == [2]
    finally:
        server.stop()


def test_a_reader_that_is_killed_after_reading_has_lost_nothing(topic: Topic) -> None:
    topic.send(*({"id": n} for n in range(50)))
    code = f"""
import sys, time
import treadle as tr
from pathlib import Path
from treadle.backends.catalog import open_source
source = tr.stream({topic.url!r}, topic={topic.name!r}, field={"json" if topic.kind == "redis" else ""!r})
print(open_source(source, Path(".")).read().frame.height, flush=True)
time.sleep(600)
"""
    reader = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    assert reader.stdout.readline().strip() == "50"
    reader.kill()  # before it could record what it had read
    reader.wait()
    assert topic.extract().frame.height == 50


def test_reading_ends_though_others_keep_sending(tmp_path: Path) -> None:
    topic = Topic("redis", tmp_path)
    topic.send({"id": 0})
    code = f"import redis\nr = redis.Redis(port={servers.redis().port})\nn = 0\nwhile True:\n    n += 1\n    r.xadd({topic.name!r}, {{'json': '{{\"id\": %d}}' % n}})"
    writer = subprocess.Popen([sys.executable, "-c", code])
    try:
        position, seen, began = None, [], time.monotonic()
        while len(seen) < 500 and time.monotonic() - began < 120:
            found = topic.extract(position)
            seen += found.frame["id"].to_list()
            position = found.position
    finally:
        writer.kill()
        writer.wait()
    seen += topic.extract(position).frame["id"].to_list()
    assert seen == list(range(len(seen)))
