# What the machine must have before anything is installed or started. Each lack is one line: what, and what to do.
# shellcheck shell=bash

preflight() {
    local missing
    [[ -e /etc/debian_version ]] && command -v apt-get >/dev/null ||
        die "this is not Debian: make up needs Debian 12 or later; elsewhere, run it in a Debian container or virtual machine"
    [[ $(uname -m) == x86_64 ]] && grep -qw avx /proc/cpuinfo ||
        die "MongoDB needs an x86-64 processor with AVX, and this machine has none: run the stack on another machine"
    require_rust
    mapfile -t missing < <(missing_packages)
    require_root "${missing[@]}"
}

# require_rust: cargo and rustc, at least as new as rust-version in Cargo.toml.
require_rust() {
    local wanted found
    command -v cargo >/dev/null || PATH=$PATH:$HOME/.cargo/bin
    wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$ROOT/Cargo.toml")
    command -v cargo >/dev/null && found=$(cd "$ROOT" && rustc --version 2>/dev/null | awk '{ print $2 }') && [[ -n $found ]] ||
        die "Rust is missing: install Rust $wanted or later with rustup (https://rustup.rs), then run this again"
    [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1) == "$wanted" ]] ||
        die "Rust $found is too old, $wanted or later is needed: rustup update stable, then run this again"
}

# require_root PACKAGE…: a way to install them, if there are any.
require_root() {
    (($# == 0 || EUID == 0)) || have sudo ||
        die "missing packages ($*), and neither root nor sudo to install them: ask an administrator for 'apt-get install $*', then run this again"
}
