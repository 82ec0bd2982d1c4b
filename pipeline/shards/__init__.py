"""Versioned Parquet shards: tables, their writer and reader, and the content-keyed store of finished work."""
