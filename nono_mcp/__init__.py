"""One way for a coding agent to act: a confined one."""

__version__ = "0.1.0"
__all__ = ["FileError", "Outcome", "RolledBack", "Session"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nono_mcp.api import FileError, Outcome, RolledBack, Session


def __getattr__(name: str) -> object:
    # `nono run` imports this package too, and its start is a budget.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nono_mcp import api  # noqa: PLC0415 - see above

    return getattr(api, name)
