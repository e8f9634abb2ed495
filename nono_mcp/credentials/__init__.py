"""Credentials: where each is kept, fetched when it's needed and shown to nobody.

`source` says what a source may be called, `fetch` reads one (`oauth2` exchanges one), `vault` holds
what was read for as long as it's needed, as a `secret`. `keychain` is what `nono credential`
writes, `probe` asks a provider whether it accepts one.

Architecture invariant: a value leaves this package by `Secret.reveal` alone; no message, record,
`repr` or argument of a program ever holds one.
"""
