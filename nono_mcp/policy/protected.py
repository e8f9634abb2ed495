"""What stays closed inside any grant: credentials, what runs later, other programs' sockets.

Each row is (what it is, access refused, paths). A path without a leading slash is beneath the
person's home; a `*` stands for any run of characters in a last component. READ | WRITE hides,
WRITE alone leaves readable. A policy gives up one row's path by a bypass that names it.

Architecture invariant: this module is data and does no I/O; `protection` reads it.
"""

from __future__ import annotations

from nono_sandbox.confinement import READ, WRITE

_BOTH = READ | WRITE

CREDENTIALS: tuple[tuple[str, int, str], ...] = (
    ("SSH keys", _BOTH, ".ssh .putty .config/putty .tsh .step"),
    ("GnuPG keys", _BOTH, ".gnupg .local/share/gnupg"),
    (
        "cloud credentials",
        _BOTH,
        """
        .aws .azure .oci .aliyun .bluemix .tccli .ovh.conf .boto .s3cfg .passwd-s3fs .mc
        .linode-cli .exoscale .digitalocean .cloudflared .cloudflare .wrangler .fly .netlify
        .vercel .heroku .railway .render .supabase .ngrok2 .rclone.conf .snowflake .snowsql
        .databrickscfg .databricks .pulumi .terraform.d .terraformrc .tofurc .vault-token .vault
        .vault_pass* .ansible_vault_pass* .chef .config/gcloud .config/azure .config/rclone
        .config/doctl .config/stripe .config/fly .config/heroku .config/hcloud .config/scw
        .config/exoscale .config/linode-cli .config/.wrangler .config/cloudflare .config/netlify
        .config/supabase .config/firebase .config/configstore .config/planetscale
        .config/neonctl .config/turso .config/ngrok .config/snowflake .config/opentofu
        .local/share/com.vercel.cli
        """,
    ),
    (
        "Kubernetes credentials",
        _BOTH,
        ".kube .minikube .rancher .talos .argocd .config/argocd .config/helm",
    ),
    ("container registry credentials", _BOTH, ".docker .dockercfg .config/containers"),
    (
        "Git and forge credentials",
        _BOTH,
        """
        .git-credentials .gitcookies .git-credential-cache .gcm .cache/git/credential
        .config/git/credentials .config/gh .config/hub .config/lab .config/glab-cli .config/tea
        .config/github-copilot .gist .subversion/auth .cvspass
        """,
    ),
    (
        "network passwords",
        _BOTH,
        """
        .netrc _netrc .authinfo* .fetchmailrc .msmtprc .config/msmtp .wgetrc .curlrc
        .config/curlrc .smbcredentials .my.cnf .mylogin.cnf .pgpass .pg_service.conf .odbc.ini
        .influxdbv2 .local/share/DBeaverData .config/filezilla .filezilla .config/remmina
        .local/share/remmina .config/freerdp .vnc .config/tigervnc
        """,
    ),
    (
        "package registry credentials",
        _BOTH,
        """
        .npmrc .yarnrc .yarnrc.yml .bunfig.toml .config/pnpm/rc .pypirc .pip .config/pip
        .config/pypoetry .config/uv .local/share/uv/credentials .condarc .cargo/credentials*
        .gem .local/share/gem/credentials .bundle/config .m2/settings* .gradle/gradle.properties
        .ivy2/.credentials .sbt/.credentials .nuget/NuGet .config/NuGet .composer/auth.json
        .config/composer/auth.json .hex .pause .cabal/config
        """,
    ),
    (
        "model and data-set credentials",
        _BOTH,
        """
        .cache/huggingface/token .cache/huggingface/stored_tokens .huggingface .kaggle
        .config/kaggle .config/wandb .openai .config/openai .config/anthropic .config/aichat
        .config/io.datasette.llm
        """,
    ),
    (
        "an agent's credentials and settings",
        _BOTH,
        """
        .claude* .config/claude .config/Claude .codex/auth.json .codex/.credentials.json
        .codex/config.toml .codex/history.jsonl .codex/sessions .codex/archived_sessions
        .codex/log .codex/memories .codex/prompts .codex/rules .codex/skills .codex/plugins
        .codex/hooks* .codex/AGENTS* .codex/*.sqlite* .gemini .qwen .cursor/mcp.json
        .cursor/cli-config.json .cursor/hooks.json .config/cursor .copilot .continue .codeium
        .cline .aider* .amp .config/amp .local/share/amp .factory .augment .amazonq .kiro .grok
        .config/goose .local/share/goose .config/opencode .local/share/opencode .config/crush
        .local/share/crush
        """,
    ),
    (
        "password stores and private keys",
        _BOTH,
        """
        .password-store .local/share/password-store .config/gopass .local/share/gopass
        .1password .op .config/op .config/1Password .config/Bitwarden* .config/rbw
        .local/share/rbw .cache/rbw .config/keepassxc .cache/keepassxc .config/KeePass .keepass*
        .lpass .config/lpass .local/share/lpass .config/Enpass .config/Proton*
        .local/share/keyrings .gnome2/keyrings .local/share/kwalletd .kde/share/apps/kwallet
        .age .config/age .config/sops .cosign .sigstore .minisign .signify .mitmproxy
        .local/share/mkcert .pki .local/share/pki .globus .openvpn .cisco
        .local/share/networkmanagement
        """,
    ),
    (
        "browser profiles",
        _BOTH,
        """
        .mozilla .config/mozilla .cache/mozilla .librewolf .waterfox .floorp .zen .thunderbird
        .config/google-chrome* .cache/google-chrome* .config/chromium .cache/chromium
        .config/BraveSoftware .cache/BraveSoftware .config/microsoft-edge* .config/vivaldi*
        .config/opera* .local/share/torbrowser .var/app snap
        """,
    ),
    (
        "mail and messages",
        _BOTH,
        """
        .config/evolution .local/share/evolution .config/Signal .config/Slack .config/discord
        .config/Element .config/Microsoft .config/keybase .local/share/keybase
        .local/share/TelegramDesktop .purple .weechat .config/weechat .irssi .config/hexchat
        .mutt .muttrc .config/mutt .config/neomutt
        """,
    ),
    (
        "histories",
        _BOTH,
        """
        .*_history .*history .history .bash_sessions .zsh_sessions .lesshst .local/state/lesshst
        .viminfo .dbshell .mongodb .local/share/fish .local/share/atuin .local/share/mcfly
        .local/share/powershell .local/share/recently-used.xbel .local/state/python_history
        """,
    ),
    (
        "crypto wallets",
        _BOTH,
        """
        .bitcoin .litecoin .dogecoin .dashcore .ethereum .bitmonero .zcash .electrum* .armory
        .multibit* .walletwasabi .sparrow .lnd .lightning .near-credentials .sui .aptos
        .foundry/keystores .brownie/accounts .config/solana .config/Exodus .config/atomic
        .config/Ledger* .config/@trezor
        """,
    ),
    (
        "keys of the desktop session",
        _BOTH,
        ".Xauthority .ICEauthority .dbus .esd_auth .pulse-cookie .config/pulse",
    ),
    (
        "an editor's secrets and settings",
        _BOTH,
        ".config/Code* .config/VSCodium .config/Cursor .config/JetBrains",
    ),
)
"""Read and written by nobody in the sandbox."""

