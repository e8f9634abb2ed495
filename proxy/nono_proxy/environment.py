"""The environment variables by which programs find the proxy, its CA and their tokens.

Architecture invariant: no I/O; the environment of the process that runs this is never read.
"""

from base64 import b64encode
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from nono_proxy.config import Route

_PROXY = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
# `npm_config_*` are npm's own names, and the others are as their programs document them.
_NPM_PROXY = ("npm_config_proxy", "npm_config_https_proxy", "YARN_HTTP_PROXY", "YARN_HTTPS_PROXY")
_CA = (
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CLOUDSDK_CORE_CUSTOM_CA_CERTS_FILE",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
    "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
    "npm_config_cafile",
)
_GIT = ("GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS")
_REMOVED = frozenset(
    {
        *_GIT,
        "FTP_PROXY",
        "GIT_PROXY_COMMAND",
        "GIT_SSL_NO_VERIFY",
        "NODE_TLS_REJECT_UNAUTHORIZED",
        "NO_PROXY",
        "SSL_CERT_DIR",
        "GIT_SSL_CAPATH",
        "ftp_proxy",
        "no_proxy",
        "npm_config_noproxy",
    }
)
# Values that no credential stands behind: what an AWS client insists on having beside its key id.
_AWS_SECRET = "nono-phantom-secret-access-key"  # noqa: S105 - it's public
_FIXED = MappingProxyType({"NODE_USE_ENV_PROXY": "1", "NO_PROXY": "", "no_proxy": ""})

OWNED: frozenset[str] = frozenset(
    {
        *_PROXY,
        *(name.lower() for name in _PROXY),
        *_NPM_PROXY,
        *_CA,
        *_REMOVED,
        *_FIXED,
        "JAVA_TOOL_OPTIONS",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    }
)


def proxy_variables(url: str, address: str, port: int) -> dict[str, str]:
    """Return what leads programs to the proxy at *url*, in both cases of every name."""
    java = " ".join(
        f"-D{scheme}.proxyHost={address.strip('[]')} -D{scheme}.proxyPort={port}"
        for scheme in ("http", "https")
    )
    return {
        **dict.fromkeys((*_PROXY, *(name.lower() for name in _PROXY), *_NPM_PROXY), url),
        **_FIXED,
        "JAVA_TOOL_OPTIONS": f"{java} -Dhttp.nonProxyHosts=",
    }


def trust_variables(ca_path: str) -> dict[str, str]:
    """Return what makes programs trust the bundle at *ca_path*."""
    return dict.fromkeys(_CA, ca_path)


def route_variables(
    routes: Iterable[Route], tokens: Mapping[str, str], base: str
) -> dict[str, str]:
    """Return tokens in the variables that programs read keys from, and their base URLs."""
    found: dict[str, str] = {}
    for route in routes:
        token = tokens.get(route.name)
        if token is not None:
            found.update(dict.fromkeys(route.key_variables, token))
            if "AWS_ACCESS_KEY_ID" in route.key_variables:
                found["AWS_SECRET_ACCESS_KEY"] = _AWS_SECRET
        for url in route.base_urls:
            found[url.variable] = f"{base}/{route.name}{url.suffix}"
    return found


def git_variables(routes: Iterable[Route], tokens: Mapping[str, str]) -> dict[str, str]:
    """Return the configuration that makes git present a token at its hosts, and only there."""
    pairs: list[tuple[str, str]] = []
    for route in routes:
        token = tokens.get(route.name)
        if token is None or not route.git_user:
            continue
        basic = b64encode(f"{route.git_user}:{token}".encode()).decode()
        pairs.extend(
            (f"http.https://{rule}/.extraHeader", f"Authorization: Basic {basic}")
            for rule in route.rules
            if not rule.pattern.startswith("*.")
        )
    found = {"GIT_CONFIG_COUNT": str(len(pairs))} if pairs else {}
    for number, (key, value) in enumerate(pairs):
        found[f"GIT_CONFIG_KEY_{number}"] = key
        found[f"GIT_CONFIG_VALUE_{number}"] = value
    return found
