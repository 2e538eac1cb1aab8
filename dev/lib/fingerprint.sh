# What a process was started with: a change of it is a reason to start it again, and nothing else is.
# shellcheck shell=bash

# fingerprint NAME: a server depends on ports and passwords, a service on all settings and its binary.
fingerprint() {
    local environment=$STACK_DIR/env
    if [[ -e $ROOT/dev/run/$1 ]]; then
        grep -E '^[A-Z_]+_(PORT|PASSWORD|COOKIE|KEY)=' "$environment" | cksum
    else
        { cat "$environment" "$STACK_DOTENV"; stat -c %i:%Y "$STACK_BIN/$1"; } 2>/dev/null | cksum || true
    fi
}
