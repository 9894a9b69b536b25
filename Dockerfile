# mms-regions in an image: docs/containers.md says how to build and run it.
#   BASE         Python 3.11 or newer with pip
#   TORCH_INDEX  the package index of torch alone, such as https://download.pytorch.org/whl/cpu, or .../whl/cuNNN for
#                NVIDIA GPUs; without it torch comes from where all else does, for CPUs and GPUs and of some GB on Linux
#   VERSION, REVISION  what the labels say; REVISION, a git commit, is kept in each store too
# A pip.conf that a site needs to get at packages is taken as the secret `pip.conf`.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=
WORKDIR /src
COPY . .
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    sh jobs/install-image.sh /opt/mms-regions "${TORCH_INDEX}"

FROM ${BASE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mms-regions" \
      org.opencontainers.image.description="Labels where an MMS spacecraft is in a magnetic-reconnection region" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# HOME: users without a home of their own, as --user 12345 makes them, can write to /tmp alone.
ENV PATH=/opt/mms-regions/bin:${PATH} \
    HOME=/tmp \
    MMS_REGIONS_IMAGE=mms-regions:${VERSION} \
    MMS_REGIONS_REVISION=${REVISION}
COPY --from=build /opt/mms-regions /opt/mms-regions
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["mms-regions"]
