# PostgreSQL with Bulkhead, and pg_cron to call its maintenance:
#
#   docker build --build-arg PG_MAJOR=17 -t bulkhead:17 .
#
# The last stage is that image. For CloudNativePG's image volumes (PostgreSQL 18), which want the extension's files alone:
#
#   docker build --build-arg PG_MAJOR=18 --target extension -t bulkhead-extension:18 .

ARG PG_MAJOR=17
ARG DEBIAN=bookworm

FROM rust:1.95-${DEBIAN} AS rust

FROM postgres:${PG_MAJOR}-${DEBIAN} AS build
ARG PG_MAJOR
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev libclang-dev make postgresql-server-dev-${PG_MAJOR} \
 && rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup CARGO_HOME=/usr/local/cargo PATH=/usr/local/cargo/bin:$PATH PGRX_HOME=/pgrx
RUN rustup component add rustfmt && cargo install cargo-pgrx --version =0.18.1 --locked
RUN mkdir -p /pgrx && printf '[configs]\npg%s="/usr/lib/postgresql/%s/bin/pg_config"\n' ${PG_MAJOR} ${PG_MAJOR} > /pgrx/config.toml
WORKDIR /bulkhead
COPY Cargo.toml Cargo.lock bulkhead.control ./
COPY .cargo .cargo
COPY pg_test pg_test
COPY sql sql
COPY src src
RUN cargo pgrx package -p bulkhead --no-default-features --features pg${PG_MAJOR} \
      --pg-config /usr/lib/postgresql/${PG_MAJOR}/bin/pg_config --out-dir /package

FROM scratch AS extension
ARG PG_MAJOR
COPY --from=build /package/usr/lib/postgresql/${PG_MAJOR}/lib/ /lib/
COPY --from=build /package/usr/share/postgresql/${PG_MAJOR}/extension/ /share/extension/

FROM postgres:${PG_MAJOR}-${DEBIAN}
ARG PG_MAJOR
RUN apt-get update \
 && apt-get install -y --no-install-recommends postgresql-${PG_MAJOR}-cron \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /package/usr/lib/postgresql/${PG_MAJOR}/lib/ /usr/lib/postgresql/${PG_MAJOR}/lib/
COPY --from=build /package/usr/share/postgresql/${PG_MAJOR}/extension/ /usr/share/postgresql/${PG_MAJOR}/extension/
COPY docker/create-extension.sql /docker-entrypoint-initdb.d/10-bulkhead.sql
# In the sample that a new data directory is made from, and not on the command line: ALTER SYSTEM can append to it.
RUN echo "shared_preload_libraries = 'pg_cron,bulkhead'" >> /usr/share/postgresql/postgresql.conf.sample
