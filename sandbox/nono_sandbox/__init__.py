"""Confinement of a process by its operating system, on the standard library alone.

- What may be done: `confinement`, `values`, `errors`; what this machine gives: `support`,
  `system`, `wsl`.
- The supervisor's side: `client`, `wire`, `stream`, `exempt_send`, `anonymous_file`, `private`,
  `open_files_limit`.
- A session: `forkserver`, `setup`, `namespaces`, `fresh_root`, `own_places`, `mount_points`,
  `ways`, `masks`, `granted`, `opath`, `domain`, `landlock`, `filters`, `seccomp`, `forward`,
  `behalf`.
- A call: `lane`, `sealing`, `spawning`, `call_events`, `call_monitor`, `rehearsal`, `worker`,
  `builtin`, `scratch`.
- A single run: `single_run`.
- Limits: `call_end`, `resource_usage`, `disk_growth`, `deleted_files`, `disk_reserve`; by control
  groups: `cgroups`.
- macOS: `seatbelt`.
- System calls: `_uapi`, `_mounting`, `_foreign`, `kernel_file`, `readable`, `renaming`.
"""
