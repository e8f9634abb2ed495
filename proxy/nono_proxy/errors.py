"""What goes wrong in the proxy, and whose fault it is.

A `Refusal` is an answer to the client (its code stands in `nono_proxy.refusals.TABLE`); every other
error is one of configuration, raised to who configured.
"""


class ProxyError(Exception):
    """Base of the errors that this package raises."""


class ConfigError(ProxyError, ValueError):
    """A configuration contradicts itself. Nothing was changed by it."""


class RuleError(ConfigError):
    """The text isn't a rule."""


class AuthorityError(ProxyError, ValueError):
    """The text names no host in the one grammar there is."""


class GrammarError(ProxyError, ValueError):
    """Bytes aren't HTTP/1.1 as this proxy accepts it."""


class UnknownRouteError(ProxyError, KeyError):
    """No route of the catalogue has that name."""

    def __str__(self) -> str:
        return str(self.args[0])


class CredentialUnavailableError(ProxyError):
    """A credential can't be had now; the message is fit to show to the agent."""


class Refusal(ProxyError):  # noqa: N818 - an answer, not a mistake
    """The request goes nowhere; *code* says why, *detail* is fit to show to the agent."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
