# The commands of dev/stack: stack_NAME does what `dev/stack NAME` promises.
# shellcheck shell=bash

stack_install() {
    local missing
    if (($# == 0)); then
        install_all
    else
        mapfile -t missing < <(not_installed "$@")
        install_packages "${missing[@]}"
    fi
}

# install_all: what the stack runs. Two stacks may be at it at once.
install_all() {
    local missing
    preflight
    mkdir -p "$STACK_CACHE"
    exec 8>"$STACK_CACHE/lock"
    flock 8
    mapfile -t missing < <(missing_packages)
    install_packages "${missing[@]}"
    install_downloads
    exec 8>&-
}

stack_servers() {
    prepare
    bring_up "${SERVERS[@]}"
}

stack_up() {
    prepare
    build
    bring_up "${SERVERS[@]}" "${SERVICES[@]}"
    cat <<EOT

Switchboard is up.

    console        $FRONTEND_URL
    broker         $BROKER_URL
    mails          $MAIL_PAGE_URL
    RabbitMQ       $RABBITMQ_MANAGEMENT_URL (user switchboard; its password is in ${STACK_DIR#"$PWD"/}/env)
    account        admin@example.com / verysecret

Try it:

    curl -i $BROKER_URL/handle -H 'Content-Type: application/json' \\
        -d '{"action":"auth","auth":{"email":"admin@example.com","password":"verysecret"}}'

EOT
}

stack_down() {
    lock
    [[ -d $SERVICE_TREE ]] || { step "nothing to stop"; return; }
    step "stopping"
    stop_supervisor
    step "stopped; the data is kept in $STACK_DIR"
}

stack_reset() {
    lock
    if [[ -d $SERVICE_TREE ]]; then
        step "stopping"
        stop_supervisor
    fi
    step "removing $STACK_DIR"
    [[ ! -L $STACK_DIR/postgres ]] || rm -rf "$(readlink "$STACK_DIR/postgres")"
    rm -rf "$STACK_DIR"
}

stack_restart() {
    local names=("${SERVICES[@]}")
    if (($# > 0)); then
        require_process "$1"
        names=("$1")
    fi
    lock
    supervisor_pid >/dev/null || die "the stack is down: start it with 'make up'"
    load_settings
    restart "${names[@]}"
    wait_until_ready "${names[@]}"
}

stack_status() {
    local name state pid seconds broken=0
    [[ -e $STACK_DIR/env ]] || die "there is no stack in $STACK_DIR: start one with 'make up'"
    load_settings
    printf '%-10s %-10s %8s  %-34s %s\n' NAME STATE PID ADDRESS UPTIME
    for name in "${SERVERS[@]}" "${SERVICES[@]}"; do
        read -r state pid seconds < <(state_of "$name") || true
        case $state in
        run) if ready "$name"; then state=ready; else state=unready; fi ;;
        finish) state=restarting ;;
        esac
        [[ $state == ready ]] || broken=1
        printf '%-10s %-10s %8s  %-34s %s\n' "$name" "$state" "${pid:--}" "$(address_of "$name")" "${seconds:+$(duration "$seconds")}"
    done
    return "$broken"
}

# prepare: everything before the first process: the machine, the tools, the settings.
prepare() {
    install_all
    (umask 077 && mkdir -p "$STACK_DIR/log")
    lock
    load_settings
    save_settings
    # shellcheck source=/dev/null
    . "$STACK_DIR/env"
    make_tree
}

build() {
    [[ ${STACK_BUILD:-1} != 0 ]] || return 0
    step "building the services (${STACK_PROFILE:-release})"
    (cd "$ROOT" && cargo build --profile "${STACK_PROFILE:-release}" --bins "${SERVICES[@]/#/--package=}" 9>&-) ||
        die "the build failed (its errors are above): mend it, then run this again"
}

# bring_up NAME…: starts what does not run, restarts what runs with an old binary or old settings, leaves the rest alone.
bring_up() {
    local name state outdated=()
    require_free_ports "$@"
    start_supervisor
    step "starting"
    for name; do
        read -r state _ < <(state_of "$name")
        [[ $state != run ]] || is_current "$name" || outdated+=("$name")
    done
    start "$@"
    ((${#outdated[@]} == 0)) || restart "${outdated[@]}"
    wait_until_ready "$@"
}

restart() {
    step "restarting $*"
    (cd "$SERVICE_TREE" && rm -f "${@/%//deaths}")
    control 20 force-restart "$@" || true
}

require_process() {
    among "$1" "${SERVERS[@]}" "${SERVICES[@]}" || die "there is no process $1: choose one of ${SERVERS[*]} ${SERVICES[*]}"
}

# lock: one command at a time changes a stack.
lock() {
    [[ -d $STACK_DIR ]] || return 0
    exec 9>"$STACK_DIR/lock"
    flock -n 9 || die "another dev/stack is at work on $STACK_DIR: wait for it to end, then run this again"
}

# duration SECONDS: for people.
duration() {
    if (($1 < 120)); then
        echo "$1 s"
    elif (($1 < 7200)); then
        echo "$(($1 / 60)) min"
    else
        echo "$(($1 / 3600)) h"
    fi
}
