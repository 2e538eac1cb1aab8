# What takes the place of a container engine or a registry that is not there, from the folder STANDIN_IMAGES.
# For tests only. Where that can't be had either, the reason stays in WHY, or is in it.
# shellcheck shell=bash disable=SC2034

# stand_in_engine: starts an engine; its pid is in /run/docker.pid, and STANDIN_ENGINE says that it is ours to stop.
stand_in_engine() {
    [[ -x $STANDIN_IMAGES/start-engine ]] || return 1
    ((EUID == 0)) || { WHY+=", and only root can start one"; return 1; }
    step "starting a container engine"
    "$STANDIN_IMAGES/start-engine" >&2 && engine && STANDIN_ENGINE=1
}

# stand_in_images IMAGE…: builds those that are missing.
stand_in_images() {
    local image name first
    [[ -x $STANDIN_IMAGES/build ]] || return 1
    for image; do
        ! has_image "$image" || continue
        # A line is: NAME: IMAGE…
        read -r name first _ < <("$STANDIN_IMAGES/build" --list | grep -F " ${image%:*}:") || {
            WHY+=", and nothing stands in for $image"
            return 1
        }
        step "building a stand-in for $image"
        "$STANDIN_IMAGES/build" "${name%:}" >&2 || { WHY="the stand-in for $image could not be built"; return 1; }
        has_image "$image" || docker tag "$first" "$image"
    done
}
