# The processes of a stack, in the order in which people read them.
# shellcheck shell=bash disable=SC2034

SERVERS=(postgres epmd rabbitmq mongodb maildev)
SERVICES=(broker auth logger mailer listener frontend)

# among NAME LIST…: whether NAME is one of LIST.
among() {
    local name=$1 other
    shift
    for other; do [[ $other != "$name" ]] || return 0; done
    return 1
}
