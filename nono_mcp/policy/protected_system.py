"""Paths of the system, and of a Mac's home, that are protected whatever a policy grants.

Laid out as `protected` lays out its tables.

Architecture invariant: this module is data and does no I/O.
"""

from __future__ import annotations

from nono_sandbox.confinement import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.protected import Table

_BOTH = READ | WRITE

SYSTEM: Table = (
    (
        "passwords of the system",
        _BOTH,
        {
            "/etc": (
                "shadow* gshadow* sudoers sudoers.d doas.conf master.passwd krb5.keytab sssd "
                "ldap.secret libnss-ldap.secret pam_ldap.secret crypttab cryptsetup-keys.d luks* "
                "credstore*"
            ),
            "/etc/security": "opasswd",
            "/etc/iscsi": "iscsid.conf",
            "/etc/ceph": "*keyring",
        },
    ),
    (
        "private keys of the system",
        _BOTH,
        {
            "/etc/ssh": "ssh_host_*_key",
            "/etc/ssl": "private",
            "/etc/pki/tls": "private",
            "/etc/pki": "private",
            "/etc/pki/CA": "private",
            "/etc/pki/rpm-gpg": "private",
            "/etc": (
                "letsencrypt acme* ipsec.d ipsec.secrets swanctl openvpn wireguard tinc rndc.key"
            ),
            "/etc/bind": "rndc.key",
        },
    ),
    (
        "network passwords of the system",
        _BOTH,
        {
            "/etc/NetworkManager": "system-connections",
            "/etc": (
                "netplan wpa_supplicant iwd chatscripts cloudflared msmtprc fetchmailrc davfs2 "
                "boto.cfg rclone.conf"
            ),
            "/etc/ppp": "*secrets",
            "/etc/postfix": "sasl*",
            "/etc/exim4": "passwd.client",
            "/etc/samba": "credentials*",
            "/etc/apt": "auth.conf*",
        },
    ),
    (
        "credentials of services",
        _BOTH,
        {
            "/etc/docker": "key.json",
            "/etc": (
                "containerd kubernetes rancher redis grafana gitlab* vault.d consul.d nomad.d "
                "rabbitmq freeradius nut"
            ),
            "/etc/containers": "auth.json",
            "/etc/mysql": "debian.cnf",
            "/etc/cups": "ssl",
            "/var/lib": (
                "secrets private kubelet docker containerd rancher tailscale NetworkManager iwd "
                "bluetooth sss cloud waagent"
            ),
            "/var/lib/systemd": "credential.secret",
            "/var/spool": "cron mail",
            "/var": "mail backups log",
            "/run": "secrets credentials agenix keys",
            "/run/user": "*",
            "/var/run": "secrets",
        },
    ),
    (
        "another person's home",
        _BOTH,
        {
            "/": "root",
        },
    ),
    (
        "what starts by itself",
        WRITE,
        {
            "/etc": (
                "ld.so.preload ld.so.conf* profile* bash.bashrc environment cron* anacrontab "
                "systemd init.d rc* pam.d udev modprobe.d sysctl*"
            ),
            "/etc/xdg": "autostart",
            "/": "boot efi",
        },
    ),
)
"""What user 0 reads even without a capability, since it owns it."""

SOCKETS: Table = (
    (
        "a socket of a program outside",
        _BOTH,
        {
            "/run": (
                "docker* containerd podman crio buildkit lxd* incus* libvirt dbus systemd udev "
                "snapd* tailscale cups avahi-daemon nscd pcscd acpid.socket screen tmux "
                "postgresql mysqld redis WSL"
            ),
            "/var/lib": "lxd incus",
            "/tmp": ".X11-unix .ICE-unix tmux-* ssh-* screens dbus-* vscode-*.sock",  # noqa: S108 - the machine's own
            "/var/run": "docker* dbus containerd",
        },
    ),
)
"""A program behind one of these does as it's told, outside the sandbox."""

MACOS: Table = (
    (
        "keychains",
        _BOTH,
        {
            "Library": "Keychains",
        },
    ),
    (
        "private data of applications",
        _BOTH,
        {
            "Library": (
                "Accounts, Calendars, Containers, Cookies, Group Containers, Mail, Messages, Safari"
            ),
            "Library/Application Support": (
                "AddressBook, BraveSoftware, Claude, Chromium, Code*, Cursor, Firefox, Google, "
                "JetBrains, Microsoft Edge, Signal, Slack, 1Password, Bitwarden, discord, "
                "com.apple.TCC, gcloud"
            ),
        },
    ),
    (
        "what starts by itself",
        WRITE,
        {
            "Library": (
                "LaunchAgents, Application Scripts, Services, Scripts, QuickLook, Input Methods"
            ),
            "": ".hammerspoon",
            ".config": "karabiner",
        },
    ),
)
"""The same for a Mac's home; commas between names, which hold spaces."""
