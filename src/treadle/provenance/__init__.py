"""Where a run came from, kept so that it can be made again and compared."""
