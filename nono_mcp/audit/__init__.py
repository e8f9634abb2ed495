"""The audit log: what happened, in an order nobody can change unnoticed.

FORMAT.md is the specification.

- Writing: `log`, `session`, `create`, `end`, `syncing`, `files`; its keys: `ratchet`, `keystore`,
  `keys`, `heads`. What goes wrong: `errors`.
- A record: `record`, `kinds`, `canonical`, `redact`, `plain`; what binds them: `chain`, `merkle`,
  `notes`.
- Reading: `reading`, `snapshot`, `display`, `export`, `spans`; retention: `prune`.
- Checking: `verify`, `walk`, `prove`, `timestamp`; and `standalone`, a verifier of its own that
  is copied out and shares nothing with the rest.
"""