PERSISTENCE: tuple[tuple[str, int, str], ...] = (
    (
        "shell start-up files",
        WRITE,
        """
        .bashrc .bash_profile .bash_login .bash_logout .bash_aliases .bash_completion .profile
        .zshrc .zshenv .zprofile .zlogin .zlogout .zsh .kshrc .mkshrc .cshrc .tcshrc .login
        .logout .inputrc .oh-my-zsh .p10k.zsh .config/zsh .config/fish .config/powershell
        .config/starship.toml .config/nushell .envrc .direnvrc .config/direnv .config/mise
        .tool-versions
        """,
    ),
    (
        "what starts by itself",
        WRITE,
        """
        .config/autostart .config/autostart-scripts .config/plasma-workspace .config/systemd
        .config/environment.d .local/share/systemd .local/share/dbus-1 .local/share/applications
        .local/share/kservices5 .local/share/kio .xprofile .xinitrc .xsession .xsessionrc
        .xmonad .xbindkeysrc .pam_environment .i3 .config/i3 .config/sway .config/hypr
        .config/openbox .config/awesome .config/bspwm .forward .procmailrc .mailcap .rhosts
        .shosts .k5login
        """,
    ),
    (
        "settings that name programs to run",
        WRITE,
        """
        .gitconfig .config/git .git-templates .hgrc .config/hg .config/jj .subversion .vimrc
        .gvimrc .exrc .vim .nvimrc .config/nvim .emacs .emacs.d .doom.d .config/emacs
        .config/doom .config/helix .config/zed .nanorc .config/nano .vscode .vscode-server
        .cursor-server .tmux.conf .tmux .config/tmux .screenrc .gdbinit .config/gdb .lldbinit
        .pdbrc .ipython .jupyter .irbrc .pryrc .Rprofile .Renviron .julia/config .psqlrc
        .sqliterc .lessfilter .perldb .cargo/config* .cargo/env .gradle/init* .mavenrc .sbtrc
        .wezterm.lua .config/wezterm .config/kitty .config/alacritty .config/ghostty
        .config/terminator .mcp.json .cursor/extensions .cursor/rules .cursor/commands
        .cursor/agents
        """,
    ),
    (
        "programs on the person's PATH",
        WRITE,
        """
        bin .bin .local/bin .local/lib .local/pipx .local/share/pipx .local/share/uv
        .local/share/mise .local/share/fnm .local/share/pnpm .local/share/claude .cargo/bin
        .rustup .pyenv .rbenv .nvm .fnm .volta .asdf .bun .deno .sdkman .npm-global go/bin
        """,
    ),
)
"""Read if granted; written by nobody in the sandbox, since it runs outside later."""

