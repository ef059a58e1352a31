"""What every model format keeps: one suite for all of them. A format's own tests say which models it takes.

A fixture `packed` gives a `Packed`: a fitted pipeline, saved by the format into a folder.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.core.errors import Corrupt, InvalidRequest, NotFound, Refused
from treadle.ports.model_format import ModelFormat

PARITY = 1e-5  # of the largest answer, at least of 1
LOADS = """
import sys
from pathlib import Path
import json
from {module} import {name}
loaded = {name}().load(Path(sys.argv[1]), json.loads(sys.argv[2]))
import numpy as np
loaded.score(np.zeros((1, loaded.width), dtype=np.float32))
print(*sorted({{m.partition(".")[0] for m in sys.modules}}))
"""
HEAVY = {"sklearn", "pandas", "scipy", "lightgbm", "xgboost", "torch", "onnx"}


@dataclass(frozen=True)
class Packed:
    """A fitted pipeline of columns, float32 and model, the rows it was fitted on, and what its format wrote of it."""

    format: ModelFormat
    fitted: Any
    frame: pl.DataFrame
    folder: Path
    info: dict[str, Any]

    def matrix(self) -> np.ndarray:
        """The rows as the model gets them."""
        return np.asarray(self.fitted[:-1].transform(self.frame), dtype=np.float32)

    def native(self, matrix: np.ndarray) -> np.ndarray:
        """The fitted model's own answers, (n, classes) or (n, 1)."""
        model = self.fitted[-1]
        said = model.predict_proba(matrix) if self.info["classes"] is not None else model.predict(matrix)
        return np.asarray(said, dtype=np.float64).reshape(len(matrix), -1)


class ModelFormatContract:
    """Subclass it, and give the fixture `packed`."""

    imports: frozenset[str] = frozenset()
    """The heavy libraries that loading may import."""

    def test_it_answers_as_the_fitted_model_does_also_on_edges_and_missing_values(self, packed: Packed) -> None:
        matrix = packed.matrix()
        rng = np.random.default_rng(0)
        near = np.concatenate([matrix, np.nextafter(matrix, np.float32(np.inf)), matrix + rng.normal(size=matrix.shape).astype(np.float32)])
        expected = packed.native(near)
        said = packed.format.load(packed.folder, packed.info).score(near)
        assert said.dtype == np.float64
        assert said.shape == expected.shape
        np.testing.assert_allclose(said, expected, rtol=0, atol=PARITY * max(1.0, float(np.abs(expected).max())))
        if packed.info["classes"] is not None:
            ties = np.sort(expected, axis=1)[:, -1] - np.sort(expected, axis=1)[:, -2] < PARITY
            assert np.array_equal(said.argmax(axis=1)[~ties], expected.argmax(axis=1)[~ties])

    def test_one_row_is_answered_as_among_many(self, packed: Packed) -> None:
        scorer, matrix = packed.format.load(packed.folder, packed.info), packed.matrix()[:20]
        together = scorer.score(matrix)
        alone = np.concatenate([scorer.score(matrix[i : i + 1]) for i in range(len(matrix))])
        np.testing.assert_allclose(alone, together, rtol=1e-6, atol=1e-7)

    def test_it_says_what_serving_needs_and_writes_no_more_than_it_says(self, packed: Packed) -> None:
        assert packed.info["format"] == packed.format.name
        assert packed.info["width"] == packed.matrix().shape[1]
        assert sorted(packed.info["files"]) == sorted(p.relative_to(packed.folder).as_posix() for p in packed.folder.rglob("*") if p.is_file())
        assert packed.format.runs_code is False

    def test_the_same_model_is_the_same_bytes(self, packed: Packed, tmp_path: Path) -> None:
        again = packed.format.save(packed.fitted, tmp_path / "again")
        assert again == packed.info
        for name in again["files"]:
            assert (tmp_path / "again" / name).read_bytes() == (packed.folder / name).read_bytes()

    def test_several_threads_are_answered_at_once(self, packed: Packed) -> None:
        scorer, matrix = packed.format.load(packed.folder, packed.info), packed.matrix()
        expected, wrong, gate = scorer.score(matrix), [], threading.Barrier(4)

        def work() -> None:
            gate.wait()
            for start in range(0, 100, 10):
                if not np.allclose(scorer.score(matrix[start : start + 50]), expected[start : start + 50], atol=1e-9):
                    wrong.append(start)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []

    @pytest.mark.parametrize("wrong", [(1,), (2, 1), (2, 99), (1, 2, 3)])
    def test_rows_of_another_width_are_refused(self, packed: Packed, wrong: tuple[int, ...]) -> None:
        with pytest.raises(InvalidRequest, match="encoded features"):
            packed.format.load(packed.folder, packed.info).score(np.zeros(wrong, dtype=np.float32))

    @pytest.mark.parametrize("damage", ["empty", "half", "nonsense"])
    def test_a_damaged_file_is_refused_in_one_sentence(self, packed: Packed, damage: str) -> None:
        path = packed.folder / packed.info["file"]
        content = path.read_bytes()
        path.write_bytes({"empty": b"", "half": content[: len(content) // 2], "nonsense": b"\x00\xffnonsense" * 100}[damage])
        with pytest.raises((Corrupt, Refused)):
            packed.format.load(packed.folder, packed.info)

    def test_a_missing_file_is_not_found(self, packed: Packed) -> None:
        (packed.folder / packed.info["file"]).unlink()
        with pytest.raises(NotFound, match="The package has no model file"):
            packed.format.load(packed.folder, packed.info)

    def test_loading_imports_nothing_of_training(self, packed: Packed) -> None:
        import json

        kind = type(packed.format)
        code = LOADS.format(module=kind.__module__, name=kind.__name__)
        asked = [sys.executable, "-c", code, str(packed.folder), json.dumps(packed.info)]
        done = subprocess.run(asked, capture_output=True, text=True, check=True)
        assert set(done.stdout.split()) & HEAVY <= self.imports
