"""Prints each file that an installation could touch: path, tab, type, mode, owner, and what is in it.

Left out is what systemd, D-Bus and the journal change by themselves, and the backups that the user tools make.
More folders can be named on the command line. Outside /etc, only files that changed since the machine booted are read; of the others the size tells enough.
"""

import hashlib
import os
import re
import stat
import sys

ROOTS = ["/etc", "/home", "/opt", "/root", "/run", "/tmp", "/usr/lib/systemd", "/usr/lib/sysusers.d",
         "/usr/lib/tmpfiles.d", "/usr/local/bin", "/usr/local/lib/systemd", "/var/lib", "/var/spool", "/var/cache"]
NOT_OURS = re.compile(
    r"^(/etc/[^/]*-|/etc/\.pwd\.lock|/opt/mpm-tests/.*|/run/systemd|/run/log|/run/dbus|/run/lock"
    r"|/run/user/[0-9]+/(systemd|bus|dbus-1|gnupg)|/run/\.box.*|/run/utmp|/tmp/systemd-private.*"
    r"|/var/lib/systemd/(timers|timesync|random-seed|catalog|coredump|ephemeral-trees|rfkill|backlight))(/|$)")
BOOTED = os.stat("/proc/1").st_ctime


def describe(path):
    info = os.lstat(path)
    text = f"{stat.filemode(info.st_mode)} {info.st_uid}:{info.st_gid}"
    if stat.S_ISLNK(info.st_mode):
        text += " -> " + os.readlink(path)
    elif stat.S_ISREG(info.st_mode):
        if info.st_ctime >= BOOTED - 5 or path.startswith("/etc/"):
            with open(path, "rb") as file:
                text += " " + hashlib.sha256(file.read()).hexdigest()
        else:
            text += f" {info.st_size} bytes"
    return text


def main():
    for root in ROOTS + sys.argv[1:]:
        for folder, folders, files in os.walk(root):
            folders[:] = [f for f in folders if not NOT_OURS.match(os.path.join(folder, f))]
            for name in sorted(folders + files):
                path = os.path.join(folder, name)
                if NOT_OURS.match(path):
                    continue
                try:
                    print(f"{path}\t{describe(path)}".replace("\n", "?"))
                except FileNotFoundError:
                    pass


main()
