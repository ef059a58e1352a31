"""Compilers: the same project as a DAG, a workflow or a unit of an engine that is there already. Text in, text out; nothing is run here."""
