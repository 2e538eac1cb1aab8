# The runit tree of a stack, in $STACK_DIR/service: one folder per process, each with its log under $STACK_DIR/log.
# runsvdir starts one runsv per folder; runsv starts dev/run/NAME, and again when it ends.
# Every process carries SWITCHBOARD_STACK in its environment: that is how we know our own.
# shellcheck shell=bash

SERVICE_TREE=$STACK_DIR/service
MARK=SWITCHBOARD_STACK=$STACK_DIR

# make_tree: a folder per process; `down` in it keeps runsv from starting the process before it is asked to.
make_tree() {
    local name folder
    for name in "${SERVERS[@]}" "${SERVICES[@]}"; do
        folder=$SERVICE_TREE/$name
        [[ -d $folder ]] || { mkdir -p "$folder/log" && touch "$folder/down"; }
        mkdir -p "$STACK_DIR/log/$name"
        ln -sfn "$ROOT/dev/run/log" "$folder/log/run"
        ln -sfn "$ROOT/dev/run/finish" "$folder/finish"
        if among "$name" "${SERVICES[@]}"; then
            ln -sfn "$ROOT/dev/run/service" "$folder/run"
        else
            ln -sfn "$ROOT/dev/run/$name" "$folder/run"
        fi
    done
    # `sv down` sends TERM, on which PostgreSQL waits for its clients: INT is its fast shutdown.
    mkdir -p "$SERVICE_TREE/postgres/control"
    ln -sfn "$ROOT/dev/run/interrupt" "$SERVICE_TREE/postgres/control/t"
}

# start_supervisor: with an environment of its own, so that no process depends on the shell that started it.
start_supervisor() {
    supervisor_pid >/dev/null && return
    # shellcheck disable=SC2094
    env -i "$MARK" "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "HOME=$STACK_DIR" LANG=C.UTF-8 \
        setsid runsvdir -P "$SERVICE_TREE" </dev/null >>"$STACK_DIR/log/runsvdir" 2>&1 9>&- &
    echo $! >"$STACK_DIR/runsvdir.pid"
    disown
}

# supervisor_pid: the pid of our runsvdir, if it runs.
supervisor_pid() {
    local pid
    pid=$(cat "$STACK_DIR/runsvdir.pid" 2>/dev/null) && is_marked "$pid" && echo "$pid"
}

# is_marked PID: whether a process was started by this stack.
is_marked() { [[ -r /proc/$1/environ ]] && grep -qzxF "$MARK" "/proc/$1/environ" 2>/dev/null; }

# is_ours PID: the same, told by its ancestors too (PostgreSQL's children overwrite their environment).
is_ours() {
    local pid=$1
    while [[ -n $pid ]] && ((pid > 1)); do
        ! is_marked "$pid" || return 0
        pid=$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status" 2>/dev/null) || true
    done
    return 1
}

# our_processes: pids of all that this stack started and that still run.
our_processes() {
    { grep -lzxF "$MARK" /proc/[0-9]*/environ 2>/dev/null || true; } | cut -d / -f 3
}

# control SECONDS COMMAND NAME…: tells runsv, and waits for it to be done, 0 seconds or more.
control() {
    local seconds=$1 command=$2 wait=()
    shift 2
    ((seconds == 0)) || wait=(-w "$seconds")
    sv "${wait[@]}" "$command" "${@/#/$SERVICE_TREE/}" >/dev/null 2>&1
}

# start NAME…: from now on runsv keeps it running.
start() {
    local name patience
    for name; do
        rm -f "$SERVICE_TREE/$name/down" "$SERVICE_TREE/$name/deaths"
        for ((patience = 0; patience < 100; patience++)); do
            ! control 0 up "$name" || continue 2
            sleep 0.1
        done
        die "the supervisor did not take up $name: see $STACK_DIR/log/runsvdir, then try 'make down' and this again"
    done
}

# state_of NAME: "run PID SECONDS", "finish" (it died and is about to be started again), or "down".
state_of() {
    local said
    said=$(sv status "$SERVICE_TREE/$1" 2>/dev/null) || true
    said=${said%%; run: log:*}
    if [[ $said =~ ^run:.*\(pid\ ([0-9]+)\)\ ([0-9]+)s && $said != *"want down"* ]]; then
        echo "run ${BASH_REMATCH[1]} ${BASH_REMATCH[2]}"
    elif [[ $said == finish:* || $said == *"want up"* ]]; then
        echo finish
    else
        echo down
    fi
}

# is_current NAME: whether it runs with today's binary and settings (see run/prelude.sh).
is_current() {
    [[ $(cat "$SERVICE_TREE/$1/started-with" 2>/dev/null) == $(fingerprint "$1") ]]
}

# stop_supervisor: every process, then the tree itself; nothing of this stack is left when it returns.
stop_supervisor() {
    local pid left patience
    control 20 force-stop "${SERVICES[@]}" || true
    control 30 force-stop postgres rabbitmq mongodb maildev || true
    control 5 force-stop epmd || true
    ! pid=$(supervisor_pid) || kill -HUP "$pid"
    for ((patience = 0; patience < 50; patience++)); do
        left=$(our_processes)
        [[ -n $left ]] || break
        ((patience != 20)) || xargs -r kill -TERM <<<"$left" 2>/dev/null || true
        sleep 0.1
    done
    xargs -r kill -KILL <<<"$(our_processes)" 2>/dev/null || true
    rm -f "$STACK_DIR/runsvdir.pid"
    touch_down_files
}

touch_down_files() {
    local name
    for name in "${SERVERS[@]}" "${SERVICES[@]}"; do
        [[ ! -d $SERVICE_TREE/$name ]] || touch "$SERVICE_TREE/$name/down"
    done
}
