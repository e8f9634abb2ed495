"""One way for an agent to act: a confined one."""

__version__ = "0.1.0"
