"""What a session may do, as data: parsed, checked, compiled for the mechanisms.

`load.prepare` is the way in. Around it: `document` (what a policy says), `parse`, `toml`,
`schema` (its spellings), `profiles` (those shipped), `files` (those of the person), `protected`
(what is closed whatever a policy grants), `resolve` (the one look at the file system),
`compile` (the confinement) and `decide` (why a path or host is open or closed).

Architecture invariant: this package itself imports nothing, so that a command pays for the
parts it uses.
"""
