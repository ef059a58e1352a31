"""The registry: versions of models with everything needed to serve, repeat and judge them; and which of them is in production."""
