"""The doors of the house: one Protocol a file, with its promises in prose. Backends pass the contract suites in `treadle.testing`."""
