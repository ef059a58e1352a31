"""The console: one address where everybody sees the same loop, and does what their role allows."""
