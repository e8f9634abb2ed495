"""What a worker leaves in its workspace that would run later, outside: put back after each call.

Git's hooks and settings, and the files by which editors, agents, shells and package managers run
commands, are compared with what they were before the call. What a worker made or changed there
goes to a quarantine outside every grant, and what was there before comes back.

- A directory that may be written: `guard`, `root`, `spots`, `judge`, `unchanged`; beneath a
  workspace's: `below`, `finding`, `looking`, `listed`, `known`, `judging`, `copies`, `closed`,
  `held`; in a plain run: `afterwards`, `arrivals`, `beside`, `fresh`,
  `listing`.
- What is judged by: `names`, `gitconfig`, `gitfile`, `contents`, `times`, `objects`.
- What is done: `action`, `tree`, `quarantine`, `aside`, `copying`; how it is reached: `ways`,
  `place`.
- What others do there: `book`, `presence`, `attendance`, `joining`, `leftovers`, `written`,
  `lasting`.

Architecture invariant: the tree is hostile. Everything goes by descriptors that follow no symlink,
nothing in it is executed, and no more of it is read than a bound says. What changed while no
worker could have done it is the person's own, and stays.
"""
