# syntax=docker/dockerfile:1
# The service with its sandbox (docker build --target service .), and the gateway that docker-compose.yml puts before it.

FROM rust:1.95.0-slim-trixie AS build
WORKDIR /src
COPY . .
# The caches are not part of the image, so what was built is copied out of them.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bins \
    && install target/release/feedsme target/release/feedsme-sandbox /usr/local/bin/

FROM debian:13.2-slim AS base
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --create-home --home-dir /var/lib/feedsme feedsme

FROM base AS gateway
RUN apt-get update \
    && apt-get install --yes --no-install-recommends socat \
    && rm -rf /var/lib/apt/lists/*
USER 10001
# Ends when either of them does, to be started again.
CMD ["bash", "-c", "\
    socat TCP-LISTEN:8080,fork,reuseaddr TCP:127.0.0.1:1337 & \
    socat TCP-LISTEN:8081,fork,reuseaddr TCP:127.0.0.1:8399 & \
    wait -n; exit 1"]

FROM base AS service
COPY --from=build /usr/local/bin/feedsme /usr/local/bin/feedsme-sandbox /usr/local/bin/
USER 10001
WORKDIR /var/lib/feedsme
ENTRYPOINT ["feedsme"]
CMD ["serve"]
