"""Ray Serve, one replica."""

import sys
import time

import ray
from model import probabilities
from ray import serve
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=100)
class Late:
    async def __call__(self, request: Request) -> dict:
        return {"predictions": probabilities((await request.json())["rows"])}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Late.bind(), route_prefix="/predict")
    while True:
        time.sleep(1)
