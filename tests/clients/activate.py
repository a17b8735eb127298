"""Runs a program as a service manager would that listens for it: sd_listen_fds(3).

    activate.py KIND[+KIND...] NAME PORT PROGRAM [ARGUMENT...]

A KIND is tcp, udp, unix (an abstract name), or the path of a Unix socket.
"""

import os
import socket
import sys

kinds, name, port, *command = sys.argv[1:]
listeners = []
for kind in kinds.split("+"):
    family, type_, address = {
        "tcp": (socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(port))),
        "udp": (socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", int(port))),
        "unix": (socket.AF_UNIX, socket.SOCK_STREAM, f"\0mpm-monitor-test-{os.getpid()}"),
    }.get(kind, (socket.AF_UNIX, socket.SOCK_STREAM, kind))
    listener = socket.socket(family, type_)
    listener.bind(address)
    if kind != "udp":
        listener.listen(128)
    listeners.append(listener)
# Out of the way first, as one of them may have a number that another is to get.
away = [os.dup(listener.fileno()) for listener in listeners]
for listener in listeners:
    listener.detach()
for fd, kept in enumerate(away, 3):
    os.dup2(kept, fd)
    os.set_inheritable(fd, True)  # it may have been that number before, and then dup2 changes nothing
names = ":".join([name] * len(away))
os.environ |= {"LISTEN_FDS": str(len(away)), "LISTEN_FDNAMES": names, "LISTEN_PID": str(os.getpid())}
os.execv(command[0], command)
