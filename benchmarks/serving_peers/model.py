"""What every peer's program shares: the fitted pipeline, and one row or many as the data frame it was fitted on."""

import os

import joblib
import pandas as pd

PIPELINE = joblib.load(os.environ["PIPELINE"])


def probabilities(rows: list[dict]) -> list[float]:
    """The probability of being late, of each row."""
    return [float(p) for p in PIPELINE.predict_proba(pd.DataFrame(rows))[:, 1]]
