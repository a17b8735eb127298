"""Runs a program as a service manager would that listens for it: sd_listen_fds(3).

    activate.py tcp|udp|unix NAME PORT PROGRAM [ARGUMENT...]
"""

import os
import socket
import sys

kind, name, port, *command = sys.argv[1:]
FAMILY, TYPE, ADDRESS = {
    "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(port))),
    "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", int(port))),
    "unix": (socket.AF_UNIX, socket.SOCK_STREAM, f"\0mpm-monitor-test-{os.getpid()}"),
}[kind]
listener = socket.socket(FAMILY, TYPE)
listener.bind(ADDRESS)
if kind != "udp":
    listener.listen(128)
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)  # it may have been 3 before, and then dup2 changes nothing
os.environ |= {"LISTEN_FDS": "1", "LISTEN_FDNAMES": name, "LISTEN_PID": str(os.getpid())}
os.execv(command[0], command)
