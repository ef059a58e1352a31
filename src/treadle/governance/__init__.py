"""Governance: which evidence is enough, who did what, and the story behind every prediction."""
