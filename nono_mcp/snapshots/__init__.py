"""Snapshots of a workspace, and the way back to them.

FORMAT.md is the specification.

- One workspace of a store: `snapshots`, `workspace`, `rows`, `repeating`, `restore_lock`; the whole
  store: `upkeep`, `store`, `place`, `retention`, `collecting`.
- How it is stored: `objects`, `packs`, `fetching`, `encoding`, `trees`, `groups`; the index:
  `database`, `index`, `statuses`.
- Looking at a workspace: `scan`, `looking`, `marks`, `trust`, `visits`, `descent`, `reading`,
  `storing`, `modes`, `patterns`; at one that is known: `glance`, `comparing`, `helping`.
- Being told what changed: `watch`, `watched`, `watched_node`, `way`, `inotify`, `mounts`,
  `folding`.
- What differs: `difference`, `steps`, `text`.
- Going back: `restoring`, `planning`, `choosing`, `merge`, `preparing`, `staging`, `applying`,
  `fixed`, `metadata`; told by `answers`, `applied`.
- What they are asked with and raise: `values`, `errors`.

Architecture invariant: nothing here follows a symlink beneath a workspace's root, and no walker
recurses: how deep a tree is, an agent decides.
"""
