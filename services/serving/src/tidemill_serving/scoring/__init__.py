"""Batch scoring: a file in the bucket, row group by row group, in a child process of bounded memory."""
