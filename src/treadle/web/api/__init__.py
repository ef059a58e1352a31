"""Routes, a file a room."""
