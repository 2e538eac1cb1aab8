# The ports of a stack: who listens where, which variable moves it, and who holds a port that is taken.
# shellcheck shell=bash

# variable, default, process, what listens there. Below the range that outgoing connections take theirs from (32768 and
# up), also with the 10000 of the test stack: so a server that was killed finds its port free.
PORT_TABLE='
POSTGRES_PORT            15432 postgres PostgreSQL
EPMD_PORT                14369 epmd     the Erlang port mapper of RabbitMQ
RABBITMQ_PORT            16672 rabbitmq RabbitMQ (AMQP)
RABBITMQ_MANAGEMENT_PORT 16673 rabbitmq the page of RabbitMQ
RABBITMQ_DIST_PORT       16674 rabbitmq the tools of RabbitMQ
MONGO_PORT               17117 mongodb  MongoDB
MAIL_PORT                1025  maildev  the mail catcher (SMTP)
MAIL_PAGE_PORT           8025  maildev  the page of the mail catcher
BROKER_PORT              8080  broker   the broker
FRONTEND_PORT            8081  frontend the console
AUTH_PORT                8082  auth     the auth service
MAILER_PORT              8083  mailer   the mailer
LOGGER_PORT              8084  logger   the logger (HTTP)
LOGGER_RPC_PORT          5001  logger   the logger (tarpc)
LISTENER_PORT            8085  listener the listener
'

# each_port FUNCTION: calls it with variable, default, process and description of every port.
each_port() {
    local variable default process what
    while read -r variable default process what; do
        [[ -z $variable ]] || "$1" "$variable" "$default" "$process" "$what"
    done <<<"$PORT_TABLE"
}

# ports_of PROCESS: the variables of its ports.
ports_of() { awk -v process="$1" '$3 == process { print $1 }' <<<"$PORT_TABLE"; }

# address_of PROCESS: where it listens, for people.
address_of() {
    local variable list=
    for variable in $(ports_of "$1"); do list+="${list:+,}${!variable}"; done
    printf '127.0.0.1:%s' "$list"
}

# require_free_ports PROCESS…: fails on the first port that another program holds.
require_free_ports() {
    local wanted=("$@")
    each_port require_free_port
}

require_free_port() {
    local variable=$1 process=$3 what=$4 port=${!1} line pid holder
    among "$process" "${wanted[@]}" || return 0
    # Only these local addresses get in the way of 127.0.0.1.
    line=$(ss -Hltnp "sport = :$port" | awk '$4 ~ /^(127\.0\.0\.1|0\.0\.0\.0|\*|\[::\]):/' | head -n 1)
    [[ -n $line ]] || return 0
    if [[ $line =~ pid=([0-9]+) ]]; then
        pid=${BASH_REMATCH[1]}
        ! is_ours "$pid" || return 0
        holder="$(cat "/proc/$pid/comm" 2>/dev/null) (pid $pid)"
    else
        holder="a process of another user"
    fi
    die "port $port, for $what, is held by $holder: end that program, or choose another port with $variable=…, or move all of them with STACK_PORT_OFFSET=…"
}
