"""Confinement on macOS: Seatbelt profiles as text, and `sandbox-exec` to apply them.

- The text: `profile` makes it of a confinement, by `rules`, `fixed` (what macOS itself needs),
  `expressible` (what can't be said), `spelling` (how macOS spells one file) and `sbpl`.
- What the text allows: `evaluator`, by `reader`; for tests.
- A call: `launcher` starts it by way of `stage`, after a look at `places`; `as_program` is a file
  tool's; `exits`, `tree` and `libproc` end it.
- Who starts calls: `server`, `lane`; of a single run `single_run`.
- What is held and what isn't: `table`; what this Mac is: `asking`.

Nobody has run any of this on a Mac yet. What is known of Seatbelt is named, with its source,
where it is used; what is only believed is called so.

Architecture invariant: everything but `launcher`, `stage`, `libproc` and `tree` is a function of
values, and all of it imports on Linux.
"""
