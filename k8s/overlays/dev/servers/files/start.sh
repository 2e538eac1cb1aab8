#!/usr/bin/env bash
# Starts MongoDB as a replica set of one. The entrypoint of the image makes the users when the volume is new and then runs
# mongod with these arguments; beside it, replica-set.js makes the replica set.
set -euo pipefail

# mongod takes no key that a group may read, as the files of a Secret are.
install -m 400 /run/secrets/mongodb/key /tmp/key

rm -f /tmp/replica-set-ready
mongosh --quiet --nodb --norc --file /scripts/replica-set.js &

# A primary that stops does not wait for others: there are none.
exec docker-entrypoint.sh mongod --bind_ip_all --quiet --replSet rs0 --keyFile /tmp/key --oplogSize 512 \
    --wiredTigerCacheSizeGB 0.25 --setParameter shutdownTimeoutMillisForSignaledShutdown=100
