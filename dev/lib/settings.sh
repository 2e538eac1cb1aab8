# The settings of a stack, kept in $STACK_DIR/env (mode 600): made at the first start, read by everything else.
# Ports: a variable given now, else STACK_PORT_OFFSET given now, else what the file says, else the default.
# Passwords are made once and stay until a reset.
# shellcheck shell=bash disable=SC2153

# load_settings: ports and passwords into variables, from the file and from what was given now.
load_settings() {
    declare -gA GIVEN=()
    GIVEN_OFFSET=${STACK_PORT_OFFSET-}
    each_port remember_given
    unset POSTGRES_PASSWORD RABBITMQ_PASSWORD RABBITMQ_COOKIE MONGO_PASSWORD MONGO_KEY
    if [[ -e $STACK_DIR/env ]]; then
        [[ -O $STACK_DIR/env ]] || die "$STACK_DIR belongs to another user: choose another folder with STACK_DIR=…"
        local dotenv=$STACK_DOTENV cache=$STACK_CACHE
        # shellcheck source=/dev/null
        . "$STACK_DIR/env"
        STACK_DOTENV=$dotenv STACK_CACHE=$cache
    fi
    STACK_PORT_OFFSET=${GIVEN_OFFSET:-${STACK_PORT_OFFSET:-0}}
    each_port choose_port
}

remember_given() {
    [[ -z ${!1-} ]] || GIVEN[$1]=${!1}
}

choose_port() {
    local variable=$1 default=$2 port
    port=${GIVEN[$variable]-}
    [[ -n $port || -n $GIVEN_OFFSET ]] || port=${!variable-}
    port=${port:-$((default + STACK_PORT_OFFSET))}
    [[ $port =~ ^[0-9]+$ ]] && ((port >= 1 && port <= 65535)) ||
        die "$variable=$port is not a port: give a number from 1 to 65535, or a smaller STACK_PORT_OFFSET"
    printf -v "$variable" %s "$port"
}

# save_settings: writes the file, when it would change.
save_settings() {
    local folder=${STACK_PROFILE:-release} target
    # Of the target that .cargo/config.toml names.
    target=${CARGO_TARGET_DIR:-$ROOT/target}/$(uname -m)-unknown-linux-gnu
    [[ $folder != dev ]] || folder=debug
    STACK_BIN=$(cd "$ROOT" && realpath -m "$target/$folder")
    POSTGRES_PASSWORD=${POSTGRES_PASSWORD:-$(secret)}
    RABBITMQ_PASSWORD=${RABBITMQ_PASSWORD:-$(secret)}
    RABBITMQ_COOKIE=${RABBITMQ_COOKIE:-$(secret)}
    MONGO_PASSWORD=${MONGO_PASSWORD:-$(secret)}
    MONGO_KEY=${MONGO_KEY:-$(secret)}
    (umask 077 && print_settings >"$STACK_DIR/env.new")
    if cmp -s "$STACK_DIR/env.new" "$STACK_DIR/env"; then
        rm "$STACK_DIR/env.new"
    else
        mv "$STACK_DIR/env.new" "$STACK_DIR/env"
    fi
}

# secret: 160 bits from the kernel, in a form that needs no quoting in a URL.
secret() { od -An -N20 -tx1 /dev/urandom | tr -d ' \n'; }

# setting NAME VALUE: a line that a shell can source.
setting() { printf '%s=%s\n' "$1" "${2@Q}"; }

port_setting() { setting "$1" "${!1}"; }

print_settings() {
    echo "# Settings of this stack, written by dev/stack. To use them in a shell: set -a; . this file; set +a"
    echo
    echo "# The stack"
    setting STACK_PORT_OFFSET "$STACK_PORT_OFFSET"
    setting STACK_CACHE "$STACK_CACHE"
    setting STACK_DOTENV "$STACK_DOTENV"
    setting STACK_BIN "$STACK_BIN"
    each_port port_setting
    setting POSTGRES_PASSWORD "$POSTGRES_PASSWORD"
    setting RABBITMQ_PASSWORD "$RABBITMQ_PASSWORD"
    setting RABBITMQ_COOKIE "$RABBITMQ_COOKIE"
    setting MONGO_PASSWORD "$MONGO_PASSWORD"
    setting MONGO_KEY "$MONGO_KEY"
    echo
    echo "# The services; a .env file in the root of the repository overrides these"
    setting ENVIRONMENT development
    setting HOST 127.0.0.1
    setting LOG_LEVEL info
    setting DSN "postgres://switchboard:$POSTGRES_PASSWORD@127.0.0.1:$POSTGRES_PORT/users"
    setting MAILER_DSN "postgres://switchboard:$POSTGRES_PASSWORD@127.0.0.1:$POSTGRES_PORT/mailer"
    setting MONGO_URL "mongodb://switchboard:$MONGO_PASSWORD@127.0.0.1:$MONGO_PORT/logs?replicaSet=rs0&authSource=admin"
    setting RABBITMQ_URL "amqp://switchboard:$RABBITMQ_PASSWORD@127.0.0.1:$RABBITMQ_PORT/%2f?heartbeat=10"
    setting RABBITMQ_MANAGEMENT_URL "http://127.0.0.1:$RABBITMQ_MANAGEMENT_PORT"
    setting AUTH_SERVICE_URL "http://127.0.0.1:$AUTH_PORT"
    setting MAIL_SERVICE_URL "http://127.0.0.1:$MAILER_PORT"
    setting LOGGER_SERVICE_URL "http://127.0.0.1:$LOGGER_PORT"
    setting LISTENER_SERVICE_URL "http://127.0.0.1:$LISTENER_PORT"
    setting LOGGER_RPC_ADDR "127.0.0.1:$LOGGER_RPC_PORT"
    setting MAIL_HOST 127.0.0.1
    setting MAIL_ENCRYPTION none
    setting FROM_NAME Switchboard
    setting FROM_ADDRESS switchboard@example.com
    setting BROKER_URL "http://localhost:$BROKER_PORT"
    setting FRONTEND_URL "http://localhost:$FRONTEND_PORT"
    setting MAIL_PAGE_URL "http://localhost:$MAIL_PAGE_PORT"
    setting CORS_ALLOWED_ORIGINS "http://localhost:$FRONTEND_PORT,http://127.0.0.1:$FRONTEND_PORT"
}
