# pixie_proxy in a container:  docker run -p 8080:8080 -v pixie:/data -e OPENAI_API_KEY pixie_proxy
#
# Both stages need the same base: the environment of the first links to the Python of the second.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /app
# First only the pinned requirements, each checked against its hash: this layer is built anew when a pin changes,
# not when the code does.
COPY requirements.txt ./
RUN /app/bin/python -m pip install --no-cache-dir --no-deps --require-hashes -r requirements.txt
COPY . .
# --no-build-isolation: the build backend is among the pinned requirements, nothing unpinned is fetched.
# Then what the running proxy doesn't use goes; and all is compiled, for the root is read-only later.
RUN /app/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /app/bin/python -m pip uninstall --yes setuptools pip \
    && python3 -m compileall -q -j 0 /app/lib

FROM ${BASE}
LABEL org.opencontainers.image.title="pixie_proxy" \
      org.opencontainers.image.description="A self-hosted proxy for the OpenAI Images API that keeps every image" \
      org.opencontainers.image.licenses="MIT"
# Fixed numbers: a volume keeps its owner when the image is built again, and Kubernetes can check runAsNonRoot.
RUN groupadd --gid 10001 pixie \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin pixie \
    && install --directory --owner=10001 --group=10001 --mode=0750 /data
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIXIE_SERVER__HOST=0.0.0.0 \
    PIXIE_SERVER__PORT=8080 \
    PIXIE_SERVER__DATA_DIR=/data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
# SIGTERM drains: running calls finish, for up to server.drain_s. Give it the time: `docker stop -t 960`.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 CMD ["pixie", "health"]
ENTRYPOINT ["pixie"]
CMD ["serve"]
