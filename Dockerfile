# The agent without shell, package manager or root: Python, the package with gRPC, and an empty folder for the ledger.
# Bases are arguments, to be pinned by digest where an image is published (docs/kubernetes.md, Image). The Python of both
# must be the same minor release: compiled wheels go from one to the other. linux/amd64 and linux/arm64.
ARG BUILD_BASE=docker.io/library/python:3.11-slim-bookworm
ARG RUN_BASE=gcr.io/distroless/python3-debian12:nonroot

FROM ${RUN_BASE} AS runtime

FROM ${BUILD_BASE} AS build
# What pip is told beside: "--no-index" where build/wheels has all that is needed.
ARG PIP_ARGS=""
WORKDIR /src
# A read-only root cannot keep compiled code: the library of the runtime is compiled here once, not at each start.
COPY --from=runtime /usr/lib/python3.11 /out/usr/lib/python3.11
RUN python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /out /out/usr/lib/python3.11 \
    && find /out/usr -type f ! -name '*.pyc' -delete && find /out/usr -type l -delete && find /out -type d -empty -delete
COPY . .
# Every file that pip fetches is one that requirements/ knows by its hash; the package itself is built of what lies here.
RUN pip="python3 -m pip install ${PIP_ARGS} --quiet --no-cache-dir --no-compile --find-links build/wheels" \
    && $pip --require-hashes --only-binary :all: --target /build-tools -r requirements/build.txt \
    && $pip --require-hashes --only-binary :all: --target /out/opt/inferometer -r requirements/runtime.txt \
    && PYTHONPATH=/build-tools $pip --no-deps --no-build-isolation --target /out/opt/inferometer . \
    && find /out/opt -type d \( -name tests -o -name __pycache__ -o -name bin \) -prune -exec rm -rf {} + \
    && find /out/opt \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' \) -delete \
    && python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash -s /out /out/opt/inferometer \
    && mkdir -p /out/var/lib/inferometer \
    && chown 65532:65532 /out/var/lib/inferometer

FROM ${RUN_BASE}
ARG VERSION=0.1.0
ARG REVISION=""
LABEL org.opencontainers.image.title="inferometer" \
      org.opencontainers.image.description="Prometheus exporter for the economics of LLM inference" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/inferometer/inferometer" \
      org.opencontainers.image.documentation="https://github.com/inferometer/inferometer/tree/main/docs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /out /
ENV PYTHONPATH=/opt/inferometer \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PATH=/usr/bin:/usr/local/bin
USER 65532:65532
EXPOSE 10110
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "-m", "inferometer"]
CMD ["run"]
