"""What a worker leaves in its workspace that would run later, outside: put back after each call.

Git's hooks and settings, and the files by which editors, agents, shells and package managers run
commands, are compared with what they were before the call. What a worker made or changed there
goes to a quarantine outside every grant, and what was there before comes back.

- The guard of a directory that may be written: `guard`, `root` (the directory), `judging_spots`,
  `unchanged`, `closed_paths`, `moved_directories`.
- Of what is beneath a workspace's top directory: `subtree_guard`, `baseline` (what was there),
  `known_contents`, `finding`, `looking`, `judging_subtree`.
- Of a plain `nono run`, beneath that too: `after_run`, `during_run`, `judging_run`, `arrivals`,
  `directory_listings`, `list_directory`.
- What is guarded, and when it's harmless: `names`, `spelling`, `spots`, `gitconfig`, `gitfile`,
  `contents`.
- What is known of files: `times`, `directory_identity`, `tree`; how they are reached: `ways`,
  `open_directory`.
- What is done: `action`, `quarantine`, `aside`, `copying`.
- What all that guard one directory tell each other: `register`, `presence`, `announcement`,
  `joining`, `leftovers`, `marshalled`, `write_through`.

Architecture invariant: the tree is hostile. Everything goes by descriptors that follow no symlink,
nothing in it is executed, and no more of it is read than a bound says. What changed while no
worker could have done it is the person's own, and stays.
"""
