"""What every profile lets a process have of macOS itself, as tables with a reason a row.

All of it is what programs need in order to start and to know what they run on; nothing in it is
anybody's data. Each name was seen in a published profile of someone who runs macOS (Chromium's
`sandbox/policy/mac/common.sb`, Codex's `codex-rs/sandboxing/src/*.sbpl`, Nix's
`sandbox-defaults.sb`, sandbox-runtime's `macos-sandbox-utils.ts`, Apple's own
`/System/Library/Sandbox/Profiles/system.sb`), or in a report of what breaks without it, which is
named then; which of them a given macOS really asks for, nobody has measured for this package.

Absent on purpose, though some of those have it: securityd and SecurityServer (the keychain),
launchd's and LaunchServices' services (`lsd`, `launchservicesd`, `coreservicesd`: they start
programs outside the sandbox), Apple events, the pasteboard, the window server, cfprefsd (it would
write preferences on a worker's behalf), FSEvents (it tells of the whole volume), distributed
notifications, IOKit, `mach-priv-task-port` (debuggers), the sysctls `kern.proc.*` and
`kern.procargs*` (everybody's processes), /tmp and the user's own temporary directory. Absent
because their denial is only a line in the log (seen: github.com/openai/codex pull 11277):
/dev/dtracehelper, /dev/autofs_nowait, `kern.bootargs`, diagnosticd, analyticsd, the syslog socket.

Architecture invariant: data alone.
"""

from __future__ import annotations

from nono_sandbox.confinement import READ, Grant

MACH_SERVICES = (
    ("com.apple.bsd.dirhelper", "confstr(3) for the user's temporary and cache directories"),
    ("com.apple.logd", "os_log from system libraries"),
    ("com.apple.system.logger", "syslog(3) from system libraries"),
    ("com.apple.system.notification_center", "notify(3): time zone, caches of libinfo"),
    ("com.apple.system.opendirectoryd.libinfo", "getpwuid(3), getgrgid(3)"),
    ("com.apple.system.opendirectoryd.membership", "getgrouplist(3)"),
)
"""Mach services that can be looked up whatever the confinement."""

CONFIGURATION_SERVICES = (
    ("com.apple.SystemConfiguration.configd", "which interfaces and proxies there are"),
)
"""Mach services that any network adds. HTTP clients in Rust have been seen to panic without it
(github.com/mullvad/system-configuration-rs issue 71, mended in 0.7.0), also where all they will
reach is a proxy. It resolves nothing, and lets only root change anything."""

NETWORK_SERVICES = (
    ("com.apple.SystemConfiguration.DNSConfiguration", "which resolver to ask"),
    ("com.apple.networkd", "the network stack's helper"),
    ("com.apple.ocspd", "revocation of certificates"),
    ("com.apple.trustd", "evaluation of certificates"),
    ("com.apple.trustd.agent", "evaluation of certificates, per user"),
)
"""Mach services that an open network adds. Closed, there is no resolver: DNS is a way out."""

RESOLVER_SOCKET = "/private/var/run/mDNSResponder"

SYSCTLS = (
    "hw.activecpu",
    "hw.busfrequency_compat",
    "hw.byteorder",
    "hw.cacheconfig",
    "hw.cachelinesize",
    "hw.cachelinesize_compat",
    "hw.cpufamily",
    "hw.cpufrequency",
    "hw.cpufrequency_compat",
    "hw.cpusubtype",
    "hw.cputype",
    "hw.l1dcachesize",
    "hw.l1dcachesize_compat",
    "hw.l1icachesize",
    "hw.l1icachesize_compat",
    "hw.l2cachesize",
    "hw.l2cachesize_compat",
    "hw.l3cachesize",
    "hw.l3cachesize_compat",
    "hw.logicalcpu",
    "hw.logicalcpu_max",
    "hw.machine",
    "hw.memsize",
    "hw.model",
    "hw.ncpu",
    "hw.nperflevels",
    "hw.packages",
    "hw.pagesize",
    "hw.pagesize_compat",
    "hw.physicalcpu",
    "hw.physicalcpu_max",
    "hw.tbfrequency_compat",
    "hw.vectorunit",
    "kern.argmax",
    "kern.hostname",
    "kern.iossupportversion",
    "kern.maxfilesperproc",
    "kern.maxproc",
    "kern.ngroups",
    "kern.osproductversion",
    "kern.osrelease",
    "kern.ostype",
    "kern.osvariant_status",
    "kern.osversion",
    "kern.secure_kernel",
    "kern.sysv.semmni",
    "kern.tcsm_available",
    "kern.usrstack64",
    "kern.version",
    "kern.willshutdown",
    "machdep.cpu.brand_string",
    "machdep.ptrauth_enabled",
    "security.mac.lockdown_mode_state",
    "sysctl.proc_cputype",
    "vm.loadavg",
)
"""What programs ask of the machine; no table of processes, routes or sockets among them.

`kern.sysv.semmni` is what Python's ProcessPoolExecutor looks at before it starts
(github.com/anthropics/claude-code issue 81032).
"""

