"""One person's data: forgotten everywhere, or handed over."""
