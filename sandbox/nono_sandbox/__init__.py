"""Confinement of a process by its operating system, on the standard library alone.

- What may be done: `confinement`, `values`, `errors`; what this machine gives: `support`,
  `system`, `wsl`.
- The supervisor's side: `client`, `wire`, `stream`, `vouched`, `unnamed`, `private`, `open_files`.
- A session: `forkserver`, `setup`, `namespaces`, `fresh_root`, `masks`, `judged`, `look`,
  `domain`, `landlock`, `filters`, `seccomp`, `forward`, `behalf`.
- A call: `lane`, `sealing`, `spawning`, `attending`, `attendance`, `rehearsal`, `worker`,
  `builtin`, `scratch`.
- A single run: `single_run`.
- Limits: `ended`, `resource_usage`, `growth`, `deleted_files`, `reserve`; by control groups:
  `cgroups`.
- macOS: `seatbelt`.
- System calls: `_uapi`, `_foreign`, `renaming`.
"""
