"""Data sets: read from their sources, held to their contracts, kept as immutable versions."""
