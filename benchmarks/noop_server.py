"""The SDK's own cost of a tool call: a server whose one tool does nothing."""

from mcp.server import MCPServer

server = MCPServer("noop")


@server.tool()
def noop() -> str:
    """Do nothing."""
    return ""


if __name__ == "__main__":
    server.run()