FAMILIES: tuple[tuple[str, int, str], ...] = (("an agent's own directory", 0, ".codex .cursor"),)
"""Refused nothing themselves; a bypass may name them, and means all that is protected within."""

MACOS: tuple[tuple[str, int, str], ...] = (
    ("keychains", _BOTH, "Library/Keychains"),
    (
        "private data of applications",
        _BOTH,
        """
        Library/Accounts
        Library/Calendars
        Library/Containers
        Library/Cookies
        Library/Group Containers
        Library/Mail
        Library/Messages
        Library/Safari
        Library/Application Support/AddressBook
        Library/Application Support/BraveSoftware
        Library/Application Support/Claude
        Library/Application Support/Chromium
        Library/Application Support/Code*
        Library/Application Support/Cursor
        Library/Application Support/Firefox
        Library/Application Support/Google
        Library/Application Support/JetBrains
        Library/Application Support/Microsoft Edge
        Library/Application Support/Signal
        Library/Application Support/Slack
        Library/Application Support/1Password
        Library/Application Support/Bitwarden
        Library/Application Support/discord
        Library/Application Support/com.apple.TCC
        Library/Application Support/gcloud
        """,
    ),
    (
        "what starts by itself",
        WRITE,
        """
        Library/LaunchAgents
        Library/Application Scripts
        Library/Services
        Library/Scripts
        Library/QuickLook
        Library/Input Methods
        .hammerspoon
        .config/karabiner
        """,
    ),
)
"""The same for a Mac's home; a path a line, since names hold spaces."""

SYSTEM: tuple[tuple[str, int, str], ...] = (
    (
        "passwords of the system",
        _BOTH,
        """
        /etc/shadow* /etc/gshadow* /etc/security/opasswd /etc/sudoers
        /etc/sudoers.d /etc/doas.conf /etc/master.passwd /etc/krb5.keytab /etc/sssd
        /etc/ldap.secret /etc/libnss-ldap.secret /etc/pam_ldap.secret /etc/crypttab
        /etc/cryptsetup-keys.d /etc/luks* /etc/credstore* /etc/iscsi/iscsid.conf /etc/ceph/*keyring
        """,
    ),
    (
        "private keys of the system",
        _BOTH,
        """
        /etc/ssh/ssh_host_*_key /etc/ssl/private /etc/pki/tls/private /etc/pki/private
        /etc/pki/CA/private /etc/pki/rpm-gpg/private /etc/letsencrypt /etc/acme* /etc/ipsec.d
        /etc/ipsec.secrets /etc/swanctl /etc/openvpn /etc/wireguard /etc/tinc /etc/bind/rndc.key
        /etc/rndc.key
        """,
    ),
    (
        "network passwords of the system",
        _BOTH,
        """
        /etc/NetworkManager/system-connections /etc/netplan /etc/wpa_supplicant /etc/iwd
        /etc/ppp/*secrets /etc/chatscripts /etc/cloudflared /etc/msmtprc /etc/fetchmailrc
        /etc/postfix/sasl* /etc/exim4/passwd.client /etc/samba/credentials* /etc/davfs2
        /etc/apt/auth.conf* /etc/boto.cfg /etc/rclone.conf
        """,
    ),
    (
        "credentials of services",
        _BOTH,
        """
        /etc/docker/key.json /etc/containerd /etc/containers/auth.json /etc/kubernetes /etc/rancher
        /etc/mysql/debian.cnf /etc/redis /etc/grafana /etc/gitlab* /etc/vault.d /etc/consul.d
        /etc/nomad.d /etc/rabbitmq /etc/freeradius /etc/cups/ssl /etc/nut /var/lib/secrets
        /var/lib/private /var/lib/kubelet /var/lib/docker /var/lib/containerd /var/lib/rancher
        /var/lib/tailscale /var/lib/NetworkManager /var/lib/iwd /var/lib/bluetooth /var/lib/sss
        /var/lib/systemd/credential.secret /var/lib/cloud /var/lib/waagent /var/spool/cron
        /var/spool/mail /var/mail /var/backups /var/log /run/secrets /run/credentials
        /run/agenix /run/keys /run/user/* /var/run/secrets
        """,
    ),
    ("another person's home", _BOTH, "/root"),
    (
        "what starts by itself",
        WRITE,
        """
        /etc/ld.so.preload /etc/ld.so.conf* /etc/profile* /etc/bash.bashrc /etc/environment
        /etc/cron* /etc/anacrontab /etc/systemd /etc/init.d /etc/rc* /etc/pam.d
        /etc/xdg/autostart /etc/udev /etc/modprobe.d /etc/sysctl* /boot /efi
        """,
    ),
)
"""What user 0 reads even without a capability, since it owns it."""

