"""Messages of a Kafka topic, from any broker that speaks its protocol. Partitions are read by offset; no group is joined and no offset committed.

A position is the next offset of each partition. Aborted transactions are left out. A message is a JSON object in its value.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import polars as pl
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from treadle.backends.source_address import read_address
from treadle.backends.stream_rows import after_gap
from treadle.core.canonical import digest
from treadle.core.declare.source import Source
from treadle.core.errors import DataError, TreadleError, Unavailable
from treadle.ports.source import Rows

ANSWER_SECONDS = 10.0  # for the broker to say what it has
_PAGE = 10_000  # messages taken from the client's queue at once
_DOWN = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT, KafkaError._TIMED_OUT_QUEUE}
_WHO = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}
_MAY = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}


class KafkaSource:
    """A topic as a connector."""

    forgets = True

    def __init__(self, source: Source, folder: object) -> None:
        self._asked, self._address = source.options, read_address(source.options["url"])
        self._topic = str(source.options["topic"])
        self.shown = f"{self._address.shown} {self._topic}"
        self._said: list[KafkaError] = []

    def fingerprint(self, since: Mapping[str, Any] | None = None) -> str | None:
        with self._open() as consumer:
            ends = {number: high for number, (_, high) in self._ends(consumer).items()}
        if since and any(since["offsets"].get(str(number), 0) < high for number, high in ends.items()):
            return None
        return digest(sorted(ends.items()))

    def read(self, since: Mapping[str, Any] | None = None) -> Rows:
        until = time.monotonic() + self._asked["within"]
        with self._open() as consumer:
            ends = self._ends(consumer)
            starts = {number: self._start(number, low, high, since) for number, (low, high) in ends.items()}
            found: list[Any] = []
            size = 0
            left = {number for number, (_, high) in ends.items() if starts[number] < high}
            consumer.assign([TopicPartition(self._topic, number, starts[number]) for number in sorted(left)])
            answered = time.monotonic()
            while left and len(found) < self._asked["most_rows"] and size < self._asked["most_bytes"] and time.monotonic() < until:
                messages = consumer.consume(min(_PAGE, self._asked["most_rows"] - len(found)), 0.5)
                if any(message.error() is None for message in messages):
                    answered = time.monotonic()
                elif time.monotonic() - answered > ANSWER_SECONDS:
                    if not found:
                        raise self._failure(self._said[-1] if self._said else KafkaError(KafkaError._TIMED_OUT))
                    break  # what came is good; the rest comes next time
                for message in messages:
                    number, error = message.partition(), message.error()
                    if error is not None:
                        if error.code() == KafkaError._PARTITION_EOF:
                            # Not each offset holds a message: some mark the end of a transaction. And not each broker's first end is the end.
                            starts[number] = max(starts[number], message.offset())
                            if starts[number] >= ends[number][1]:
                                left.discard(number)
                        elif error.code() not in _DOWN:
                            raise self._failure(error)
                        continue
                    high = ends[number][1]
                    if message.offset() >= high:
                        left.discard(number)
                        continue
                    if number not in left or size >= self._asked["most_bytes"]:
                        continue
                    found.append(message)
                    size += len(message.value() or b"") + len(message.key() or b"")
                    starts[number] = message.offset() + 1
                    if starts[number] >= high:
                        left.discard(number)
        found.sort(key=lambda message: (message.timestamp()[1], message.partition(), message.offset()))
        position = {"offsets": {str(number): offset for number, offset in sorted(starts.items())}}
        return Rows(_frame(found), position, full=since is None, messages=True, more=bool(left))

    def _start(self, number: int, low: int, high: int, since: Mapping[str, Any] | None) -> int:
        known = since["offsets"].get(str(number)) if since else None
        if known is None:
            return low
        if known > high:
            after_gap(self._asked, self.shown, f"was made anew: partition {number} ends at offset {high}, and {known} had been read")
            return low
        if known < low:
            after_gap(self._asked, self.shown, f"has lost the messages from offset {known} to {low} of partition {number}, which were never read")
        return int(max(low, known))

    def _ends(self, consumer: Consumer) -> dict[int, tuple[int, int]]:
        found = consumer.list_topics(self._topic, timeout=ANSWER_SECONDS).topics[self._topic]
        if found.error is not None:
            if found.error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
                known = sorted(t for t in consumer.list_topics(timeout=ANSWER_SECONDS).topics if not t.startswith("__"))[:30]
                hint = f"There are: {', '.join(known)}." if known else "The broker has no topics."
                raise DataError(f"There is no topic {self._topic!r}.", where=self.shown, hint=hint)
            raise self._failure(found.error)
        return {n: consumer.get_watermark_offsets(TopicPartition(self._topic, n), timeout=ANSWER_SECONDS) for n in sorted(found.partitions)}

    def _open(self) -> _Opened:
        return _Opened(self)

    def consumer(self) -> Consumer:
        """A client of its own. Raises DataError for settings that librdkafka does not know."""
        settings: dict[str, Any] = {
            "bootstrap.servers": self._address.hosts, "group.id": "treadle-never-joined",
            "enable.auto.commit": False, "enable.auto.offset.store": False,
            "enable.partition.eof": True, "isolation.level": "read_committed", "auto.offset.reset": "error", "allow.auto.create.topics": False,
            "socket.connection.setup.timeout.ms": 10_000, "client.id": "treadle", "error_cb": self._said.append, "log_level": 0,
        }  # fmt: skip
        if self._address.user:
            settings |= {"sasl.username": self._address.user, "sasl.password": self._address.password}
        try:
            return Consumer({**settings, **self._address.query})
        except (KafkaException, ValueError, TypeError) as error:
            said = error.args[0].str() if error.args and isinstance(error.args[0], KafkaError) else str(error)
            raise DataError(
                f"The address has a setting that the Kafka client refuses: {self._address.safe(said)}.", where=self.shown,
                hint="After '?' stand settings of librdkafka, such as security.protocol=SASL_SSL.",
            ) from None  # fmt: skip

    def _failure(self, error: KafkaError) -> TreadleError:
        said, code = self._address.safe(error.str()).rstrip("."), error.code()
        if code in _WHO or any(e.code() in _WHO for e in self._said):
            return DataError(
                "The broker does not accept this user and password.", where=self.shown, hint="Check the variable that holds the password."
            )
        if code in _MAY:
            return DataError(f"The broker does not allow it ({said}).", where=self.shown, hint="The user needs READ and DESCRIBE for the topic.")
        if code in _DOWN or error.retriable():
            return Unavailable(
                f"No broker at {self._address.hosts} answers: {said}.",
                where=self.shown,
                hint="Check that it runs there and can be reached from here.",
            )
        return DataError(f"The broker refused to read: {said}.", where=self.shown)

    def failure(self, error: KafkaException) -> TreadleError:
        """The house's error for Kafka's."""
        return self._failure(error.args[0])


class _Opened:
    """A client that is closed, and whose failures are the house's."""

    def __init__(self, source: KafkaSource) -> None:
        self._source = source

    def __enter__(self) -> Consumer:
        self._consumer = self._source.consumer()
        return self._consumer

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with suppress(KafkaException, RuntimeError):
            self._consumer.close()
        if isinstance(error, KafkaException):
            raise self._source.failure(error) from None


def _frame(found: list[Any]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            pl.Series("stream_id", [f"{m.partition()}-{m.offset()}" for m in found], dtype=pl.String),
            pl.Series("stream_time", [m.timestamp()[1] if m.timestamp()[0] else None for m in found], dtype=pl.Datetime("ms", "UTC")).cast(
                pl.Datetime("us", "UTC")
            ),
            pl.Series("value", [m.value() for m in found], dtype=pl.Binary),
        ]
    )
