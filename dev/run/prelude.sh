# What every run script starts with. runsv calls it in the process's folder, $STACK_DIR/service/NAME.
# shellcheck shell=bash

set -euo pipefail
exec 2>&1
trap 'echo "supervisor: ${BASH_SOURCE[0]} failed in line $LINENO"' ERR

NAME=$(basename "$PWD")
STACK_DIR=$(cd ../.. && pwd -P)
ROOT=$(cd "$(dirname "$(readlink -f "$0")")/../.." && pwd -P)
# shellcheck source=/dev/null
. "$STACK_DIR/env"
# shellcheck source=dev/lib/fingerprint.sh
. "$ROOT/dev/lib/fingerprint.sh"

# A runsv that was killed leaves its child behind, on our port and our data: end that one first.
if left=$(cat pid 2>/dev/null) && grep -qzxF "SWITCHBOARD_PROCESS=$PWD" "/proc/$left/environ" 2>/dev/null; then
    kill -KILL "$left" || true
    while [[ -e /proc/$left ]]; do sleep 0.05; done
fi

export SWITCHBOARD_PROCESS=$PWD
echo $$ >pid
fingerprint "$NAME" >started-with
