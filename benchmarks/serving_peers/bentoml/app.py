"""BentoML, one worker."""

import bentoml
from model import probabilities


@bentoml.service(workers=1, metrics={"enabled": True}, logging={"access": {"enabled": False}})
class Late:
    @bentoml.api
    def predict(self, rows: list[dict]) -> dict:
        return {"predictions": probabilities(rows)}
