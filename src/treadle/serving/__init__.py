"""Serving: one package, typed requests, features looked up as they are known now, every answer logged."""
