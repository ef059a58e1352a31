"""Answers rows with a model that runs code of its own. Run by path, by an interpreter of its own: it imports nothing of Treadle.

    python isolated_worker.py mlmodel FOLDER | pickle FILE

Frames go both ways: eight bytes of length, a JSON header, eight bytes of length, bytes. What the model prints goes to standard error.
"""

import json
import os
import struct
import sys
from array import array
from typing import Any, BinaryIO, Callable, Optional, Tuple  # noqa: UP035  # its interpreter may be an older one

Answer = Callable[[Any, bytes], Any]

MEMORY = 8 << 30  # bytes of address space the model may take


def _alone() -> None:
    """End with the parent, and take no more memory than is allowed."""
    import resource
    import threading
    import time

    parent = os.getppid()

    def watch() -> None:  # not PR_SET_PDEATHSIG: that ends the process with the thread that started it
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _read(stream: BinaryIO) -> Optional[Tuple[Any, bytes]]:  # noqa: UP006, UP045
    """A header and its bytes; None at the end."""
    parts = []
    for _ in range(2):
        head = stream.read(8)
        if len(head) < 8:
            return None
        parts.append(stream.read(struct.unpack(">Q", head)[0]))
    return json.loads(parts[0]), parts[1]


def _write(stream: BinaryIO, header: Any, content: bytes = b"") -> None:
    text = json.dumps(header).encode()
    stream.write(struct.pack(">Q", len(text)) + text + struct.pack(">Q", len(content)) + content)
    stream.flush()


def _mlmodel(folder: str) -> Answer:
    import mlflow.pyfunc
    import numpy as np
    import pandas as pd

    model = mlflow.pyfunc.load_model(folder, suppress_warnings=True)

    def answer(header: Any, content: bytes) -> Any:
        if header.get("tensor"):
            asked = np.array([row[0] for row in header["rows"]], dtype=header["tensor"]).reshape(-1, *header["shape"])
        else:
            asked = pd.DataFrame(header["rows"], columns=header["columns"])
            for name, kind in header["types"].items():
                asked[name] = pd.to_datetime(asked[name], utc=True).dt.tz_localize(None) if kind == "datetime64[ns]" else asked[name].astype(kind)
        said = model.predict(asked)
        if isinstance(said, dict):
            said = pd.DataFrame(said)
        if header.get("output"):
            said = said[header["output"]]
        return np.asarray(said)

    return answer


def _pickle(path: str) -> Answer:
    import pickle

    import numpy as np

    with open(path, "rb") as file:
        model = pickle.load(file)
    ask = getattr(model, "predict_proba", None)

    def answer(header: Any, content: bytes) -> Any:
        rows = np.frombuffer(content, dtype=np.float32).reshape(header["shape"]).copy()
        return np.asarray(ask(rows) if header["classifies"] and ask is not None else model.predict(rows))

    return answer


def main() -> None:
    _alone()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the model prints is no answer
    into = os.fdopen(os.dup(0), "rb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        answer = {"mlmodel": _mlmodel, "pickle": _pickle}[sys.argv[1]](sys.argv[2])
    except BaseException as error:
        _write(out, {"error": f"{type(error).__name__}: {error}"[:2000]})
        return
    _write(out, {"ready": True})
    while True:
        asked = _read(into)
        if asked is None:
            return
        try:
            said = answer(*asked)
            if said.dtype.kind in "fiub" and said.dtype.kind != "O":
                numbers = said.astype("float64")
                _write(out, {"shape": list(said.shape), "kind": said.dtype.kind}, array("d", numbers.ravel().tolist()).tobytes())
            else:
                _write(out, {"shape": list(said.shape), "kind": "O", "values": [str(v) for v in said.ravel().tolist()]})
        except Exception as error:
            _write(out, {"error": f"{type(error).__name__}: {error}"[:2000]})


if __name__ == "__main__":
    main()
