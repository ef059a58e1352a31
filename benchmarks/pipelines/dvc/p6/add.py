"""Usage: add.py INPUT OUTPUT"""

import sys
from pathlib import Path

from witness import answer, ran

ran("add")
Path(sys.argv[2]).write_text(str(answer(int(Path(sys.argv[1]).read_text()) + 1)))
