"""The 28 tests of the ML Test Score, a file a section; `governance/readiness.py` adds them up."""
