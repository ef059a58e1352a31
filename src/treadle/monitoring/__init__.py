"""Monitoring: what production looks like beside training, in constant memory, and what is an alarm."""
