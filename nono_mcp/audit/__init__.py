"""The audit log: what happened, in an order nobody can change unnoticed.

FORMAT.md is the specification. `log` writes, `reading`, `verify`, `prove` and `export` read;
`standalone.py` is a verifier of its own that is copied out and shares nothing with the rest.
"""