SYSCTL_PREFIXES = ("hw.optional.", "hw.perflevel", "machdep.cpu.")
"""All of `hw.optional.`: what asks in vain for one of a processor's abilities takes the machine
for another, or aborts (github.com/openai/codex issue 46656, anthropics/claude-code issue 82423)."""

SYSCTLS_ASKED_IN_WRITING = ("kern.grade_cputype",)
"""A question that is put as a value to write, and changes nothing: whether a processor's kind can
be run. /usr/bin/java finds no runtime without it (github.com/eugene1g/agent-safehouse issue 10)."""

NETWORK_SYSCTL_PREFIXES = ("net.routetable.",)
"""getifaddrs(3), which Node's `os.networkInterfaces` throws without; and the routes, which can't
be told apart from it. Any network adds it."""

SEMAPHORES = r"^/(mp|loky-[0-9]+)-[0-9A-Za-z_]+$"
"""Named semaphores of Python's multiprocessing, and of joblib's, which macOS shares among all
sandboxes."""
SHARED_MEMORY = r"^/(psm_[0-9A-Za-z]+|__KMP_REGISTERED_LIB_[0-9]+)$"
"""Shared memory of Python's multiprocessing and of OpenMP, shared likewise."""

DEVICES_READ = ("/dev/random", "/dev/urandom")
DEVICES_WRITTEN = ("/dev/null", "/dev/stderr", "/dev/stdin", "/dev/stdout", "/dev/zero")
DESCRIPTORS = "/dev/fd"
"""Opens of what is open already."""
TERMINALS = ("/dev/ptmx", "/dev/tty")
TERMINAL_SLAVES = r"^/dev/ttys[0-9]+$"
OWN_TERMINAL = "com.apple.sandbox.pty"
"""The extension the kernel gives a process for the slave of a terminal it opened itself."""

SEEN = ("/Library/Internet Plug-Ins", "/dev")
"""What shows its own metadata alone: a compiler looks at where /dev/null is before it writes there
(Nix), and /usr/bin/java for a runtime in the other (eugene1g/agent-safehouse issue 10)."""

LAUNCHD_SOCKETS = r"^(/System/Volumes/Data)?(/private)?/tmp/com\.apple\.launchd\."
"""Sockets launchd makes for the user's session in /tmp: ssh-agent, X11."""

SYSTEM_GRANTS = (
    Grant("/Applications/Xcode.app/Contents/Developer", READ),
    Grant("/Library/Apple", READ),
    Grant("/Library/Developer/CommandLineTools", READ),
    Grant("/Library/Frameworks", READ),
    Grant("/Library/Java", READ),
    Grant("/Library/Preferences/Logging", READ),
    # That the licence was agreed to: without it git, clang and swift of Xcode exit with 69
    # (github.com/tuist/tuist pull 7631).
    Grant("/Library/Preferences/com.apple.dt.Xcode.plist", READ, exact=True),
    Grant("/System/Applications", READ),
    Grant("/System/Cryptexes", READ),
    Grant("/System/DriverKit", READ),
    Grant("/System/Library", READ),
    Grant("/System/Volumes/Preboot/Cryptexes", READ),
    Grant("/System/iOSSupport", READ),
    Grant("/bin", READ),
    Grant("/opt/homebrew", READ),
    Grant("/opt/local", READ),
    Grant("/private/etc/bashrc", READ, exact=True),
    Grant("/private/etc/group", READ, exact=True),
    Grant("/private/etc/hosts", READ, exact=True),
    Grant("/private/etc/localtime", READ, exact=True),
    Grant("/private/etc/manpaths", READ, exact=True),
    Grant("/private/etc/passwd", READ, exact=True),
    Grant("/private/etc/paths", READ, exact=True),
    Grant("/private/etc/paths.d", READ),
    Grant("/private/etc/profile", READ, exact=True),
    Grant("/private/etc/protocols", READ, exact=True),
    # A symlink, which a resolver has to follow.
    Grant("/private/etc/resolv.conf", READ, exact=True),
    Grant("/private/etc/services", READ, exact=True),
    Grant("/private/etc/shells", READ, exact=True),
    Grant("/private/etc/ssl", READ),
    Grant("/private/etc/zprofile", READ, exact=True),
    Grant("/private/etc/zshrc", READ, exact=True),
    # getpwuid(3) where opendirectoryd doesn't answer (Apple's system.sb, as Codex has it).
    Grant("/private/var/db/DarwinDirectory/local/recordStore.data", READ, exact=True),
    Grant("/private/var/db/dyld", READ),
    Grant("/private/var/db/timezone", READ),
    Grant("/private/var/db/xcode_select_link", READ),
    Grant("/private/var/run/resolv.conf", READ, exact=True),
    Grant("/private/var/select", READ),
    Grant("/sbin", READ),
    Grant("/usr", READ),
)
"""The system's read paths on macOS, for a policy to put among its grants.

Not part of a profile by itself: `nono why` must be able to name what allows. /System isn't granted
whole, for the data volume is mounted in it; nor /Library, which holds the System keychain.
"""
