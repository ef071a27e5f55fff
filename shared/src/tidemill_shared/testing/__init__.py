"""The testing kit: a pytest plugin with real Redis and real S3 servers."""
