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
