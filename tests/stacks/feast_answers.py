"""Run by Feast's own Python: what Feast itself answers for a repository. Usage: feast_answers.py REPOSITORY QUESTIONS.json ANSWERS.json"""

import json
import sys
from datetime import datetime
from pathlib import Path

import pandas as pd
from feast import FeatureStore


def plain(value):
    return None if value is None or (isinstance(value, float) and value != value) or value is pd.NaT else value


store = FeatureStore(repo_path=sys.argv[1])
asked = json.loads(Path(sys.argv[2]).read_text())
answers = {}
if "rows" in asked:
    rows = pd.DataFrame(asked["rows"])
    rows["event_timestamp"] = pd.to_datetime(rows["event_timestamp"], utc=True)
    found = store.get_historical_features(entity_df=rows, features=asked["features"]).to_df().sort_values("row")
    names = [f.split(":")[1] for f in asked["features"]]
    answers["rows"] = [[int(r["row"]), *[plain(r[n]) for n in names]] for r in found.to_dict("records")]
if "materialise" in asked:
    begin, end = (datetime.fromisoformat(t) for t in asked["materialise"])
    store.materialize(begin, end)
if "entities" in asked:
    got = store.get_online_features(features=asked["features"], entity_rows=asked["entities"]).to_dict()
    names = [f.split(":")[1] for f in asked["features"]]
    answers["entities"] = [[plain(got[n][i]) for n in names] for i in range(len(asked["entities"]))]
Path(sys.argv[3]).write_text(json.dumps(answers))
