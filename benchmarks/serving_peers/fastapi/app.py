"""FastAPI with a Pydantic model, one synchronous route: what most teams write."""

from fastapi import FastAPI
from model import probabilities
from pydantic import BaseModel


class Row(BaseModel):
    carrier: str | None = None
    origin: str | None = None
    dest: str | None = None
    distance: float
    month: float
    weekday: float
    minute: float


class Rows(BaseModel):
    rows: list[Row]


app = FastAPI()


@app.post("/predict")
def predict(body: Rows) -> dict:
    return {"predictions": probabilities([row.model_dump() for row in body.rows])}
