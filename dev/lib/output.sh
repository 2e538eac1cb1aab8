# What the stack says: plain lines, fit for a terminal and for a log file.
# shellcheck shell=bash

# step TEXT: a new part of the work begins.
step() { printf '==> %s\n' "$1"; }

# item NAME TEXT: one fact about one thing.
item() { printf '    %-10s %s\n' "$1" "$2"; }

# die TEXT: one line that says what is wrong and what to do; ends with a failure.
die() {
    printf 'stack: %s\n' "$1" >&2
    exit 1
}

# indent: every line of the input, set apart from our own.
indent() { sed 's/^/    | /'; }

# usage: the comment at the top of the script.
usage() {
    sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
