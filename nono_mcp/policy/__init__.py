"""What a session may do, as data: parsed, checked, compiled for the mechanisms.

`load.prepare` is the way in.

- What a policy says: `document`, `keys`, `bounds`; read by `parse`, `parse_values`,
  `egress_syntax`, `lines`; written by `toml` and, for editors, `schema`.
- Where it comes from: `request`, `layers`, `profiles` (those shipped), `macos`, `files` (the
  person's), `toolsets`.
- What stands where: `resolve` (the one look at the file system), `load`, `wanted`, `paths`,
  `rules`, `granted`, `effective_grants`, `planted`, `tools`, `home`, `interop`,
  `spelling`.
- What is closed whatever is granted: `shut`, `protected`, `protected_system`, `persistence`,
  `protection`, `guarded`, `denials`, `expand`, `hard_links`; commands: `commands`, `blocked`.
- What it comes to: `compile` (the confinement), `environment`, `egress`, `trust_roots`,
  `required`; `decide` (why a path or host is open or closed), `unreachable`, `errors`.
- What a person may add later: `ceiling`, `widening`.
- What was judged before: `recall`, `witness`, `answers`, `digest`; and is another since:
  `replaced`.

Architecture invariant: this package itself imports nothing, so that a command pays for the
parts it uses.
"""
