"""Training: search on rows that may be searched, honest evaluation on rows that may not."""
