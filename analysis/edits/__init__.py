"""Edits: a model that is a change of another one, declared and made."""
