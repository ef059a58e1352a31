"""Usage: p6c.py PATH FACTOR. The functions are in dataflow.py, a helper in helpers.py."""

import sys

import dataflow
from hamilton import driver

flow = driver.Builder().with_modules(dataflow).with_cache().build()
flow.execute(["total"], inputs={"path": sys.argv[1], "factor": int(sys.argv[2])})
