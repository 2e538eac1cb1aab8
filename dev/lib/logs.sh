# The logs: on a terminal the last lines and then what comes; elsewhere the last lines only.
# shellcheck shell=bash

stack_logs() {
    local names=("${SERVERS[@]}" "${SERVICES[@]}") name lines=10 follow=()
    if (($# > 0)); then
        require_process "$1"
        names=("$1") lines=100
    fi
    [[ ! -t 1 ]] || follow=(-F)
    for name in "${names[@]}"; do
        [[ -e $STACK_DIR/log/$name/current ]] || continue
        (tail -n "$lines" "${follow[@]}" "$STACK_DIR/log/$name/current" 2>/dev/null | sed -u "s/^/$(printf '%-9s' "$name")| /") &
        [[ -t 1 ]] || wait
    done
    wait
}
