"""LitServe, one worker, batches of up to 32 requests."""

import sys

import litserve as ls
from model import probabilities


class Api(ls.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        return request["rows"]

    def batch(self, inputs):
        return inputs

    def unbatch(self, output):
        return output

    def predict(self, batches):
        found = iter(probabilities([row for rows in batches for row in rows]))
        return [[next(found) for _ in rows] for rows in batches]

    def encode_response(self, output):
        return {"predictions": output}


if __name__ == "__main__":
    api = Api(max_batch_size=32, batch_timeout=0.002)
    ls.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        port=int(sys.argv[1]), host="127.0.0.1", generate_client_file=False, log_level="error"
    )
