"""Control groups (cgroup v2), by which the kernel holds a call's memory and number of processes.

Where there can be none the limits are counted instead (`resource_usage`), and `nono doctor` says
why.

- Where groups may be made: `hierarchy`, which asks `delegation` (what systemd says) and `ancestry`
  (which processes are ours to move).
- Who makes them: `groups`, one for each lane; `session_groups` for a fork server, `run_group` for
  a single run.
- A lane inside its group: `membership`.
"""
