# Whether a process does its work, and waiting until it does. Probes are cheap: a connection or one HTTP request.
# shellcheck shell=bash

# ready NAME: fails while it is not, and leaves the reason in WHY.
ready() {
    case $1 in
    postgres) postgres_ready ;;
    epmd) listens "$EPMD_PORT" ;;
    rabbitmq) listens "$RABBITMQ_PORT" && answers "http://127.0.0.1:$RABBITMQ_MANAGEMENT_PORT/" ;;
    mongodb) listens "$MONGO_PORT" && replica_set_ready ;;
    maildev) listens "$MAIL_PORT" && answers "http://127.0.0.1:$MAIL_PAGE_PORT/healthz" ;;
    *)
        local port=${1^^}_PORT
        answers "http://127.0.0.1:${!port}/readyz"
        ;;
    esac
}

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
    WHY="port $1 refuses connections"
    return 1
}

# answers URL: with a success; the reason is the answer that says otherwise.
answers() {
    local answer status
    if ! answer=$(curl -s -m 2 -w '\n%{http_code}' "$1"); then
        WHY="$1 does not answer"
        return 1
    fi
    status=${answer##*$'\n'}
    [[ $status == 2?? ]] && return
    answer=$(tr -s '[:space:]' ' ' <<<"${answer%$'\n'*}")
    WHY="$1 answers $status ${answer:0:200}"
    return 1
}

postgres_ready() {
    WHY=$(pg_isready -h 127.0.0.1 -p "$POSTGRES_PORT" -t 2) && return
    WHY=${WHY#* - }
    return 1
}

replica_set_ready() {
    [[ -e $STACK_DIR/mongodb/member ]] && return
    WHY="its replica set is being set up"
    return 1
}

# wait_until_ready NAME…: a line for each; the first one that fails, or takes too long, ends it all.
wait_until_ready() {
    local waiting=("$@") later name begin=$SECONDS patience=${STACK_WAIT:-90}
    declare -A said=()
    while :; do
        later=()
        for name in "${waiting[@]}"; do
            WHY=
            if ready "$name"; then
                item "$name" "ready after $((SECONDS - begin)) s, at $(address_of "$name")"
                continue
            fi
            later+=("$name")
            (($(cat "$SERVICE_TREE/$name/deaths" 2>/dev/null || echo 0) < 3)) || failed "$name" "keeps dying after its start"
            ((SECONDS - begin < patience)) || failed "$name" "is not ready after $patience s: $WHY"
            # Say why once it is worth a line, then when the reason changes or five seconds have gone by.
            if ((SECONDS - begin >= 2)) && [[ ${said[$name]-} != "$((SECONDS / 5)) $WHY" ]]; then
                item "$name" "waiting for $((SECONDS - begin)) s: $WHY"
                said[$name]="$((SECONDS / 5)) $WHY"
            fi
        done
        waiting=("${later[@]}")
        ((${#waiting[@]} > 0)) || return 0
        sleep 0.2
    done
}

# failed NAME TEXT: the end of its log, and what to do.
failed() {
    tail -n 20 "$STACK_DIR/log/$1/current" 2>/dev/null | cut -c 1-400 | indent
    die "$1 $2 (the end of its log is above): all of it: make logs S=$1; once it is mended: make up; to begin anew without the data: make reset"
}
