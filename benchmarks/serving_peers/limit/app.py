"""The least that can be done here: Granian, msgspec and ONNX Runtime on the package's own model. No ids, no log, no metrics, no limits."""

from __future__ import annotations

import asyncio
import json
import sys
from operator import attrgetter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
from granian.constants import Interfaces
from granian.server.embed import Server

FOLDER = Path(sys.argv[2])
FIELDS = ("carrier", "origin", "dest", "distance", "month", "weekday", "minute")
MODEL = json.loads((FOLDER / "manifest.json").read_bytes())["model"]
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = ort.InferenceSession(str(FOLDER / MODEL["file"]), options, providers=["CPUExecutionProvider"])


class Row(msgspec.Struct):
    carrier: str
    origin: str
    dest: str
    distance: float
    month: float
    weekday: float
    minute: float


class Rows(msgspec.Struct):
    rows: list[Row]


one, many, encode = msgspec.json.Decoder(Row).decode, msgspec.json.Decoder(Rows).decode, msgspec.json.Encoder().encode


def column(entry: dict[str, Any]) -> Any:
    get = attrgetter(entry["name"])
    if entry["kind"] == "number":
        mean, scale = float(entry.get("mean", 0.0)), float(entry.get("scale", 1.0))
        return lambda rows: ((np.array([get(row) for row in rows]) - mean) / scale).reshape(-1, 1)
    table = {text: np.asarray(floats, np.float32).tobytes() for text, floats in entry["table"].items()}
    unknown = np.asarray(entry["unknown"], np.float32).tobytes()
    width = len(entry["unknown"])
    return lambda rows: np.frombuffer(b"".join([table.get(get(row), unknown) for row in rows]), np.float32).reshape(-1, width)


columns = [column(entry) for entry in MODEL["encoder"]]


def answer(body: bytes) -> bytes:
    rows = many(body).rows if body.startswith(b'{"rows"') else [one(body)]
    matrix = np.concatenate([of(rows) for of in columns], axis=1, dtype=np.float32)
    return encode({"predictions": session.run(("output",), {"input": matrix})[0][:, 1].tolist()})


async def app(scope: Any, protocol: Any) -> None:
    protocol.response_bytes(200, [("content-type", "application/json")], answer(await protocol()))


if __name__ == "__main__":
    server = Server(app, address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.RSGI, websockets=False, log_enabled=False)
    asyncio.run(server.serve())
