"""Prefect flows over the DAG that dvc.yaml states."""
