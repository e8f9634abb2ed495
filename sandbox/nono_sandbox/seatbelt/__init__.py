"""Confinement on macOS: Seatbelt profiles as text, and `sandbox-exec` to apply them.

`sbpl` writes and reads the language, `spelling` knows how macOS spells one file, `profile` makes
the text from a `Confinement`, `evaluator` says what the text allows, `launcher` applies it,
`tree` ends what was started, `table` says what is held and what isn't.

Nobody has run any of this on a Mac yet. What is known of Seatbelt is named, with its source,
where it is used; what is only believed is called so.

Architecture invariant: everything but `launcher`, `stage`, `libproc` and `tree` is a function of
values, and all of it imports on Linux.
"""
