"""Usage: step.py NUMBER. Reads the number before it, adds 1."""

import sys
from pathlib import Path

from witness import answer, hold, ran

number = int(sys.argv[1])
ran(number)
if number == 3:
    hold()
before = int(Path(f"{number - 1}.txt").read_text())
Path(f"{number}.txt").write_text(str(answer(before + 1)))
