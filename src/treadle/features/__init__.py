"""Features: defined once, correct in time, the same in training and in production."""
