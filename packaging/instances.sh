# ours MANAGER... KIND: the instances there that run from a package's units; others, which somebody put before them with
# a program of their own, are not this package's to touch
ours() {
    case $# in
    2) kind=$2 && set -- "$1" ;;
    *) kind=$4 && set -- "$1" "$2" "$3" ;;
    esac
    systemctl "$@" --plain --no-legend --state=active,activating,reloading list-units "mpm-monitor@*.$kind" 2>/dev/null |
        while read -r unit rest; do
            case $(systemctl "$@" show --value --property=FragmentPath "$unit") in
            /lib/systemd/* | /usr/lib/systemd/*) echo "$unit" ;;
            esac
        done
}

# users VERB: the numbers of those whose managers run; none where the administrator's policy forbids packages the verb
users() {
    if [ -x /usr/sbin/policy-rc.d ]; then
        code=0
        /usr/sbin/policy-rc.d 'mpm-monitor@' "$1" >/dev/null || code=$?
        [ "$code" -ne 101 ] || return 0
    fi
    systemctl --plain --no-legend list-units 'user@*.service' 2>/dev/null | sed -n 's/^user@\([0-9]*\)\.service.*/\1/p'
}

# refused UNIT MANAGER...: whether the new program refuses the settings of the process that runs, asked as its user, with its
# words and its environment; then says so. What does not run refuses nothing.
refused() {
    unit=$1 && shift
    pid=$(systemctl "$@" show --value --property=MainPID "$unit") || return 1
    [ "${pid:-0}" -gt 0 ] && [ -r "/proc/$pid/environ" ] || return 1
    # Each word of it ends with NUL: the variables, the program, what comes after "run".
    said=$(
        {
            grep -za '^[A-Za-z_][A-Za-z0-9_]*=' "/proc/$pid/environ"
            printf '%s\0' mpm-monitor config check
            tail -z -n +3 "/proc/$pid/cmdline"
        } | timeout 10 xargs -0 setpriv --reuid "$(stat -c %u "/proc/$pid")" --regid "$(stat -c %g "/proc/$pid")" \
            --init-groups env -i 2>&1
    ) && return 1
    {
        echo "mpm-monitor: $unit was not restarted, the old process goes on: the new version refuses its settings."
        echo "$said"
        echo "Correct them, then type: systemctl $* restart $unit"
    } >&2
}
