import json
from pathlib import Path

from witness import answer, ran


def total(rows):
    ran("total")
    return answer(sum(rows))


Path("total.json").write_text(json.dumps(total(json.loads(Path("rows.json").read_text()))))
