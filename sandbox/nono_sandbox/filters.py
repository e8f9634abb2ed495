"""t"""

import struct


def session_program(c, t):
    return struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)


def closed_network_program():
    return struct.pack("HBBI", 6, 0, 0, 0x7FFF0000)
