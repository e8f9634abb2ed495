"""`nono install`: our server in the configuration of an agent's host, and out of it again.

`hosts` says where each keeps what, `jsonc` and `tables` edit text and keep what isn't ours as it
is, `edit` puts them together and `writing` does what that planned; `errors` say why not. `remote`
is the address of a server by HTTP.

Architecture invariant: a file is written only if it says before and after, to a parser, the same
of everything that isn't ours.
"""
