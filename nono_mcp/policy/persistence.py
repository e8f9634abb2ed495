"""Paths of a person's home that are protected from being written, since they run later.

Laid out as `protected` lays out its tables.

Architecture invariant: this module is data and does no I/O.
"""

from __future__ import annotations

from nono_sandbox.confinement import WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.policy.protected import Table

PERSISTENCE: Table = (
    (
        "shell start-up files",
        WRITE,
        {
            "": (
                ".bashrc .bash_profile .bash_login .bash_logout .bash_aliases .bash_completion "
                ".profile .zshrc .zshenv .zprofile .zlogin .zlogout .zsh .kshrc .mkshrc .cshrc "
                ".tcshrc .login .logout .inputrc .oh-my-zsh .p10k.zsh .envrc .direnvrc "
                ".tool-versions"
            ),
            ".config": "zsh fish powershell starship.toml nushell direnv mise",
        },
    ),
    (
        "what starts by itself",
        WRITE,
        {
            ".config": (
                "autostart autostart-scripts plasma-workspace systemd environment.d i3 sway hypr "
                "openbox awesome bspwm"
            ),
            ".local/share": "systemd dbus-1 applications kservices5 kio",
            "": (
                ".xprofile .xinitrc .xsession .xsessionrc .xmonad .xbindkeysrc .pam_environment "
                ".i3 .forward .procmailrc .mailcap .rhosts .shosts .k5login"
            ),
        },
    ),
    (
        "settings that name programs to run",
        WRITE,
        {
            "": (
                ".gitconfig .git-templates .hgrc .subversion .vimrc .gvimrc .exrc .vim .nvimrc "
                ".emacs .emacs.d .doom.d .nanorc .vscode .vscode-server .cursor-server .tmux.conf "
                ".tmux .screenrc .gdbinit .lldbinit .pdbrc .ipython .jupyter .irbrc .pryrc "
                ".Rprofile .Renviron .psqlrc .sqliterc .lessfilter .perldb .mavenrc .sbtrc "
                ".wezterm.lua .mcp.json"
            ),
            ".config": (
                "git hg jj nvim emacs doom helix zed nano tmux gdb wezterm kitty alacritty "
                "ghostty terminator"
            ),
            ".julia": "config",
            ".cargo": "config* env",
            ".gradle": "init*",
            ".cursor": "extensions rules commands agents",
        },
    ),
    (
        "programs on the person's PATH",
        WRITE,
        {
            "": (
                "bin .bin .rustup .pyenv .rbenv .nvm .fnm .volta .asdf .bun .deno .sdkman "
                ".npm-global"
            ),
            ".local": "bin lib pipx",
            ".local/share": "pipx uv mise fnm pnpm claude",
            ".cargo": "bin",
            "go": "bin",
        },
    ),
)
"""Read if granted; written by nobody in the sandbox, since it runs outside later."""

FAMILIES: Table = (
    (
        "an agent's own directory",
        0,
        {
            "": ".codex .cursor",
        },
    ),
)
"""The same for a Mac's home; a path a line, since names hold spaces."""
