# The image of the server, without training. Any base with apt and python3 >= 3.11 works. The default base is the CUDA
# release that the lock file's torch is built with. torch brings its own CUDA libraries. The driver comes from the host,
# and the base refuses a driver that is too old.
ARG BASE=docker.io/nvidia/cuda:13.0.3-base-ubuntu24.04

# ca-certificates: the pip of Debian and Ubuntu reads the certificates there and has none of its own.
FROM ${BASE} AS python
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates python3 \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vggserve \
    && python3 -m venv --without-pip /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# pip stays in its own stage and is mounted where it is needed, so it is not in the image.
FROM python AS pip
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv \
    && /usr/bin/python3 -m venv /opt/pip

# The lock file in two parts. torch and its CUDA libraries are 5.6 of the image's 6 GB. They have a layer of their own,
# which is sent again only when they have changed.
FROM python AS requirements
WORKDIR /requirements
COPY deploy/server.lock ./
RUN sed --regexp-extended '/^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==/,/[^\]$/!d' server.lock > torch.txt \
    && sed --regexp-extended '/^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==/,/[^\]$/d' server.lock > server.txt

# Compiled here, because the running server cannot write. "unchecked-hash", because the sources cannot change either.
# chmod makes the files readable for every user, whatever the umask of the checkout was.
FROM python AS code
WORKDIR /srv/vggserve
COPY LICENSE deploy/healthcheck.py ./
COPY models models/
COPY app app/
RUN python -m compileall -q --invalidation-mode unchecked-hash . && chmod -R a+rX .

FROM python
COPY --from=requirements /requirements/torch.txt /opt/venv/requirements/
RUN --mount=type=bind,from=pip,source=/opt/pip,target=/opt/pip \
    --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --root-user-action ignore --only-binary :all: \
        --no-deps --require-hashes --requirement /opt/venv/requirements/torch.txt
COPY --from=requirements /requirements/server.txt /opt/venv/requirements/
RUN --mount=type=bind,from=pip,source=/opt/pip,target=/opt/pip \
    --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --root-user-action ignore --only-binary :all: \
        --no-deps --require-hashes --requirement /opt/venv/requirements/server.txt
COPY --from=code /srv/vggserve /srv/vggserve

ENV VGG_HOST=0.0.0.0 \
    VGG_CHECKPOINT=/checkpoints/digits.safetensors \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /srv/vggserve
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=5m --interval=10s --timeout=5s --retries=3 CMD ["python", "/srv/vggserve/healthcheck.py"]
# Without a shell, python is process 1 and gets the signals itself. It starts no other process, so it needs no init.
ENTRYPOINT ["python", "-m", "app"]

ARG BASE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vggserve" \
      org.opencontainers.image.description="An HTTP server for VGG classifiers with calibrated probabilities" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.revision="${REVISION}"
