"""Credentials of a person, which stay closed inside any grant.

A directory without a leading slash is beneath the person's home, and a `*` in a name stands for
any run of characters. READ | WRITE hides, WRITE alone leaves readable. A policy gives one path's
protection up by a bypass that names it.

Architecture invariant: this module is data and does no I/O; `protection` reads it.
"""

from __future__ import annotations

from nono_sandbox.confinement import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    Table = tuple[tuple[str, int, dict[str, str]], ...]
    """(what it is, access refused, names by their directory)"""

_BOTH = READ | WRITE

CREDENTIALS: Table = (
    (
        "SSH keys",
        _BOTH,
        {
            "": ".ssh .putty .tsh .step",
            ".config": "putty",
        },
    ),
    (
        "GnuPG keys",
        _BOTH,
        {
            "": ".gnupg",
            ".local/share": "gnupg",
        },
    ),
    (
        "cloud credentials",
        _BOTH,
        {
            "": (
                ".aws .azure .oci .aliyun .bluemix .tccli .ovh.conf .boto .s3cfg .passwd-s3fs .mc "
                ".linode-cli .exoscale .digitalocean .cloudflared .cloudflare .wrangler .fly "
                ".netlify .vercel .heroku .railway .render .supabase .ngrok2 .rclone.conf "
                ".snowflake .snowsql .databrickscfg .databricks .pulumi .terraform.d .terraformrc "
                ".tofurc .vault-token .vault .vault_pass* .ansible_vault_pass* .chef"
            ),
            ".config": (
                "gcloud azure rclone doctl stripe fly heroku hcloud scw exoscale linode-cli "
                ".wrangler cloudflare netlify supabase firebase configstore planetscale neonctl "
                "turso ngrok snowflake opentofu"
            ),
            ".local/share": "com.vercel.cli",
        },
    ),
    (
        "Kubernetes credentials",
        _BOTH,
        {
            "": ".kube .minikube .rancher .talos .argocd",
            ".config": "argocd helm",
        },
    ),
    (
        "container registry credentials",
        _BOTH,
        {
            "": ".docker .dockercfg",
            ".config": "containers",
        },
    ),
    (
        "Git and forge credentials",
        _BOTH,
        {
            "": (".git-credentials .gitcookies .git-credential-cache .gcm .gist .cvspass"),
            ".cache/git": "credential",
            ".config/git": "credentials",
            ".config": "gh hub lab glab-cli tea github-copilot",
            ".subversion": "auth",
        },
    ),
    (
        "network passwords",
        _BOTH,
        {
            "": (
                ".netrc _netrc .authinfo* .fetchmailrc .msmtprc .wgetrc .curlrc .smbcredentials "
                ".my.cnf .mylogin.cnf .pgpass .pg_service.conf .odbc.ini .influxdbv2 .filezilla "
                ".vnc"
            ),
            ".config": "msmtp curlrc filezilla remmina freerdp tigervnc nono-token*",
            ".local/share": "DBeaverData remmina",
        },
    ),
    (
        "package registry credentials",
        _BOTH,
        {
            "": (".npmrc .yarnrc .yarnrc.yml .bunfig.toml .pypirc .pip .condarc .gem .hex .pause"),
            ".config/pnpm": "rc",
            ".config": "pip pypoetry uv NuGet",
            ".local/share/uv": "credentials",
            ".cargo": "credentials*",
            ".local/share/gem": "credentials",
            ".bundle": "config",
            ".m2": "settings*",
            ".gradle": "gradle.properties",
            ".ivy2": ".credentials",
            ".sbt": ".credentials",
            ".nuget": "NuGet",
            ".composer": "auth.json",
            ".config/composer": "auth.json",
            ".cabal": "config",
        },
    ),
    (
        "model and data-set credentials",
        _BOTH,
        {
            ".cache/huggingface": "token stored_tokens",
            "": ".huggingface .kaggle .openai",
            ".config": "kaggle wandb openai anthropic aichat io.datasette.llm",
        },
    ),
    (
        "an agent's credentials and settings",
        _BOTH,
        {
            "": (
                ".claude* .gemini .qwen .copilot .continue .codeium .cline .aider* .amp .factory "
                ".augment .amazonq .kiro .grok"
            ),
            ".config": "claude Claude cursor amp goose opencode crush",
            ".codex": (
                "auth.json .credentials.json config.toml history.jsonl sessions archived_sessions "
                "log memories prompts rules skills plugins hooks* AGENTS* *.sqlite*"
            ),
            ".cursor": "mcp.json cli-config.json hooks.json",
            ".local/share": "amp goose opencode crush",
        },
    ),
    (
        "password stores and private keys",
        _BOTH,
        {
            "": (
                ".password-store .1password .op .keepass* .lpass .age .cosign .sigstore .minisign "
                ".signify .mitmproxy .pki .globus .openvpn .cisco"
            ),
            ".local/share": (
                "password-store gopass rbw lpass keyrings kwalletd mkcert pki networkmanagement"
            ),
            ".config": (
                "gopass op 1Password Bitwarden* rbw keepassxc KeePass lpass Enpass Proton* age sops"
            ),
            ".cache": "rbw keepassxc",
            ".gnome2": "keyrings",
            ".kde/share/apps": "kwallet",
        },
    ),
    (
        "browser profiles",
        _BOTH,
        {
            "": ".mozilla .librewolf .waterfox .floorp .zen .thunderbird snap",
            ".config": (
                "mozilla google-chrome* chromium BraveSoftware microsoft-edge* vivaldi* opera*"
            ),
            ".cache": "mozilla google-chrome* chromium BraveSoftware",
            ".local/share": "torbrowser",
            ".var": "app",
        },
    ),
    (
        "mail and messages",
        _BOTH,
        {
            ".config": (
                "evolution Signal Slack discord Element Microsoft keybase weechat hexchat mutt "
                "neomutt"
            ),
            ".local/share": "evolution keybase TelegramDesktop",
            "": ".purple .weechat .irssi .mutt .muttrc",
        },
    ),
    (
        "histories",
        _BOTH,
        {
            "": (
                ".*_history .*history .history .bash_sessions .zsh_sessions .lesshst .viminfo "
                ".dbshell .mongodb"
            ),
            ".local/state": "lesshst python_history",
            ".local/share": "fish atuin mcfly powershell recently-used.xbel",
        },
    ),
    (
        "crypto wallets",
        _BOTH,
        {
            "": (
                ".bitcoin .litecoin .dogecoin .dashcore .ethereum .bitmonero .zcash .electrum* "
                ".armory .multibit* .walletwasabi .sparrow .lnd .lightning .near-credentials .sui "
                ".aptos"
            ),
            ".foundry": "keystores",
            ".brownie": "accounts",
            ".config": "solana Exodus atomic Ledger* @trezor",
        },
    ),
    (
        "keys of the desktop session",
        _BOTH,
        {
            "": ".Xauthority .ICEauthority .dbus .esd_auth .pulse-cookie",
            ".config": "pulse",
        },
    ),
    (
        "an editor's secrets and settings",
        _BOTH,
        {
            ".config": "Code* VSCodium Cursor JetBrains",
        },
    ),
)
"""Read and written by nobody in the sandbox."""

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
