# The container engine: whether one answers, and where its images come from.
# shellcheck shell=bash disable=SC2034

# engine: whether one answers, with Compose; else the reason is in WHY.
engine() {
    WHY="there is no docker command"
    command -v docker >/dev/null || return 1
    WHY="docker has no Compose (docker compose)"
    docker compose version >/dev/null 2>&1 || return 1
    local said
    said=$(timeout 10 docker info --format '{{.ServerVersion}}' 2>&1) && [[ -n $said ]] && return
    WHY="no container engine answers${said:+: ${said##*$'\n'}}"
    return 1
}

# images [OPTION…]: what the system is built from and runs on; the options are those of `docker compose`.
images() {
    sed -n 's/^FROM \([^ ]*\).*/\1/p' "$ROOT/Dockerfile"
    docker compose --project-directory "$ROOT" "$@" config --images | grep -v '^switchboard/'
}

has_image() { docker image inspect "$1" >/dev/null 2>&1; }

# get_images [IMAGE…]: fetches what is not here; else the reason is in WHY.
get_images() {
    local image said
    while read -r image; do
        ! has_image "$image" || continue
        step "fetching $image"
        if ! said=$(timeout 900 docker pull --quiet "$image" 2>&1); then
            WHY="the image $image is not here and can't be fetched: ${said##*$'\n'}"
            return 1
        fi
    done < <(printf '%s\n' "$@" | sort -u)
}
