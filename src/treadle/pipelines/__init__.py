"""Pipelines: steps that run once for what they depend on, and never again until that changes."""
