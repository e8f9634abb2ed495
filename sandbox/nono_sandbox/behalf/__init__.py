"""Acting on behalf of workers that connect, bind, listen, send or change metadata.

No filter sees where a pointer points, and what it points to changes under whoever looks. So such
a call waits (`notifications`), and this side copies the address once (`addresses`, `messages`),
judges the copy (`local_addresses`, `own_sockets`, `writable`), and acts on the caller's own socket
(`connecting`, `sending`, `caller_socket`) or on the file it opened (`metadata`). A local socket is
connected and sent to by the descriptor of what was judged, never by its name; it is bound by a
child that is in the workers' own Landlock domain, so that the kernel judges where.

`answerer` is used by the fork server of a session, and by a process of its own (`process`) of a
single run. What would block is tried again while others are served (`pending`). `_syscalls` has
what the standard library has no names for.

Architecture invariant: no call is ever let through; what can't be judged is refused.
"""
