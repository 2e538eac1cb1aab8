# The image of a service; the build argument says which:
#
#   docker build --build-arg SERVICE=broker --tag switchboard/broker .
#
# The six images share every stage but the last: whoever builds all of them compiles once.

# Only what decides how the dependencies are built: the manifests, with empty sources. A change of any other
# file leaves what this stage gives as it was, and so the layer of the dependencies in the cache.
FROM rust:1.95-slim-bookworm AS manifests
WORKDIR /all
COPY . .
RUN mkdir /manifests \
 && cp --parents .cargo/config.toml Cargo.toml Cargo.lock ./*/Cargo.toml /manifests \
 && for file in ./*/build.rs ./*/src/lib.rs ./*/src/main.rs; do \
      mkdir -p "/manifests/${file%/*}" && echo 'fn main() {}' >"/manifests/$file" || exit 1; \
    done

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
ENV CARGO_TERM_COLOR=never
COPY --from=manifests /manifests .
RUN cargo build --release --locked --bins -p auth -p broker -p frontend -p listener -p logger -p mailer
COPY . .
# The sources may be older than the empty ones that were built: cargo looks at the time.
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + \
 && cargo build --release --locked --bins -p auth -p broker -p frontend -p listener -p logger -p mailer \
 && for service in auth broker frontend listener logger mailer; do \
      install -D "target/$(uname -m)-unknown-linux-gnu/release/$service" "/images/$service/root/usr/local/bin/$service" \
   && ln -s "$service" "/images/$service/root/usr/local/bin/service" \
   || exit 1; \
    done

# One binary, under its own name and as `service`, since no shell is there to fill in a name below.
FROM debian:bookworm-slim
ARG SERVICE
COPY --from=build /images/${SERVICE}/root/ /
ENV HOST=0.0.0.0
USER 10001:10001
ENTRYPOINT ["/usr/local/bin/service"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s --retries=3 \
    CMD ["/usr/local/bin/service", "health"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="switchboard ${SERVICE}" \
      org.opencontainers.image.description="The ${SERVICE} service of Switchboard, an event-driven broker system" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/debian:bookworm-slim"
