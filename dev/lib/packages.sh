# Debian packages: which are missing, and their installation without side effects on the machine.
# shellcheck shell=bash

# missing_packages: names, one a line; told by what the stack runs, not by what dpkg says.
missing_packages() {
    have runsvdir || echo runit
    have curl || echo curl
    have ss || echo iproute2
    have cc || printf '%s\n' gcc libc6-dev
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || echo postgresql
    [[ -x /usr/lib/rabbitmq/bin/rabbitmq-server ]] || echo rabbitmq-server
    compgen -G '/usr/lib/*/libcurl.so.4' >/dev/null || echo libcurl4
    if ! downloads_present && ! python3 -m pip --version >/dev/null 2>&1; then echo python3-pip; fi
}

# not_installed NAME…: those of these packages that are not installed.
not_installed() {
    local name
    for name; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || echo "$name"
    done
}

have() { command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 || -x /sbin/$1 ]]; }

# install_packages NAME…: with sudo where we are not root; the log is shown when it fails.
install_packages() {
    local log=$STACK_CACHE/apt.log become=()
    (($# > 0)) || return 0
    require_root "$@"
    mkdir -p "$STACK_CACHE"
    step "installing Debian packages: $*"
    ((EUID == 0)) || become=(sudo)
    "${become[@]}" bash "$ROOT/dev/lib/apt-install" "$@" >"$log" 2>&1 </dev/null && return
    tail -n 20 "$log" | indent
    die "apt-get failed (the end of its log is above, all of it in $log): try 'apt-get install $*' by hand, then run this again"
}
