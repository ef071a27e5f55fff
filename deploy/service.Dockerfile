# One recipe for every service: docker build -f deploy/service.Dockerfile --build-arg SERVICE=serving .
FROM python:3.13-slim AS build
ARG SERVICE
ARG EXTRAS=
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock deploy/select_requirements.py ./
COPY contracts/pyproject.toml contracts/
COPY shared/pyproject.toml shared/
COPY services/${SERVICE}/pyproject.toml services/${SERVICE}/
# Only what this service needs, each with the digest the lock names. Dependencies come before the code, so that a
# change of code does not install them again.
RUN python -m venv /opt/tidemill \
 && python select_requirements.py ${SERVICE} ${EXTRAS} > selected.lock \
 && /opt/tidemill/bin/pip install --quiet --require-hashes --no-deps -r selected.lock
COPY contracts contracts
COPY shared shared
COPY services/${SERVICE} services/${SERVICE}
RUN /opt/tidemill/bin/pip install --quiet --no-deps --no-build-isolation ./contracts ./shared ./services/${SERVICE} \
 && /opt/tidemill/bin/pip uninstall --quiet --yes hatchling

FROM python:3.13-slim
ARG SERVICE
COPY --from=build /opt/tidemill /opt/tidemill
RUN groupadd --system --gid 10001 tidemill && useradd --system --uid 10001 --gid tidemill --no-create-home tidemill \
 && for d in redis redis-server store signing verification promotion operator http api \
      redis-ingestion redis-training redis-packaging redis-validation redis-serving redis-monitoring \
      redis-operator redis-producer redis-consumer; do \
      install -d -m 0750 -o tidemill -g tidemill /var/lib/tidemill/credentials/$d; done \
 && for d in redis store cache; do install -d -m 0750 -o tidemill -g tidemill /var/lib/tidemill/data/$d; done
ENV PATH=/opt/tidemill/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TIDEMILL_SERVICE=${SERVICE}
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["sh", "-c", "exec python -m tidemill_${TIDEMILL_SERVICE} \"$@\"", "--"]
