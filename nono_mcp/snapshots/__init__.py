"""Snapshots of a workspace, and the way back to them.

FORMAT.md is the specification. `snapshots` is one workspace of a store, `upkeep` the whole store;
`values` and `errors` are what they give and raise.

Architecture invariant: nothing here follows a symlink beneath a workspace's root, and no walker
recurses: how deep a tree is, an agent decides.
"""
