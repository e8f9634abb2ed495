"""The keys of a policy: one table that the parser, the JSON Schema and the TOML emitter follow.

Architecture invariant: this module is data and does no I/O.
"""

from __future__ import annotations

from nono_sandbox.values import Value

GUARANTEES = (
    "files",
    "deny-inside-allow",
    "metadata",
    "network",
    "unix-sockets",
    "processes",
    "leftovers",
    "private-tmp",
    "limits",
    "privilege",
)
"""What a policy may require; `nono_sandbox.support` says which of them a machine gives."""

NETWORK_MODES = ("closed", "ports", "proxy", "open")
PORT_KEYS = ("connect_ports", "bind_ports")

ROLLBACK_MODES = ("allow", "ask", "confirm", "never")
"""Whether an agent may roll back: without asking; asking the person where the client can; only
with the person's yes; not at all."""

LISTED = "listed"
ASK_MODES = ("any", LISTED, "never")
"""What an agent may ask the person for: whatever isn't closed; what is listed; nothing."""


class Field(Value):
    """One key of a policy: where it stands, what it holds, where it is kept."""

    section: str
    key: str
    kind: str
    about: str
    attribute: str = ""

    def name(self) -> str:
        """Return the name of the section's attribute that keeps the key."""
        return self.attribute or self.key


FIELDS = (
    Field("filesystem", "allow", "paths", "Directories to read and write."),
    Field("filesystem", "read", "paths", "Directories to read and execute from."),
    Field("filesystem", "write", "paths", "Directories to write."),
    Field("filesystem", "allow_file", "paths", "Single files to read and write."),
    Field("filesystem", "read_file", "paths", "Single files to read and execute."),
    Field("filesystem", "write_file", "paths", "Single files to write."),
    Field("filesystem", "deny", "paths", "Paths closed whatever is granted around them."),
    Field("filesystem", "deny_write", "paths", "Paths that stay readable and can't be changed."),
    Field("filesystem", "bypass", "paths", "Protected paths whose protection is given up."),
    Field("filesystem", "tools", "flag", "Read the tools that PATH leads to."),
    Field("filesystem", "read_only", "flag", "Let what is granted be read and not written."),
    Field("network", "mode", "mode", "closed, ports, proxy or open."),
    Field("network", "connect_ports", "ports", "Loopback ports to connect to."),
    Field("network", "bind_ports", "ports", "Ports to listen on."),
    Field("network", "allow_domains", "hosts", "Hosts to reach: HOST, HOST:PORT or *.ZONE."),
    Field("network", "deny_domains", "hosts", "Hosts out of reach, whatever is allowed."),
    Field("network", "allow_addresses", "addresses", "Private address ranges hosts may have."),
    Field("network", "credentials", "credentials", "Credentials to use, and their hosts to reach."),
    Field("network", "sources", "sources", "Where credentials are, if not in the keychain."),
    Field("network", "endpoints", "endpoints", "All that is used of a credential's hosts."),
    Field("network", "upstream_proxy", "url", "The proxy of the network around, http://HOST:PORT."),
    Field(
        *("network", "upstream_proxy_credential", "source"),
        "Where that proxy's USER:PASSWORD is kept.",
    ),
    Field("network", "upstream_ca", "file", "A file of certificates to trust in hosts as well."),
    Field("network", "routes", "routes", "Providers that aren't known, or are elsewhere."),
    Field("limits", "timeout_s", "seconds", "Wall-clock time of a call."),
    Field("limits", "cpu_s", "seconds", "CPU time of a process."),
    Field("limits", "memory_max", "size", "Memory of a call."),
    Field("limits", "processes_max", "count", "Processes of a call."),
    Field("limits", "open_files_max", "count", "Open files of a process."),
    Field("limits", "file_size_max", "size", "Size of a file."),
    Field("limits", "disk_max", "size", "Disk space that a call adds to; a file is 4K at least."),
    Field("limits", "output_max", "size", "Output of a call that is kept."),
    Field("environment", "pass", "names", "Variables passed on as they are.", "passed"),
    Field("environment", "set", "variables", "Variables and their values."),
    Field("process", "ptrace", "flag", "Let the processes of a call trace each other."),
    Field("commands", "blocked", "commands", "Commands that aren't run, by name or path."),
    Field("enforcement", "require", "guarantees", "What must be enforced for anything to run."),
    Field("enforcement", "best_effort", "flag", "Run with what can be enforced, and say so."),
    Field("snapshots", "enabled", "flag", "Keep the workspace as it is before and after a call."),
    Field("snapshots", "exclude", "patterns", "What isn't kept, and no rollback touches."),
    Field("snapshots", "quota", "size", "Disk space that snapshots may take."),
    Field("snapshots", "broad", "flag", "Keep a workspace that is / or a home, too."),
    Field("snapshots", "rollback", "rollback", "An agent's rollback: allow, ask, confirm, never."),
    Field("audit", "runs", "flag", "Record every nono run; else only one with a way out."),
    Field("ask", "mode", "ask", "What an agent may ask you for: any, listed, never."),
    Field("ask", "read", "paths", "Where an agent may ask to read."),
    Field("ask", "write", "paths", "Where an agent may ask to read and write."),
    Field("ask", "hosts", "hosts", "Hosts that an agent may ask for: HOST, HOST:PORT or *.ZONE."),
    Field("agent", "toolset", "toolset", "Tools to offer: full, or some of core,shell,files,..."),
)

PROXY_KEYS = tuple(
    field.key
    for field in FIELDS
    if field.section == "network" and field.key not in ("mode", *PORT_KEYS)
)
