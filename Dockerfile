# The server alone, without training. Any base with apt and python3 >= 3.11 will do. The default is the CUDA release
# that the lock file's torch is built with: torch brings its own CUDA libraries, the base refuses a driver that is too
# old for them, and the driver itself comes from the host.
ARG BASE=docker.io/nvidia/cuda:13.0.3-base-ubuntu24.04

# ca-certificates: Debian's and Ubuntu's pip looks there instead of bringing its own.
FROM ${BASE} AS python
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends ca-certificates python3 \
    && apt-get clean && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vggserve \
    && python3 -m venv --without-pip /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# pip works from its own stage, mounted where it is needed, so that the image never holds it.
FROM python AS pip
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv \
    && /usr/bin/python3 -m venv /opt/pip

# What to install, cut out of two files that change more often than it does. torch and its CUDA libraries are 5.6 of
# the image's 6 GB: in a layer of their own, they are sent again only when they themselves have changed.
FROM python AS requirements
WORKDIR /requirements
COPY pyproject.toml requirements.lock ./
RUN grep --extended-regexp '^(torch==|triton==|nvidia-|cuda-)' requirements.lock > torch.txt \
    && python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")' \
        > server.txt

# Compiled here, as nothing can be written later. Unchecked, as the sources beside it cannot change either; and readable
# by all, whatever the umask of the checkout.
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
        --no-deps --requirement /opt/venv/requirements/torch.txt
COPY --from=requirements /requirements/server.txt /requirements/requirements.lock /opt/venv/requirements/
RUN --mount=type=bind,from=pip,source=/opt/pip,target=/opt/pip \
    --mount=type=cache,target=/root/.cache/pip \
    /opt/pip/bin/pip --python /opt/venv/bin/python install --root-user-action ignore --only-binary :all: \
        --constraint /opt/venv/requirements/requirements.lock --requirement /opt/venv/requirements/server.txt
COPY --from=code /srv/vggserve /srv/vggserve

ENV VGG_HOST=0.0.0.0 \
    VGG_PORT=8000 \
    VGG_CHECKPOINT=/checkpoints/digits.safetensors \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /srv/vggserve
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --start-period=5m --interval=10s --timeout=5s --retries=3 CMD ["python", "/srv/vggserve/healthcheck.py"]
# No shell and no init between: python is process 1 and gets the signal itself, and it starts no other process.
ENTRYPOINT ["python", "-m", "app"]

ARG BASE
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vggserve" \
      org.opencontainers.image.description="A trustworthy VGG classifier on HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.revision="${REVISION}"
