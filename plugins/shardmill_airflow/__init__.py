"""What Shardmill brings to Airflow; besides the DAGs, the only package that imports it."""
