"""Scoring many rows at once: in parts, resumable, with the lineage of every output."""
