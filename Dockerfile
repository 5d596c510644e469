# The service alone: with the native engine and PostgreSQL's driver, without a compiler and torch. Each RUN step can be
# run by hand.

FROM python:3.12-slim AS build
RUN apt-get update && apt-get install --yes --no-install-recommends g++
WORKDIR /src
COPY pyproject.toml constraints.txt CMakeLists.txt README.md LICENSE ./
COPY service service
COPY models models
RUN python -m venv /opt/venv
RUN /opt/venv/bin/pip install --no-cache-dir --constraint constraints.txt '.[postgres]'

FROM python:3.12-slim
COPY --from=build /opt/venv /opt/venv
COPY models /app/models
RUN useradd --system --uid 10001 --no-create-home spikehead
RUN install --directory --owner spikehead /var/lib/spikehead
USER spikehead
WORKDIR /app
ENV PATH=/opt/venv/bin:$PATH
ENV PYTHONUNBUFFERED=1
ENV SPIKEHEAD_HOST=0.0.0.0
ENV SPIKEHEAD_PORT=8000
ENV SPIKEHEAD_MODELS=/app/models
ENV SPIKEHEAD_LOG_FORMAT=json
ENV SPIKEHEAD_DATABASE_URL=sqlite:////var/lib/spikehead/records.db
VOLUME /var/lib/spikehead
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["spikehead", "health"]
CMD ["spikehead", "serve"]
