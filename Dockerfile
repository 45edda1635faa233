# descnet3d with TensorFlow, on processors:
#   docker build --tag descnet3d .
#   docker run --rm --volume "$PWD:/work" --user "$(id -u):$(id -g)" \
#     descnet3d synthesize sofa --num=16 --out=sofas.png
FROM python:3.12-slim-bookworm AS wheel
WORKDIR /source
COPY pyproject.toml setup.cfg README.md LICENSE ./
COPY descnet3d descnet3d
COPY zoo zoo
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.12-slim-bookworm
# What open3d loads. Debian's own versions: they change with its security fixes.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        libegl1 libgl1 libgomp1 libusb-1.0-0 libx11-6 \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel \
    pip install --no-cache-dir /wheel/*.whl
# What is fetched from a zoo is kept here: mount a volume to keep it for longer than a run.
ENV DESCNET3D_CACHE=/cache HOME=/tmp
RUN mkdir --mode=777 /cache
WORKDIR /work
USER 65534:65534
ENTRYPOINT ["descnet3d"]
CMD ["--help"]
