"""One program, confined, without a session: the machinery of `nono run`.

- In the process that asks: `launching` (the lane it has, and what it tells it), `processes` (how
  that and others are started), `orphans` (what is left when the lane is killed).
- In the lane: `forking` (how it comes to be), `preparing` (what it has around it), `only_call` (the
  call it runs).
"""
