"""Talking to what Treadle runs, over HTTP and with the standard library alone: an endpoint that answers, and the server that shows the loop.

>>> from treadle.client import Endpoint, Server
>>> Endpoint("http://127.0.0.1:8765").predict({"carrier": "UA", "origin": "EWR"})["probability"]  # doctest: +SKIP
0.21
>>> Server("https://treadle.example.com", token="trd_...").runs_list(limit=5)["items"]            # doctest: +SKIP
[...]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from treadle.client.endpoint import Endpoint

if TYPE_CHECKING:
    from treadle.client.server import Server

__all__ = ["Endpoint", "Server"]


def __getattr__(name: str) -> Any:
    if name == "Server":  # an endpoint's own process, which asks others, needs nothing of it
        from treadle.client.server import Server

        return Server
    raise AttributeError(name)