SOCKETS: tuple[tuple[str, int, str], ...] = (
    (
        "a socket of a program outside",
        _BOTH,
        """
        /run/docker* /run/containerd /run/podman /run/crio /run/buildkit /run/lxd* /run/incus*
        /run/libvirt /run/dbus /run/systemd /run/udev /run/snapd* /run/tailscale /run/cups
        /run/avahi-daemon /run/nscd /run/pcscd /run/acpid.socket /run/screen /run/tmux
        /run/postgresql /run/mysqld /run/redis /run/WSL /var/lib/lxd /var/lib/incus
        /tmp/.X11-unix /tmp/.ICE-unix /tmp/tmux-* /tmp/ssh-* /tmp/screens /tmp/dbus-*
        /tmp/vscode-*.sock /var/run/docker* /var/run/dbus /var/run/containerd
        """,
    ),
)
"""A program behind one of these does as it's told, outside the sandbox."""

VARIABLES: tuple[tuple[str, str], ...] = (
    ("AWS_SHARED_CREDENTIALS_FILE", "cloud credentials"),
    ("AWS_CONFIG_FILE", "cloud credentials"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "cloud credentials"),
    ("AZURE_CONFIG_DIR", "cloud credentials"),
    ("AZURE_FEDERATED_TOKEN_FILE", "cloud credentials"),
    ("BOTO_CONFIG", "cloud credentials"),
    ("CLOUDSDK_CONFIG", "cloud credentials"),
    ("GOOGLE_APPLICATION_CREDENTIALS", "cloud credentials"),
    ("OCI_CLI_CONFIG_FILE", "cloud credentials"),
    ("RCLONE_CONFIG", "cloud credentials"),
    ("TF_CLI_CONFIG_FILE", "cloud credentials"),
    ("KUBECONFIG", "Kubernetes credentials"),
    ("DOCKER_CONFIG", "container registry credentials"),
    ("REGISTRY_AUTH_FILE", "container registry credentials"),
    ("GNUPGHOME", "GnuPG keys"),
    ("GH_CONFIG_DIR", "Git and forge credentials"),
    ("NETRC", "network passwords"),
    ("PGPASSFILE", "network passwords"),
    ("NPM_CONFIG_USERCONFIG", "package registry credentials"),
    ("PIP_CONFIG_FILE", "package registry credentials"),
    ("PASSWORD_STORE_DIR", "password stores and private keys"),
    ("SOPS_AGE_KEY_FILE", "password stores and private keys"),
    ("HISTFILE", "histories"),
    ("XAUTHORITY", "keys of the desktop session"),
    ("ICEAUTHORITY", "keys of the desktop session"),
    ("SSH_AUTH_SOCK", "a socket of a program outside"),
    ("GPG_AGENT_INFO", "a socket of a program outside"),
    ("CLAUDE_CONFIG_DIR", "an agent's credentials and settings"),
    ("CODEX_HOME", "an agent's credentials and settings"),
)
"""Variables of the person's environment that say where else such a thing is."""

MOVABLE: tuple[tuple[str, str], ...] = (
    ("XDG_CONFIG_HOME", ".config"),
    ("XDG_DATA_HOME", ".local/share"),
    ("XDG_STATE_HOME", ".local/state"),
    ("XDG_CACHE_HOME", ".cache"),
    ("CARGO_HOME", ".cargo"),
)
"""Variables that move a directory of the home, with what is protected in it."""
